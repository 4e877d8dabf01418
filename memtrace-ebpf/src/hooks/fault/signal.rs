//! SIGSEGV and SIGBUS: what a fault may end in.

use aya_ebpf::programs::RawTracePointContext;
use memtrace_ebpf::{
    arch::{self, FAULT_TRACEPOINTS},
    record::FAULT_UNMAPPED,
    syscall,
};

use crate::hooks::{
    clock::now,
    fault::{
        address::place,
        begin::{FaultStart, open},
        count::{has_counted, is_over},
        end::settle_only,
    },
    kernel::{Object, offset, read_member},
    paging::EntryCache,
    thread::{self, CLOSED, Thread},
    verifier::launder_scalar,
};

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;

/// The signals that a page fault ends in, with their reasons (`include/uapi/asm-generic/siginfo.h`): nothing is mapped
/// there, it isn't allowed, or not by a protection key; there is no page to be had, or it is broken. A general protection fault,
/// an alignment check, an exec that can't go back and other tasks send the same signals for reasons of their own.
const MAPERR: u32 = 1;
const ACCERR: u32 = 2;
const PKUERR: u32 = 4;
const ADRERR: u32 = 2;
const MCEERR_AR: u32 = 4;

/// A signal is sent: SIGSEGV and SIGBUS by the thread to itself end its fault (`force_sig_fault`), if they say that they are
/// about its page. The kernel counts no fault that ends so (`mm_account_fault` in `mm/memory.c`): one that it has counted is over.
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
    let siginfo: u64 = ctx.arg(1);
    if thread.busy != 0 || !is_of_fault(number, siginfo) {
        return;
    }
    let address: u64 = read_member(siginfo, offset!(siginfo_address));
    let unseen = thread.open.state == CLOSED;
    if unseen {
        // A task can send itself whatever it likes by rt_sigqueueinfo(2); no system call ends in a fault's signal.
        if !FAULT_TRACEPOINTS.is_empty() || number != SIGSEGV || thread.call != syscall::NONE {
            return;
        }
    } else if arch::page(address) != arch::page(thread.open.address) || has_counted(thread, task) {
        return;
    }
    if unseen {
        thread.busy = 1;
        let mm = task.follow(offset!(task_mm));
        begin_refused(thread, task, mm, address);
    }
    settle_only(thread, task, number as u32, now());
}

/// The current task sees to a signal, which may end it. A fault that it took before is over, and its address space still there:
/// until 6.16 the hook on the end of a task comes after that (`do_exit` in `kernel/exit.c`), and between a trap and that end there is
/// no other.
#[inline(always)]
pub(crate) fn delivered() {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    if thread.busy != 0 || !is_over(thread, task) {
        return;
    }
    settle_only(thread, task, 0, now());
}

/// Whether the signal says that it is of a page fault. `SEND_SIG_NOINFO` and `SEND_SIG_PRIV` are in place of a pointer, can't be
/// read, and so say nothing.
#[inline(always)]
fn is_of_fault(number: i32, siginfo: u64) -> bool {
    let code: u32 = read_member(siginfo, offset!(siginfo_code));
    if number == SIGSEGV {
        matches!(code, MAPERR | ACCERR | PKUERR)
    } else {
        matches!(code, ADRERR | MCEERR_AR)
    }
}

/// A fault that the kernel has refused without handling it, where no tracepoint tells of an exception: it began a moment ago.
#[inline(always)]
fn begin_refused(thread: &mut Thread, task: Object, mm: Object, address: u64) {
    let ts = now();
    let flags = if arch::is_kernel(address) {
        FAULT_UNMAPPED
    } else {
        place(thread, mm, address, ts)
    };
    let began = FaultStart {
        ts,
        address,
        ip: task.registers().load(offset!(regs_ip)),
        access: arch::access(task.load(offset!(task_fault_code))),
        told: false,
        flags: launder_scalar(u32::from(flags), &mut thread.launder_scalar) as u8,
    };
    open(thread, mm, &began, EntryCache::empty());
}
