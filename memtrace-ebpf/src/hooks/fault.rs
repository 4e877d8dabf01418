//! Page faults: from their entry to where they are seen to be over.
//!
//! With tracepoints alone nothing says when a fault ends. But the next thing that a thread does comes after: its next
//! fault, its next system call or the return from one, its end. There the page-table entry is read again. A thread
//! that does none of these is looked at by the tick.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, programs::RawTracePointContext};
use memtrace_ebpf::{
    arch,
    fault::{Backing, Facts, Kind as FaultKind, error_code, kind, vm},
    pte::{Entry, Level},
    record::{
        FAULT_FRESH, FAULT_GREW, FAULT_MAJOR, FAULT_MINOR, FAULT_MM_GONE, FAULT_UNMAPPED,
        FAULT_VMA_UNKNOWN, Fault, Frame, Handled, Header, Held, Kind, Seen, Unobserved,
        VMA_HAS_OPS, VMA_SHMEM,
    },
    syscall,
};

use crate::hooks::{
    cache, frame,
    kernel::{Object, config, forget, offset, plain, read_member},
    paging::{self, direct_map, entry},
    ring,
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
    if mm.is_null() || is_nested(thread, task) {
        return;
    }
    thread.busy = 1;
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
fn look_at(entry: u64, level: u32, address: u64) -> u64 {
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
    thread.open.state != CLOSED
        && task.load::<u32>(offset!(task_pagefault_disabled)) != 0
        && !is_over(thread, task)
}

/// Reads the page-table entry for an address of the thread's.
#[inline(always)]
fn walk(thread: &mut Thread, pgd: u64, address: u64, seen: &mut paging::Seen) -> Entry {
    let Some(map) = direct_map() else {
        return Entry::NONE;
    };
    if arch::is_kernel(address) {
        return Entry::NONE;
    }
    entry(map, pgd, address, &mut thread.table, seen)
}

/// Ends the thread's fault, if it has one, at the latest moment before `ts`. `signal` is what it ended in.
/// With `RETRY` a VMA that was not found is looked for again; with `HERE` its address space, the thread's or not, is known to
/// be there yet.
#[inline(always)]
pub(crate) fn close<const RETRY: bool, const HERE: bool>(
    thread: &mut Thread,
    task: Object,
    mm: Object,
    signal: u32,
    ts: u64,
    seen: &mut paging::Seen,
) {
    let (mut minor, mut major) = uncounted(thread, task);
    if thread.open.state != CLOSED {
        let mut flags = thread.open.flags;
        // One exception is one fault; the kernel counts it once, as major if it had to be retried.
        if major > 0 {
            major -= 1;
            flags |= FAULT_MAJOR;
        } else if minor > 0 {
            minor -= 1;
            flags |= FAULT_MINOR;
        }
        let address = thread.open.address;
        let pgd = thread.open.pgd;
        let after = if HERE || mm.address() == thread.open.mm {
            walk(thread, pgd, address, seen)
        } else {
            flags |= FAULT_MM_GONE;
            Entry::NONE
        };
        let level = forget(after.level as u32, &mut thread.merge) as u8;
        let mut flags = forget(u32::from(flags), &mut thread.merge) as u8;
        if RETRY
            && flags & UNPLACED != 0
            && after.is_present()
            && thread.open.mm != thread.hidden_mm
        {
            // A page came, so there was a VMA: another thread was changing the tree when it was looked for.
            let began = thread.open.ts;
            flags = flags & !UNPLACED | place(thread, mm, address, began);
            thread.open.vma = thread.vma.serial;
        }
        let ([present, all], [pages, all_pages]) = (thread.open.counts, thread.open.pages);
        if present != 0 {
            let grew = read_member::<u64>(present, 0) > pages;
            let fresh = read_member::<u64>(all, 0) > all_pages;
            flags |= (u8::from(grew) * FAULT_GREW) | (u8::from(fresh) * FAULT_FRESH);
        } else if thread.vma.flags & vm::HUGETLB != 0 {
            // The pool's pages that are nobody else's aren't in the mapping (hugetlb_no_page in mm/hugetlb.c), nor is the copy of
            // one that is there: then that is, too.
            let frame = (look_at(after.bits, u32::from(level), address) >> 32) as u32;
            let copied = cache::has_page(thread.vma.file, index_of(thread, address, level));
            let fresh = frame == Frame::Anonymous as u32 && copied == 0;
            flags |= u8::from(fresh) * FAULT_FRESH;
        }
        let flags = forget(u32::from(flags), &mut thread.merge) as u8;
        finish(thread, after.bits, level, flags, signal);
        thread.open.state = CLOSED;
    }
    if (minor | major) != 0 {
        unobserved(thread, mm, minor as u32, major as u32, ts);
    }
}

/// The place of a page of hugetlbfs's, whose entry is of this level, in the file (`vma_hugecache_offset` in `mm/hugetlb.c`).
#[inline(always)]
fn index_of(thread: &Thread, address: u64, level: u8) -> u64 {
    let index = ((address - thread.vma.start) >> 12) + thread.vma.pgoff;
    let order = (u32::from(level) * 9).wrapping_sub(9) & (u64::BITS - 1);
    index >> (order * config!(one_by_one))
}

/// What the kernel counted on the thread since the last time, minor and major.
#[inline(always)]
fn uncounted(thread: &mut Thread, task: Object) -> (u64, u64) {
    let min_flt: u64 = task.load(offset!(task_min_flt));
    let maj_flt: u64 = task.load(offset!(task_maj_flt));
    let new = (
        min_flt - thread.known.tally.min_flt,
        maj_flt - thread.known.tally.maj_flt,
    );
    thread.known.tally.min_flt = min_flt;
    thread.known.tally.maj_flt = maj_flt;
    new
}

/// Sends the open fault, or counts it.
#[inline(always)]
fn finish(thread: &mut Thread, after: u64, level: u8, flags: u8, signal: u32) {
    let open = &thread.open;
    let counted = flags & (FAULT_MINOR | FAULT_MAJOR) != 0;
    if open.mm == thread.hidden_mm {
        thread.hidden[usize::from(flags & FAULT_MAJOR != 0)] += u32::from(counted);
        return;
    }
    if config!(summary) != 0 {
        let cache = &thread.vma;
        let vma = cache.record_flags as u8;
        let before = Entry {
            bits: open.before,
            level: Level::from_number(open.level),
        };
        let zero = Some(u64::from(config!(zero_pfn)));
        let after = Entry {
            bits: after,
            level: Level::from_number(level),
        };
        let (old, new) = (before.pfn(open.address), after.pfn(open.address));
        let frames =
            u32::from(old == new) | u32::from(old == zero) << 1 | u32::from(new == zero) << 2;
        let frames = forget(frames, &mut thread.merge);
        let kind = kind(&Facts {
            error: open.error,
            before,
            after,
            same_frame: frames & 1 != 0,
            zero_before: frames & 2 != 0,
            zero_after: frames & 4 != 0,
            counted,
            major: flags & FAULT_MAJOR != 0,
            signal: signal != 0,
            backing: if flags & (FAULT_UNMAPPED | FAULT_VMA_UNKNOWN) == FAULT_VMA_UNKNOWN {
                Backing::Unknown
            } else {
                Backing::of(
                    cache.flags,
                    vma & VMA_HAS_OPS != 0,
                    cache.file != 0,
                    vma & VMA_SHMEM != 0,
                )
            },
            grew: flags & FAULT_GREW != 0,
            fresh: flags & FAULT_FRESH != 0,
            attended: flags & UNPLACED == 0 && cache.flags & vm::UFFD_MISSING != 0,
        });
        let kind = forget(kind as u32, &mut thread.merge) as usize;
        if let Some(count) = thread.known.tally.kinds.get_mut(kind) {
            *count += 1;
        }
        thread.known.tally.counted[usize::from(flags & FAULT_MAJOR != 0)] += u32::from(counted);
        // The accounts of forks need these.
        if kind != FaultKind::CowCopy as usize && kind != FaultKind::CowReuse as usize {
            return;
        }
    }
    let handled = config!(handled) != 0;
    let kind = if handled { Kind::Handled } else { Kind::Fault };
    let fault = Fault {
        head: Header {
            ts: open.ts,
            tid: thread.known.tid,
            kind: kind as u8,
            flags,
            a: open.level | level << 4,
            b: open.error,
        },
        address: open.address,
        ip: open.ip,
        before: open.before,
        after,
        vma: open.vma,
        signal,
        map_count: open.map_count,
        frame: open.frame,
    };
    if handled {
        let handled = Handled {
            fault,
            mm: open.mm,
            left: open.left,
            waited: open.waited,
            retries: open.retries,
            call: thread.call,
        };
        ring::send(kind, handled);
    } else {
        ring::send(kind, fault);
    }
}

/// Sends what the kernel counted without an exception.
#[inline(always)]
fn unobserved(thread: &mut Thread, mm: Object, minor: u32, major: u32, ts: u64) {
    if thread.hidden_mm != 0 && mm.address() == thread.hidden_mm {
        thread.hidden[0] += minor;
        thread.hidden[1] += major;
        return;
    }
    let head = thread.head(Kind::Unobserved, ts);
    ring::send(
        Kind::Unobserved,
        Unobserved {
            head,
            call: thread.call,
            minor,
            major,
            pad: 0,
        },
    );
}

/// The current thread has gone on to something else: its fault, if it has one, is over. `signal` is what it ended in. Gives the
/// thread's state anew, as another function has changed it.
#[inline(always)]
pub(crate) fn settle(
    thread: &'static mut Thread,
    task: Object,
    signal: u32,
    ts: u64,
) -> Option<&'static mut Thread> {
    if thread.open.state == CLOSED && !has_counted(thread, task) {
        return Some(thread);
    }
    end_fault(signal, ts);
    thread::find(task)
}

/// Ends the current thread's fault, if it has one, and tells of what the kernel counted beside.
///
/// A global function, which the verifier looks at once, and not in each state that a hook can have come to.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn end_fault(signal: u32, ts: u64) -> u32 {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return 0;
    };
    let mm = task.follow(offset!(task_mm));
    close::<false, false>(thread, task, mm, signal, ts, &mut paging::Seen::nothing());
    0
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

/// Whether the thread has a fault under way that is over: the kernel has counted one since the last was closed.
#[inline(always)]
pub(crate) fn is_over(thread: &Thread, task: Object) -> bool {
    thread.open.state != CLOSED && thread.open.inside == 0 && has_counted(thread, task)
}

/// Whether the kernel has counted faults on the thread that were not accounted for yet.
#[inline(always)]
fn has_counted(thread: &Thread, task: Object) -> bool {
    task.load::<u64>(offset!(task_min_flt)) != thread.known.tally.min_flt
        || task.load::<u64>(offset!(task_maj_flt)) != thread.known.tally.maj_flt
}

/// The call under way, for a thread that isn't in one any more.
pub(crate) const NO_CALL: u32 = syscall::NONE;
