//! The processor's exceptions, by their tracepoints: where most faults begin.

use aya_ebpf::programs::RawTracePointContext;
use memtrace_ebpf::{
    arch,
    fault::error_code,
    record::{FAULT_DISABLED, FAULT_UNMAPPED},
};

use crate::hooks::{
    clock::now,
    fault::{
        address::place,
        begin::{FaultStart, open},
        count::{has_counted, is_over},
        end::{EndedBy, close},
    },
    kernel::{Object, config, is_typed, loads_directly, offset, read_member},
    paging::EntryCache,
    thread::{self, CLOSED, Thread},
    verifier::launder_scalar,
};

/// An exception.
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
    let own = u32::from(!is_typed() && !loads_directly());
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
    let error = launder_scalar(u32::from(error), &mut thread.launder_scalar) as u8;
    let disabled = launder_scalar(u32::from(disabled), &mut thread.launder_scalar) as u8;
    let ts = now();
    let mut read = EntryCache::empty();
    close(thread, task, mm, EndedBy::NextException, 0, ts, &mut read);
    let read = read.merged(&mut thread.launder_scalar);

    let flags = if arch::is_kernel(address) {
        FAULT_UNMAPPED
    } else if mm.address() == thread.pre_exec_mm {
        0
    } else {
        place(thread, mm, address, ts)
    };
    let flags = launder_scalar(u32::from(flags), &mut thread.launder_scalar) as u8;
    // A summary has no use for it.
    let ip: u64 = if config!(summary) == 0 {
        read_member(ctx.arg(1), offset!(regs_ip))
    } else {
        0
    };
    let began = FaultStart {
        ts,
        address,
        ip,
        access: error,
        told: true,
        flags,
    };
    open(thread, mm, &began, read);
    thread.open.flags |= disabled * FAULT_DISABLED;
    thread.busy = 0;
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
