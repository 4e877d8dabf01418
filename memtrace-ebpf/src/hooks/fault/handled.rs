//! `handle_mm_fault` (`mm/memory.c`), where its entry and its end can be hooked: the moment at which a fault is over, attempts
//! that the kernel has to repeat, and faults without an exception, as `get_user_pages` takes them.

use aya_ebpf::programs::{FEntryContext, FExitContext};
use memtrace_ebpf::{
    arch,
    fault::error_code,
    record::{FAULT_DISABLED, VmaReason},
};

use crate::hooks::{
    clock::now,
    fault::{
        address::UNPLACED,
        begin::{FaultStart, open},
        count::count_pages,
        end::{EndedBy, close},
    },
    kernel::{Object, config, offset, read_member},
    paging::EntryCache,
    thread::{self, CLOSED, Thread},
    verifier::launder_scalar,
    vma,
};

/// `handle_mm_fault(vma, address, flags, regs)` begins. Without `regs` there was no exception.
#[inline(always)]
pub(crate) fn enter(ctx: &FEntryContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    if thread.busy != 0 {
        return;
    }
    thread.busy = 1;
    let vma = Object::new(ctx.arg(0));
    let address: u64 = ctx.arg(1);
    let exception = ctx.arg::<u64>(3) != 0;
    let ts = now();
    let mm = vma.follow(offset!(vma_mm));
    // What was refused while page faults were disabled may be asked for without an exception (`fault_in_safe_writeable` in
    // `mm/gup.c`).
    let refused = thread.open.flags & FAULT_DISABLED != 0 && mm.address() == thread.open.mm;
    let goes_on = is_about(thread, address) && (refused || exception == is_exception(thread));
    let goes_on = launder_scalar(u32::from(goes_on), &mut thread.launder_scalar);
    let own = task.follow(offset!(task_mm));
    if goes_on == 0 {
        let read = &mut EntryCache::empty();
        close(thread, task, own, EndedBy::OtherHook, 0, ts, read);
    }
    if mm.address() != thread.pre_exec_mm {
        // The kernel has it already: no need to look for it.
        let reason = if mm.address() == own.address() {
            VmaReason::Fault
        } else {
            VmaReason::Elsewhere
        };
        // A stack's VMA has grown since the exception; it must be told of before the fault, whose time is that.
        let at = if goes_on != 0 { thread.open.ts } else { ts };
        vma::take(thread, mm, vma, at, reason);
    }
    if goes_on == 0 {
        begin(ctx, thread, task, mm, ts);
    } else if thread.open.flags & UNPLACED != 0 {
        place(thread);
    }
    thread.open.flags &= !FAULT_DISABLED;
    thread.open.entered = ts;
    thread.open.inside = 1;
    thread.busy = 0;
}

/// A fault begins that had no exception, or none that was seen.
#[inline(always)]
fn begin(ctx: &FEntryContext, thread: &mut Thread, task: Object, mm: Object, ts: u64) {
    let regs: u64 = ctx.arg(3);
    let exception = regs != 0;
    // A summary has no use for it.
    let ip = if config!(summary) != 0 {
        0
    } else if exception {
        read_member(regs, offset!(regs_ip))
    } else {
        task.registers().load(offset!(regs_ip))
    };
    let began = FaultStart {
        ts,
        address: ctx.arg(1),
        ip,
        access: access(ctx.arg(2), exception),
        told: false,
        flags: 0,
    };
    // What was walked last may have been another address space.
    thread.table.clear();
    open(thread, mm, &began, EntryCache::empty());
}

/// The fault under way, whose VMA was not found, is in that which the kernel has found.
#[inline(always)]
fn place(thread: &mut Thread) {
    thread.open.flags &= !UNPLACED;
    thread.open.vma = thread.vma.serial;
    thread.open.counts = thread.vma.counts;
    count_pages(thread);
}

/// Whether the thread has a fault under way at this address's page.
#[inline(always)]
fn is_about(thread: &Thread, address: u64) -> bool {
    thread.open.state != CLOSED && arch::page(thread.open.address) == arch::page(address)
}

/// Whether the fault that is under way began with an exception.
#[inline(always)]
fn is_exception(thread: &Thread) -> bool {
    thread.open.error & error_code::GUP == 0
}

/// What is accessed how.
#[inline(always)]
fn access(flags: u32, exception: bool) -> u8 {
    let bit = |told: bool, code: u8| u8::from(told) * code;
    let unshare = flags & offset!(fault_flag_unshare) != 0;
    let write = flags & offset!(fault_flag_write) != 0;
    bit(write || unshare, error_code::WRITE)
        | bit(flags & offset!(fault_flag_user) != 0, error_code::USER)
        | bit(
            flags & offset!(fault_flag_instruction) != 0,
            error_code::FETCH,
        )
        | bit(!exception, error_code::GUP)
        | bit(unshare, error_code::UNSHARE)
}

/// Whether a fault ended in an error: `VM_FAULT_ERROR` (`include/linux/mm_types.h`).
#[inline(always)]
fn is_error(came: u32) -> bool {
    let errors = offset!(vm_fault_oom)
        | offset!(vm_fault_sigbus)
        | offset!(vm_fault_sigsegv)
        | offset!(vm_fault_hwpoison)
        | offset!(vm_fault_hwpoison_large);
    came & errors != 0
}

/// `handle_mm_fault` returns.
#[inline(always)]
pub(crate) fn leave(ctx: &FExitContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    let address: u64 = ctx.arg(1);
    if thread.busy != 0 || thread.open.inside == 0 || !is_about(thread, address) {
        return;
    }
    thread.busy = 1;
    let ts = now();
    let came: u32 = ctx.arg(4);
    thread.open.inside = 0;
    thread.open.left = ts;
    if came & offset!(vm_fault_retry) != 0 {
        thread.open.retries += 1;
        thread.open.waited += ts - thread.open.entered;
    } else if !is_error(came) || !is_exception(thread) {
        // But after an error the signal is still to come, or the system call fails.
        let own = task.follow(offset!(task_mm));
        let read = &mut EntryCache::empty();
        close(thread, task, own, EndedBy::HandlerReturn, 0, ts, read);
        if !is_exception(thread) {
            thread.table.clear();
        }
    }
    thread.busy = 0;
}
