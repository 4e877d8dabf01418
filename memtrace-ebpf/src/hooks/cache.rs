//! Whether a file has a page in its page cache: a walk of the tree that the cache is (`xas_load` in `lib/xarray.c`).

use crate::hooks::kernel::{offset, read_member};

/// Bits of the index that a node stands for (`XA_CHUNK_SHIFT` in `include/linux/xarray.h`, without `CONFIG_BASE_SMALL`).
const CHUNK_SHIFT: u32 = 6;
const CHUNK: u64 = 1 << CHUNK_SHIFT;
/// As many nodes as can lie above a page.
const DEPTH: u32 = u64::BITS.div_ceil(CHUNK_SHIFT);
/// Entries that are no page have these bits (`xa_is_internal`); of them those beyond this are nodes (`xa_is_node`).
const INTERNAL: u64 = 2;
const BITS: u64 = 3;
const NODES: u64 = 4096;
/// Entries below this lead to another slot of the node, where the page is that they are part of (`xa_is_sibling`).
const SIBLINGS: u64 = (CHUNK - 1) << 2 | INTERNAL;

/// 1 if the page with this index is there. What was swapped out or evicted is not.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn has_page(file: u64, index: u64) -> u32 {
    let mapping: u64 = read_member(file, offset!(file_mapping));
    let mut entry: u64 = read_member(mapping, offset!(mapping_first));
    // Of a tree without a node.
    let mut end = 1;
    for level in 0..DEPTH {
        if !is_node(entry) {
            break;
        }
        let node = entry - INTERNAL;
        let shift = u32::from(read_member::<u8>(node, offset!(xa_shift))) & (u64::BITS - 1);
        let slot = index >> shift;
        if level == 0 {
            end = u64::MAX;
            if slot >= CHUNK {
                return 0;
            }
        }
        entry = slot_of(node, slot);
        if entry & BITS == INTERNAL && entry < SIBLINGS {
            entry = slot_of(node, entry >> 2);
        }
    }
    u32::from(index < end && entry != 0 && entry & BITS == 0)
}

#[inline(always)]
fn is_node(entry: u64) -> bool {
    entry & BITS == INTERNAL && entry > NODES
}

#[inline(always)]
fn slot_of(node: u64, slot: u64) -> u64 {
    let at = (slot & (CHUNK - 1)) * 8;
    read_member(node + at, offset!(xa_slots))
}
