//! What the lab alone asks for: how a task came to be, and when which thread has a CPU.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_stack, programs::RawTracePointContext,
};
use memtrace_ebpf::record::{BirthDetail, CALLERS, Kind, SWITCH_OUT_RUNNABLE, SwitchIn, SwitchOut};

use crate::hooks::{
    clock::now,
    kernel::{Object, offset, read_member},
    ring,
    thread::{self, Thread},
};

/// The current task has made a child, at the time `ts` of its birth's record.
#[inline(always)]
pub(crate) fn born(ctx: &RawTracePointContext, parent: Object, child: u64, ts: u64) {
    ring::send_filled(Kind::BirthDetail, |record: &mut BirthDetail| {
        record.head = ring::head(Kind::BirthDetail, parent.load(offset!(task_pid)), ts);
        record.child_tid = read_member(child, offset!(task_pid));
        record.tasks = [parent.address(), child];
        record.stacks = record
            .tasks
            .map(|task| read_member(task, offset!(task_stack)));
        // SAFETY: the memory is the record's, of that size.
        let written = unsafe {
            bpf_get_stack(
                ctx.as_ptr(),
                (&raw mut record.callers).cast(),
                size_of::<[u64; CALLERS]>() as u32,
                0,
            )
        };
        record.depth = if written < 0 { 0 } else { written as u32 / 8 };
    });
}

/// The thread leaves its CPU at `ts`.
#[inline(always)]
pub(crate) fn rests(ctx: &RawTracePointContext, task: Object, thread: &Thread, ts: u64) {
    let preempted: u64 = ctx.arg(0);
    // The tracepoint gives the state, too, but from 5.18 on only. Nobody makes the task runnable before the switch is over
    // (try_to_wake_up in kernel/sched/core.c waits for on_cpu).
    let state: u32 = task.load(offset!(task_state));
    let mut head = thread.head(Kind::SwitchOut, ts);
    head.flags = u8::from(preempted & 1 != 0 || state == 0) * SWITCH_OUT_RUNNABLE;
    ring::send(Kind::SwitchOut, SwitchOut { head });
}

/// A traced thread gets the CPU.
#[inline(always)]
pub(crate) fn runs(ctx: &RawTracePointContext) {
    let task: u64 = ctx.arg(2);
    let Some(thread) = thread::find_address(task) else {
        return;
    };
    ring::send(
        Kind::SwitchIn,
        SwitchIn {
            head: thread.head(Kind::SwitchIn, now()),
            task,
            stack: read_member(task, offset!(task_stack)),
            mm: read_member(task, offset!(task_mm)),
            thread_pointer: read_member(task, offset!(task_thread_pointer)),
            static_prio: read_member(task, offset!(task_static_prio)),
            rt_priority: read_member(task, offset!(task_rt_priority)),
            policy: read_member(task, offset!(task_policy)),
            pad: 0,
        },
    );
}
