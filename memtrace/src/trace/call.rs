//! System calls that change mappings, as events.

use std::sync::Arc;

use memtrace_ebpf::{record::Call, syscall};

use super::{
    event::{Address, Brk, By, Madvise, Mmap, Mprotect, Mremap, Range, Returned, What},
    names,
};

const MAX_ERRNO: i64 = 4095;
/// mmap's flag of memory that no file backs.
pub const MAP_ANONYMOUS: u64 = 0x20;

/// The event of a call. `file` is what the thread last mapped, for mmap.
pub fn event(call: &Call, file: Option<Arc<str>>) -> Option<What> {
    let [first, second, third, fourth, _, sixth] = call.args;
    let (addr, len, ret) = (Address(first), second, call.ret);
    Some(match call.number {
        syscall::MMAP => {
            let anonymous = fourth & MAP_ANONYMOUS != 0;
            let failed = is_error(ret);
            What::Mmap(Mmap {
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
        syscall::MUNMAP => What::Munmap(Range { addr, len, ret }),
        syscall::MPROTECT | syscall::PKEY_MPROTECT => What::Mprotect(Mprotect {
            addr,
            len,
            prot: names::prot(third),
            ret,
        }),
        syscall::BRK => What::Brk(Brk {
            old: Address(second),
            new: Address(ret as u64),
        }),
        syscall::MREMAP => What::Mremap(Mremap {
            addr,
            old_len: len,
            len: third,
            flags: names::mremap(fourth),
            ret: returned(ret),
        }),
        syscall::MADVISE => What::Madvise(Madvise {
            addr,
            len,
            advice: names::madvise(third & 0xffff_ffff),
            ret,
        }),
        _ => return None,
    })
}

/// Whether a call that returns an address failed (`IS_ERR_VALUE`).
pub fn is_error(ret: i64) -> bool {
    (-MAX_ERRNO..0).contains(&ret)
}

fn returned(ret: i64) -> Returned {
    if is_error(ret) {
        Returned::Error(ret)
    } else {
        Returned::Address(Address(ret as u64))
    }
}
