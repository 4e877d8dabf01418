//! System V shared memory: how much of it is attached.

use crate::hooks::{
    kernel::{offset, read_member},
    tree::{Lookup, find_at_or_above},
};

const PAGE: u64 = 4096;

/// Bytes that shmdt of this address will unmap; 0 where nothing begins there. That is what the segment has, not what the VMA
/// has: a part may have been unmapped or become a VMA of its own (`ksys_shmdt` in `ipc/shm.c`).
#[inline(always)]
pub(crate) fn attached_bytes(mm: u64, address: u64) -> u64 {
    let Lookup::Found(found) = find_at_or_above(mm, address) else {
        return 0;
    };
    if found.start != address || found.file == 0 {
        return 0;
    }
    let inode: u64 = read_member(found.file, offset!(file_inode));
    let bytes: u64 = read_member(inode, offset!(inode_size));
    bytes.wrapping_add(PAGE - 1) & !(PAGE - 1)
}
