//! SIGSEGV and SIGBUS: what a fault may end in.

use aya_ebpf::programs::RawTracePointContext;
use memtrace_ebpf::{
    arch::{self, FAULT_TRACEPOINTS},
    record::FAULT_UNMAPPED,
};

use crate::hooks::{
    fault::{Began, now, open, place, settle},
    kernel::{Object, forget, offset, read_member},
    paging,
    thread::{self, CLOSED, Thread},
};

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;

/// A signal is sent: SIGSEGV and SIGBUS by the thread to itself end its fault (`force_sig_fault`).
#[inline(always)]
pub(crate) fn sent(ctx: &RawTracePointContext) {
    let number: i32 = ctx.arg(0);
    if number != SIGSEGV && number != SIGBUS {
        return;
    }
    let task = Object::current();
    if ctx.arg::<u64>(2) != task.address() {
        return;
    }
    let Some(thread) = thread::find(task) else {
        return;
    };
    if thread.busy != 0 {
        return;
    }
    let unseen = thread.open.state == CLOSED;
    if unseen && !(FAULT_TRACEPOINTS.is_empty() && is_refusal(ctx.arg(1))) {
        return;
    }
    thread.busy = 1;
    if unseen {
        let mm = task.follow(offset!(task_mm));
        begin_refused(thread, task, mm, ctx.arg(1));
    }
    if let Some(thread) = settle(thread, task, number as u32, now()) {
        thread.busy = 0;
    }
}

/// Whether a SIGSEGV says that an access was refused: `SEGV_MAPERR` or `SEGV_ACCERR`. Such a signal has a siginfo: the
/// pointer is none of `SEND_SIG_NOINFO` and `SEND_SIG_PRIV`, which can't be read.
#[inline(always)]
fn is_refusal(siginfo: u64) -> bool {
    matches!(read_member::<u32>(siginfo, offset!(siginfo_code)), 1 | 2)
}

/// A fault that the kernel has refused without handling it, where no tracepoint tells of an exception: it began a moment ago.
#[inline(always)]
fn begin_refused(thread: &mut Thread, task: Object, mm: Object, siginfo: u64) {
    let ts = now();
    let address: u64 = read_member(siginfo, offset!(siginfo_address));
    let flags = if arch::is_kernel(address) {
        FAULT_UNMAPPED
    } else {
        place(thread, mm, address, ts)
    };
    let began = Began {
        ts,
        address,
        ip: task.registers().load(offset!(regs_ip)),
        access: arch::access(task.load(offset!(task_fault_code))),
        told: false,
        flags: forget(u32::from(flags), &mut thread.merge) as u8,
    };
    open(thread, mm, &began, paging::Seen::nothing());
}
