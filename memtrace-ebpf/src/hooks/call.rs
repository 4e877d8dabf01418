//! System calls: the end of a thread's fault, and changes of mappings.

use aya_ebpf::programs::RawTracePointContext;
use memtrace_ebpf::{
    arch,
    record::{Call, Kind, Seen},
    syscall,
};

use crate::hooks::{
    fault::{NO_CALL, now},
    kernel::{Object, config, offset},
    returned, ring,
    settle::settle,
    task::objects,
    thread::{self, CLOSED, Thread},
    vma,
};

/// `MAP_FIXED`
const FIXED: u64 = 0x10;
/// `MAP_ANONYMOUS`
const ANONYMOUS: u64 = 0x20;
/// The highest errno.
const MAX_ERRNO: i64 = 4095;

/// A system call begins.
#[inline(always)]
pub(crate) fn enter(ctx: &RawTracePointContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    thread.busy = 1;
    returned::pay(thread, 0);
    let thread = if thread.open.state == CLOSED {
        thread
    } else {
        let Some(thread) = settle(thread, task, 0, now()) else {
            return;
        };
        thread
    };
    let number: u64 = ctx.arg(1);
    let compat = task.load::<u32>(offset!(task_compat)) & arch::COMPAT != 0;
    thread.call = if compat { NO_CALL - 1 } else { number as u32 };
    if syscall::makes_task(thread.call) {
        thread.began = now();
        thread.hooked = 0;
        thread.child = 0;
    }
    // What a birth needs to know where the child's stack is.
    if thread.call == syscall::CLONE || thread.call == syscall::CLONE3 {
        let regs = task.registers();
        thread.args[0] = regs.load(offset!(regs_arg_0));
        thread.args[1] = regs.load(offset!(regs_arg_1));
    }
    if syscall::changes_mappings(thread.call) {
        let regs = task.registers();
        thread.args = [
            regs.load(offset!(regs_arg_0)),
            regs.load(offset!(regs_arg_1)),
            regs.load(offset!(regs_arg_2)),
            regs.load(offset!(regs_arg_3)),
            regs.load(offset!(regs_arg_4)),
            regs.load(offset!(regs_arg_5)),
        ];
        if thread.call == syscall::BRK {
            thread.args[1] = task.follow(offset!(task_mm)).load(offset!(mm_brk));
        }
    }
    thread.busy = 0;
}

/// A system call returns.
#[inline(always)]
pub(crate) fn exit(ctx: &RawTracePointContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    thread.busy = 1;
    let ts = now();
    let Some(thread) = settle(thread, task, 0, ts) else {
        return;
    };
    let mm = task.follow(offset!(task_mm));
    let ret: i64 = ctx.arg(1);
    if syscall::changes_mappings(thread.call)
        && mm.address() != thread.hidden_mm
        && (config!(summary) == 0 || takes_away(thread, ret))
    {
        if thread.call == syscall::MMAP
            && thread.args[3] & ANONYMOUS == 0
            && !(-MAX_ERRNO..0).contains(&ret)
        {
            // So that user space knows the file, and which files are programs' code.
            vma::locate(thread, mm, ret as u64, ts, Seen::Call);
        }
        ring::send(
            Kind::Call,
            Call {
                head: thread.head(Kind::Call, ts),
                number: thread.call,
                pad: 0,
                args: thread.args,
                ret,
            },
        );
    }
    if syscall::makes_task(thread.call) {
        returned::end(thread, task, ctx.arg(1), ts);
    }
    if syscall::changes_objects(thread.call) && ctx.arg::<i64>(1) == 0 {
        objects(thread, task, thread.call, ts);
    }
    thread.call = NO_CALL;
    thread.busy = 0;
}

/// With `--summary`: whether the call may have taken pages away that a fork had left shared.
#[inline(always)]
fn takes_away(thread: &Thread, ret: i64) -> bool {
    match thread.call {
        // Or has mapped a program's or a library's file: by that its BSS is known.
        syscall::MMAP => thread.args[3] & FIXED != 0 || thread.args[3] & ANONYMOUS == 0,
        syscall::BRK => (ret as u64) < thread.args[1],
        syscall::MUNMAP | syscall::MREMAP | syscall::MADVISE => true,
        _ => false,
    }
}
