//! Tasks: names, ends, and leaving the CPU.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel_str, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use memtrace_ebpf::{
    layout::ABSENT,
    record::{Exit, Kind, Rename},
};

use crate::hooks::{
    clock::now,
    experiment,
    fault::{count::is_over, emit::pause, end::settle},
    gone,
    kernel::{Object, config, offset, read_member},
    returned, ring, thread,
};

/// `TASK_DEAD` (`include/linux/sched.h`)
const TASK_DEAD: u32 = 0x80;
/// SIGKILL's bit in the first word of a set of signals.
const SIGKILL: u64 = 1 << (9 - 1);

/// The current task, or another of its group, gets a name.
#[inline(always)]
pub(crate) fn rename(ctx: &RawTracePointContext) {
    let Some(thread) = thread::find_address(ctx.arg(0)) else {
        return;
    };
    let mut record = Rename {
        head: thread.head(Kind::Rename, now()),
        comm: [0; 16],
    };
    // SAFETY: the helper checks the address.
    unsafe {
        bpf_probe_read_kernel_str(
            record.comm.as_mut_ptr().cast(),
            16,
            ctx.arg::<*const u8>(1).cast(),
        );
    }
    thread.known.comm = record.comm;
    ring::send(Kind::Rename, record);
}

/// The current task begins to exit.
#[inline(always)]
pub(crate) fn exit() {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    thread.busy = 1;
    let ts = now();
    returned::send_pending(thread, 0);
    let Some(thread) = settle(thread, task, 0, ts) else {
        return;
    };
    ring::send(
        Kind::Exit,
        Exit {
            head: thread.head(Kind::Exit, ts),
            status: task.load(offset!(task_exit_code)),
            by_exec: by_exec(task),
        },
    );
    thread.busy = 0;
}

/// The thread whose exec ends this one, or 0.
///
/// An exec has all other threads of its process take a SIGKILL (`de_thread` in `fs/exec.c`), which they do without a status
/// (`get_signal` and `do_group_exit` in `kernel/signal.c` and `kernel/exit.c`). Where it still waits for this thread, that one
/// has ended before by itself.
#[inline(always)]
fn by_exec(task: Object) -> u32 {
    if offset!(signal_exec_task) == ABSENT || offset!(task_pending) == ABSENT {
        return 0;
    }
    let signal = task.follow(offset!(task_signal)).address();
    let execs: u64 = read_member(signal, offset!(signal_exec_task));
    if execs == 0 || execs == task.address() {
        return 0;
    }
    let pending: u64 = task.load(offset!(task_pending));
    let status: u32 = task.load(offset!(task_exit_code));
    if status != 0 || pending & SIGKILL != 0 {
        return 0;
    }
    // It waits for this one before it takes over the leader's id.
    read_member(execs, offset!(task_pid))
}

/// A task leaves its CPU, and another gets it.
#[inline(always)]
pub(crate) fn switch(ctx: &RawTracePointContext) {
    leave_cpu(ctx);
    returned::get_cpu(ctx.arg(2));
    if config!(detail) != 0 {
        experiment::runs(ctx);
    }
}

/// A task leaves its CPU; a dead one for good.
#[inline(always)]
fn leave_cpu(ctx: &RawTracePointContext) {
    // The task that leaves is the current one until the switch.
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    thread.busy = 1;
    let dead = task.load::<u32>(offset!(task_state)) == TASK_DEAD;
    let ts = now();
    returned::leave(thread, task);
    let thread = if dead || is_over(thread, task) {
        let Some(thread) = settle(thread, task, 0, ts) else {
            return;
        };
        thread
    } else {
        thread
    };
    if config!(detail) != 0 {
        experiment::rests(ctx, task, thread, ts);
    }
    if dead {
        debug!(ctx, "thread {} is gone", thread.known.tid);
        gone::tell(thread, ts);
        thread::remove(task);
    } else {
        pause(thread);
        thread.busy = 0;
    }
}
