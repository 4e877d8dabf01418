//! The end of page faults: where they are seen to be over.
//!
//! With tracepoints alone nothing says when a fault ends. But the next thing that a thread does comes after: its next
//! fault, its next system call or the return from one, its end. There the page-table entry is read again. A thread
//! that does none of these is looked at by the tick.

use memtrace_ebpf::{
    fault::{Kind as FaultKind, vm},
    pte::Entry,
    record::{
        FAULT_FRESH, FAULT_GREW, FAULT_MAJOR, FAULT_MINOR, FAULT_MM_GONE, Fault, Frame, Handled,
        Header, Kind, Unobserved,
    },
};

use crate::hooks::{
    cache,
    fault::{UNPLACED, look_at, place, walk},
    kernel::{Object, config, forget, offset, read_member},
    kind::open_kind,
    paging, ring,
    thread::{self, CLOSED, Thread},
};

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
        let here = HERE || mm.address() == thread.open.mm;
        let left = !here && !RETRY && lingers(thread, task, mm);
        let after = if here || left {
            walk(thread, pgd, address, seen)
        } else {
            Entry::NONE
        };
        // Whoever else used the address space may have ended meanwhile, and its page tables with that.
        let still = here || left && lingers(thread, task, mm);
        if !still {
            flags |= FAULT_MM_GONE;
        }
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

/// Whether the thread has left the address space of its fault, by its exit, but others use that yet. `exit_mm` in
/// `kernel/exit.c` clears the thread's id in user memory (`mm_release` in `kernel/fork.c`), which may fault, and then gives the
/// address space up, with no tracepoint in between; but until the task leaves its CPU that stays its `active_mm`, and so
/// allocated.
#[inline(always)]
fn lingers(thread: &Thread, task: Object, mm: Object) -> bool {
    let kept = task.follow(offset!(task_active_mm));
    mm.is_null() && kept.address() == thread.open.mm && kept.load::<u32>(offset!(mm_users)) != 0
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
        let kind = open_kind(after, u32::from(level), u32::from(flags), signal);
        let kind = forget(kind, &mut thread.merge) as usize;
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
        ring::send_common(kind, handled);
    } else {
        ring::send_common(kind, fault);
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

/// Whether the thread has a fault under way that is over: the kernel has counted one since the last was closed.
#[inline(always)]
pub(crate) fn is_over(thread: &Thread, task: Object) -> bool {
    thread.open.state != CLOSED && thread.open.inside == 0 && has_counted(thread, task)
}

/// Whether the kernel has counted faults on the thread that were not accounted for yet.
#[inline(always)]
pub(crate) fn has_counted(thread: &Thread, task: Object) -> bool {
    task.load::<u64>(offset!(task_min_flt)) != thread.known.tally.min_flt
        || task.load::<u64>(offset!(task_maj_flt)) != thread.known.tally.maj_flt
}
