//! The beginning of page faults. [`crate::hooks::settle`] has their end.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, programs::RawTracePointContext};
use memtrace_ebpf::{
    arch,
    fault::{error_code, vm},
    pte::{Entry, Level},
    record::{FAULT_DISABLED, FAULT_UNMAPPED, FAULT_VMA_UNKNOWN, Held, Kind, Seen},
    syscall,
};

use crate::hooks::{
    frame,
    kernel::{Object, config, forget, offset, plain, read_member},
    paging::{self, direct_map, entry},
    ring,
    settle::{close, has_counted, is_over},
    thread::{self, CLOSED, HELD, OPEN, Open, Thread},
    vma::{self, Place},
};

/// The VMA of a fault wasn't found.
pub(crate) const UNPLACED: u8 = FAULT_UNMAPPED | FAULT_VMA_UNKNOWN;

/// Now, in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no conditions.
    unsafe { bpf_ktime_get_ns() }
}

/// A fault begins.
#[inline(always)]
pub(crate) fn enter(ctx: &RawTracePointContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    let address: u64 = ctx.arg(0);
    let error = ctx.arg::<u64>(2) as u8 & error_code::EXCEPTION;
    // The kernel's faults on its own addresses are none of the task's; nor are those of a hook's own reads.
    if thread.busy != 0 || error & error_code::USER == 0 && arch::is_kernel(address) {
        return;
    }
    let mm = task.follow(offset!(task_mm));
    // The helper that reads it where the verifier doesn't know a task's type disables them itself (copy_from_kernel_nofault
    // in mm/maccess.c).
    let own = u32::from(config!(typed) == 0);
    let disabled = task.load::<u32>(offset!(task_pagefault_disabled)) > own;
    if mm.is_null() || disabled && is_nested(thread, task) {
        return;
    }
    if error & error_code::USER == 0 && is_retried(thread, task, mm, address) {
        thread.open.error = error;
        thread.open.flags &= !(u8::from(!disabled) * FAULT_DISABLED);
        return;
    }
    thread.busy = 1;
    let error = forget(u32::from(error), &mut thread.merge) as u8;
    let disabled = forget(u32::from(disabled), &mut thread.merge) as u8;
    let ts = now();
    let mut seen = paging::Seen::nothing();
    close::<true, false>(thread, task, mm, 0, ts, &mut seen);
    let seen = seen.merged(&mut thread.merge);

    let flags = if arch::is_kernel(address) {
        FAULT_UNMAPPED
    } else if mm.address() == thread.hidden_mm {
        0
    } else {
        place(thread, mm, address, ts)
    };
    let flags = forget(u32::from(flags), &mut thread.merge) as u8;
    // A summary has no use for it.
    let ip: u64 = if config!(summary) != 0 {
        0
    } else if error & error_code::USER != 0 {
        task.registers().load(offset!(regs_ip))
    } else {
        read_member(ctx.arg(1), offset!(regs_ip))
    };
    let began = Began {
        ts,
        address,
        ip,
        access: error,
        told: true,
        flags,
    };
    open(thread, mm, &began, seen);
    thread.open.flags |= disabled * FAULT_DISABLED;
    thread.busy = 0;
}

/// What is known of a fault that begins.
pub(crate) struct Began {
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
pub(crate) fn open(thread: &mut Thread, mm: Object, began: &Began, mut seen: paging::Seen) {
    let &Began {
        ts,
        address,
        ip,
        access,
        told,
        flags,
    } = began;
    let pgd = plain(mm.follow(offset!(mm_pgd)), &mut thread.number);
    let before = walk(thread, pgd, address, &mut seen);
    let error = access | u8::from(!told) & arch::present(before.bits) as u8;
    let counts = if flags == 0 {
        thread.vma.counts
    } else {
        [0; 2]
    };
    let level = forget(before.level as u32, &mut thread.merge);
    let look = is_protected_write(error, before.bits, level)
        & u32::from(config!(look) != 0 || !is_plain(thread));
    let page = if forget(look, &mut thread.merge) != 0 {
        look_at(before.bits, level, address)
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

/// Notes how many pages there are of the shared memory or shared file that the fault is in.
#[inline(always)]
pub(crate) fn count_pages(thread: &mut Thread) {
    let [present, all] = thread.open.counts;
    if present != 0 {
        thread.open.pages = [read_member(present, 0), read_member(all, 0)];
    }
}

/// What is said of the frame that this entry of the level maps for the address: [`frame::look_at`].
#[inline(always)]
pub(crate) fn look_at(entry: u64, level: u32, address: u64) -> u64 {
    // Of a huge page the part at the address; its entry has other bits below the frame.
    let inside = u64::from(level >> 1) * 511;
    frame::look_at((entry & arch::FRAME) >> 12 & !inside | address >> 12 & inside)
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

/// Finds the VMA of a fault: the flags that say how that went.
#[inline(always)]
pub(crate) fn place(thread: &mut Thread, mm: Object, address: u64, ts: u64) -> u8 {
    match vma::locate(thread, mm, address, ts, Seen::Fault) {
        Place::Mapped => 0,
        Place::Unmapped => FAULT_UNMAPPED,
        Place::Unknown => FAULT_VMA_UNKNOWN,
    }
}

/// Whether the kernel is in the middle of the thread's open fault, and only peeks at user memory with page faults disabled:
/// it does so to print the code around an instruction that is about to get a SIGSEGV (`show_signal_msg` in
/// `arch/x86/mm/fault.c`). Such a fault is never handled, and is no end of the one under way.
#[inline(always)]
fn is_nested(thread: &Thread, task: Object) -> bool {
    thread.open.state != CLOSED && thread.open.flags & FAULT_DISABLED == 0 && !is_over(thread, task)
}

/// Whether the thread's open fault came while page faults were disabled, was refused for that, and this one on the same page is
/// the kernel's next try: read(2), write(2) and futex(2) copy so first, holding locks, and have the page brought in by
/// `fault_in_readable` and the like if that fails (`generic_perform_write` in `mm/filemap.c`).
#[inline(always)]
fn is_retried(thread: &Thread, task: Object, mm: Object, address: u64) -> bool {
    thread.open.state != CLOSED
        && thread.open.flags & FAULT_DISABLED != 0
        && thread.open.mm == mm.address()
        && arch::page(thread.open.address) == arch::page(address)
        && !has_counted(thread, task)
}

/// Reads the page-table entry for an address of the thread's.
#[inline(always)]
pub(crate) fn walk(thread: &mut Thread, pgd: u64, address: u64, seen: &mut paging::Seen) -> Entry {
    let Some(map) = direct_map() else {
        return Entry::NONE;
    };
    if arch::is_kernel(address) {
        return Entry::NONE;
    }
    entry(map, pgd, address, &mut thread.table, seen)
}

/// The thread leaves its CPU. If that is in the middle of a fault, the reader must know.
#[inline(always)]
pub(crate) fn pause(thread: &mut Thread) {
    if thread.open.state == OPEN && config!(summary) == 0 && thread.open.mm != thread.hidden_mm {
        thread.open.state = HELD;
        let head = thread.head(Kind::Held, thread.open.ts);
        ring::send(Kind::Held, Held { head });
    }
}

/// The call under way, for a thread that isn't in one any more.
pub(crate) const NO_CALL: u32 = syscall::NONE;
