//! The beginning of a fault: what is noted of it in its thread's state.

use memtrace_ebpf::{
    arch,
    fault::{error_code, vm},
    pte::Level,
};

use crate::hooks::{
    fault::{
        address::{frame_use, walk},
        count::count_pages,
    },
    kernel::{Object, config, offset},
    paging::EntryCache,
    thread::{OPEN, Open, Thread},
    verifier::{launder_ptr, launder_scalar},
};

/// What is known of a fault that begins.
pub(crate) struct FaultStart {
    pub(crate) ts: u64,
    pub(crate) address: u64,
    pub(crate) ip: u64,
    /// How memory was accessed: bits of [`error_code`]; and whether they tell that a page was there.
    pub(crate) access: u8,
    pub(crate) told: bool,
    pub(crate) flags: u8,
}

/// Notes a fault that begins, and what is in the page table now. If a VMA was found it is in the thread's cache.
#[inline(always)]
pub(crate) fn open(thread: &mut Thread, mm: Object, began: &FaultStart, mut read: EntryCache) {
    let &FaultStart {
        ts,
        address,
        ip,
        access,
        told,
        flags,
    } = began;
    let pgd = launder_ptr(mm.follow(offset!(mm_pgd)), &mut thread.launder_ptr);
    let before = walk(thread, pgd, address, &mut read);
    let error = access | u8::from(!told) & arch::present(before.bits) as u8;
    let counts = if flags == 0 {
        thread.vma.counts
    } else {
        [0; 2]
    };
    let level = launder_scalar(before.level as u32, &mut thread.launder_scalar);
    let read_frames = is_protected_write(error, before.bits, level)
        & u32::from(config!(read_frames) != 0 || !is_plain(thread));
    let page = if launder_scalar(read_frames, &mut thread.launder_scalar) != 0 {
        frame_use(before.bits, level, address)
    } else {
        0
    };
    thread.open = Open {
        state: OPEN,
        vma: thread.vma.serial,
        ts,
        address,
        ip,
        mm: mm.address(),
        pgd,
        before: before.bits,
        level: level as u8,
        error,
        flags,
        inside: 0,
        pad: [0; 4],
        counts,
        pages: [0; 2],
        map_count: page as u32,
        frame: (page >> 32) as u32,
        entered: 0,
        left: 0,
        waited: 0,
        retries: 0,
        pad_2: 0,
    };
    count_pages(thread);
}

/// 1 for a write to a page (of 2 MiB at the most) that is there and may not be written: what copy-on-write is about.
/// Without a branch.
#[inline(always)]
fn is_protected_write(error: u8, entry: u64, level: u32) -> u32 {
    const _: () = assert!(error_code::PRESENT == 1 && error_code::WRITE == 2);
    const _: () = assert!(Level::Pte as u32 == 1 && Level::Pmd as u32 == 2);
    let looked_at = level.wrapping_sub(3) >> 31;
    u32::from(error & error >> 1) & arch::present(entry) as u32 & looked_at
}

/// Whether all pages in the VMA of the fault are anonymous, and none is KSM's. Without a branch.
#[inline(always)]
fn is_plain(thread: &Thread) -> bool {
    (thread.vma.file | thread.vma.flags & vm::MERGEABLE) == 0
}
