//! Calls that give pages up, move them, or leave them in a state that nobody knows.

use std::ops::Range;

use memtrace_ebpf::{pte::PAGE_SIZE, record::Call, syscall};

use super::{Model, PAGE_SHIFT, Thread};
use crate::trace::call::{self, MAP_FIXED};

const MADV_DONTNEED: u64 = 4;
const MADV_DONTNEED_LOCKED: u64 = 24;
const MADV_COLLAPSE: u64 = 25;
const MADV_GUARD_INSTALL: u64 = 102;
/// Bytes of the pages that it makes.
const LARGE_PAGE: u64 = 512 * PAGE_SIZE;
const MREMAP_DONTUNMAP: u64 = 4;
const SHM_REMAP: u64 = 0o40000;
const ENOMEM: i64 = 12;
const EINVAL: i64 = 22;

impl Model {
    /// The thread whose memory a `process_madvise` is about, or one that shares it.
    pub(super) fn advised(&self, record: &Call) -> Option<&Thread> {
        let target = record.args[3] as u32;
        if record.number != syscall::PROCESS_MADVISE || target == 0 {
            return None;
        }
        let of_process = || self.threads.values().find(|thread| thread.pid == target);
        self.threads.get(&target).or_else(of_process)
    }

    /// A call that changes mappings has returned.
    pub(super) fn memory_call(&mut self, tid: u32, record: &Call) {
        let thread = match record.number {
            syscall::PROCESS_MADVISE => self.advised(record),
            _ => self.threads.get(&tid),
        };
        let Some(mm) = thread.map(|thread| thread.mm) else {
            return;
        };
        let Some(mm) = self.mms.get_mut(&mm) else {
            return;
        };
        let number = mm.number;
        Self::unmapped(&mut mm.bss, record);
        let [address, len, third, fourth, ..] = record.args;
        let ret = record.ret;
        match record.number {
            syscall::BRK => {
                mm.bounds.brk = ret as u64;
                self.gave_up(number, page_end(ret as u64)..len);
            }
            syscall::MUNMAP | syscall::SHMDT if ret == 0 => {
                self.gave_up(number, range(address, len));
            }
            syscall::MMAP if !call::is_error(ret) && fourth & MAP_FIXED != 0 => {
                self.gave_up(number, range(address, len));
            }
            syscall::SHMAT if !call::is_error(ret) && third & SHM_REMAP != 0 => {
                self.gave_up(number, range(ret as u64, fourth));
            }
            syscall::MADVISE | syscall::PROCESS_MADVISE
                if [MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL]
                    .contains(&(third & 0xffff_ffff)) =>
            {
                // Holes are passed over, and then ENOMEM.
                if ret == 0 || ret == -ENOMEM {
                    self.gave_up(number, range(address, len));
                } else if address.is_multiple_of(PAGE_SIZE) {
                    // It goes from VMA to VMA, and ends at the first that it may not change (`madvise_walk_vmas` in
                    // `mm/madvise.c`).
                    self.unsure(number, range(address, len));
                }
            }
            // Each page is copied to a large one, or is there no more (`collapse_huge_page` in `mm/khugepaged.c`).
            syscall::MADVISE | syscall::PROCESS_MADVISE
                if third & 0xffff_ffff == MADV_COLLAPSE && ret != -EINVAL =>
            {
                let first = address.div_ceil(LARGE_PAGE).saturating_mul(LARGE_PAGE);
                self.unsure(number, first..range(address, len).end & !(LARGE_PAGE - 1));
            }
            syscall::MREMAP if !call::is_error(ret) => {
                let new = ret as u64;
                let kept = page_end(len.min(third));
                if new != address {
                    // A fixed place may have been in use.
                    self.gave_up(number, range(new, third));
                    let moved = if fourth & MREMAP_DONTUNMAP != 0 {
                        len
                    } else {
                        kept
                    };
                    let from = pages(&range(address, moved));
                    self.sharing.moved(number, &from, new >> PAGE_SHIFT);
                }
                if third < len {
                    // What is cut off.
                    self.gave_up(
                        number,
                        address.saturating_add(kept)..address.saturating_add(len),
                    );
                }
            }
            _ => {}
        }
    }

    fn unsure(&mut self, mm: u32, bytes: Range<u64>) {
        if mm != 0 && bytes.start < bytes.end {
            self.sharing.unsure(mm, &pages(&bytes));
        }
    }

    fn gave_up(&mut self, mm: u32, bytes: Range<u64>) {
        if mm != 0 && bytes.start < bytes.end {
            self.sharing.gave_up(mm, &pages(&bytes));
        }
    }
}

/// Bytes from an address on.
pub(super) fn range(address: u64, len: u64) -> Range<u64> {
    address..address.saturating_add(len)
}

/// Where the page ends that an address is in, or is the end of.
pub(super) fn page_end(address: u64) -> u64 {
    address
        .checked_next_multiple_of(PAGE_SIZE)
        .unwrap_or(u64::MAX)
}

/// The pages that these bytes touch: all that a call on them is about.
fn pages(bytes: &Range<u64>) -> Range<u64> {
    bytes.start >> PAGE_SHIFT..bytes.end.div_ceil(PAGE_SIZE)
}
