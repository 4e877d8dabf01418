//! The end of a fault.

use memtrace_ebpf::{pte::Entry, record::FAULT_MM_GONE};

use crate::hooks::{
    fault::{
        address::{UNPLACED, place, walk},
        count::{Counted, compare_pages, count_by_kind, count_pre_exec, has_counted},
        emit::{send_fault, send_unobserved},
    },
    kernel::{Object, config, offset},
    paging::EntryCache,
    thread::{self, CLOSED, Thread},
    verifier::launder_scalar,
};

/// Where a fault is seen to be over. A constant in each hook, so that the verifier has only one way to follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// At the thread's next exception. There is room enough on the stack to look for a VMA that was not found once more.
    NextException,
    /// At the return of `handle_mm_fault`: the address space, the thread's or not, is there yet.
    HandlerReturn,
    /// At something else that the thread does.
    OtherHook,
}

/// Ends the thread's fault, if it has one, at the latest moment before `ts`. `signal` is what it ended in, `mm` the thread's
/// address space. Tells of what the kernel counted beside.
#[inline(always)]
pub(crate) fn close(
    thread: &mut Thread,
    task: Object,
    mm: Object,
    by: EndedBy,
    signal: u32,
    ts: u64,
    read: &mut EntryCache,
) {
    let mut counted = Counted::since_last(thread, task);
    if thread.open.state != CLOSED {
        let flags = thread.open.flags | counted.take_one();
        let (after, gone) = entry_after(thread, task, mm, by, read);
        let level = launder_scalar(after.level as u32, &mut thread.launder_scalar) as u8;
        let mut flags = launder_scalar(u32::from(flags | gone), &mut thread.launder_scalar) as u8;
        if by == EndedBy::NextException
            && flags & UNPLACED != 0
            && after.is_present()
            && thread.open.mm != thread.pre_exec_mm
        {
            // A page came, so there was a VMA: another thread was changing the tree when it was looked for.
            let (address, began) = (thread.open.address, thread.open.ts);
            flags = flags & !UNPLACED | place(thread, mm, address, began);
            thread.open.vma = thread.vma.serial;
        }
        flags |= compare_pages(thread, after, level);
        let flags = launder_scalar(u32::from(flags), &mut thread.launder_scalar) as u8;
        tell(thread, after.bits, level, flags, signal);
        thread.open.state = CLOSED;
    }
    if (counted.minor | counted.major) == 0 {
        return;
    }
    if thread.pre_exec_mm != 0 && mm.address() == thread.pre_exec_mm {
        count_pre_exec(thread, counted);
    } else {
        send_unobserved(thread, counted, ts);
    }
}

/// The page-table entry of the open fault now; and [`FAULT_MM_GONE`] if it can't be read any more.
#[inline(always)]
fn entry_after(
    thread: &mut Thread,
    task: Object,
    mm: Object,
    by: EndedBy,
    read: &mut EntryCache,
) -> (Entry, u8) {
    let (pgd, address) = (thread.open.pgd, thread.open.address);
    let here = by == EndedBy::HandlerReturn || mm.address() == thread.open.mm;
    let left = !here && by != EndedBy::NextException && lingers(thread, task, mm);
    let after = if here || left {
        walk(thread, pgd, address, read)
    } else {
        Entry::NONE
    };
    // Whoever else used the address space may have ended meanwhile, and its page tables with that.
    let still = here || left && lingers(thread, task, mm);
    (after, if still { 0 } else { FAULT_MM_GONE })
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

/// Sends the open fault, or counts it.
#[inline(always)]
fn tell(thread: &mut Thread, after: u64, level: u8, flags: u8, signal: u32) {
    if thread.open.mm == thread.pre_exec_mm {
        count_pre_exec(thread, Counted::of(flags));
    } else if config!(summary) == 0 || count_by_kind(thread, after, level, flags, signal) {
        send_fault(thread, after, level, flags, signal);
    }
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

/// The same, where the hook does nothing else. It is not to be interrupted by another.
#[inline(always)]
pub(crate) fn settle_only(thread: &'static mut Thread, task: Object, signal: u32, ts: u64) {
    thread.busy = 1;
    if let Some(thread) = settle(thread, task, signal, ts) {
        thread.busy = 0;
    }
}

/// Ends the current thread's fault, if it has one, and tells of what the kernel counted beside.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn end_fault(signal: u32, ts: u64) -> u32 {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return 0;
    };
    let mm = task.follow(offset!(task_mm));
    let read = &mut EntryCache::empty();
    close(thread, task, mm, EndedBy::OtherHook, signal, ts, read);
    0
}
