//! System calls that change mappings, as events.

use std::sync::Arc;

pub use memtrace_ebpf::syscall::is_error;
use memtrace_ebpf::{pte::PAGE_SIZE, record::Call, syscall};

use super::{
    event::{
        Address, Brk, By, EventKind, Lock, Madvise, Mmap, Mprotect, Mremap, Range, RemapFilePages,
        Returned, Shmat, Shmdt,
    },
    names,
};

/// mmap's flag of memory that no file backs.
pub const MAP_ANONYMOUS: u64 = 0x20;
/// mmap's flag of memory that takes the place of what is there.
pub const MAP_FIXED: u64 = 0x10;

/// The event of a call. `file` is what the thread last mapped, for mmap; `process` whose memory it is, for `process_madvise`.
pub fn event(call: &Call, file: Option<Arc<str>>, process: Option<u32>) -> Option<EventKind> {
    let [first, second, third, fourth, fifth, sixth] = call.args;
    let (addr, len, ret) = (Address(first), second, call.ret);
    Some(match call.number {
        syscall::MMAP => {
            let anonymous = fourth & MAP_ANONYMOUS != 0;
            let failed = is_error(ret);
            EventKind::Mmap(Mmap {
                addr: if failed { addr } else { Address(ret as u64) },
                len,
                prot: names::prot(third),
                flags: names::map(fourth),
                file: file.filter(|_| !anonymous && !failed),
                offset: (!anonymous).then_some(sixth),
                ret: returned(ret),
                by: By::Call,
                region: None,
                resident: None,
                private: None,
            })
        }
        syscall::MUNMAP => EventKind::Munmap(Range { addr, len, ret }),
        syscall::MPROTECT | syscall::PKEY_MPROTECT => {
            let keyed = call.number == syscall::PKEY_MPROTECT;
            EventKind::Mprotect(Mprotect {
                addr,
                len,
                prot: names::prot(third),
                call: keyed.then(|| names::call(call.number).into()),
                pkey: keyed.then_some(fourth as i32),
                ret,
            })
        }
        syscall::BRK => EventKind::Brk(Brk {
            old: Address(second),
            new: Address(ret as u64),
        }),
        syscall::MREMAP => EventKind::Mremap(Mremap {
            addr,
            old_len: len,
            len: third,
            flags: names::mremap(fourth),
            ret: returned(ret),
        }),
        syscall::MADVISE | syscall::PROCESS_MADVISE => EventKind::Madvise(Madvise {
            addr,
            len,
            advice: names::madvise(third & 0xffff_ffff),
            call: (call.number == syscall::PROCESS_MADVISE)
                .then(|| names::call(call.number).into()),
            process,
            ret,
        }),
        syscall::SHMAT => EventKind::Shmat(Shmat {
            addr: if is_error(ret) {
                Address(second)
            } else {
                Address(ret as u64)
            },
            len: known(fourth),
            id: first as i32,
            flags: names::shmat(third & 0xffff_ffff),
            ret: returned(ret),
        }),
        syscall::SHMDT => EventKind::Shmdt(Shmdt {
            addr,
            len: known(len),
            ret,
        }),
        syscall::REMAP_FILE_PAGES => EventKind::RemapFilePages(RemapFilePages {
            addr,
            len,
            offset: fourth.wrapping_mul(PAGE_SIZE),
            flags: names::remap_file_pages(fifth),
            ret,
        }),
        syscall::MLOCK => EventKind::Mlock(lock(call, Vec::new())),
        syscall::MLOCK2 => EventKind::Mlock(lock(call, names::mlock(third & 0xffff_ffff))),
        syscall::MLOCKALL => EventKind::Mlock(lock_all(call, names::mlockall(first & 0xffff_ffff))),
        syscall::MUNLOCK => EventKind::Munlock(lock(call, Vec::new())),
        syscall::MUNLOCKALL => EventKind::Munlock(lock_all(call, Vec::new())),
        syscall::MSEAL => EventKind::Mseal(Range { addr, len, ret }),
        _ => return None,
    })
}

/// mlock, mlock2 or munlock.
fn lock(call: &Call, flags: Vec<Arc<str>>) -> Lock {
    let [addr, len, ..] = call.args;
    Lock {
        addr: Some(Address(addr)),
        len: Some(len),
        ..lock_all(call, flags)
    }
}

/// mlockall or munlockall.
fn lock_all(call: &Call, flags: Vec<Arc<str>>) -> Lock {
    Lock {
        call: names::call(call.number).into(),
        addr: None,
        len: None,
        flags,
        ret: call.ret,
    }
}

/// Bytes, where they are known.
fn known(len: u64) -> Option<u64> {
    (len != 0).then_some(len)
}

fn returned(ret: i64) -> Returned {
    if is_error(ret) {
        Returned::Error(ret)
    } else {
        Returned::Address(Address(ret as u64))
    }
}
