//! The kernel side of memtrace: its hooks, which only observe. They are raw tracepoints, and where functions can be hooked
//! `handle_mm_fault`.
//!
//! A hook finds the current thread's state, notes what happened, and writes a record. What it
//! means is decided in user space. A hook has the name of its tracepoint, but for `page_fault`, which has two.
#![no_std]
#![no_main]
#![allow(
    clippy::inline_always,
    reason = "what a hook calls must be part of it: a BPF function of its own takes five arguments at most"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a program takes its context as aya's macros hand it over"
)]

mod hooks;

use hooks::{
    adopt, birth, call, exec,
    fault::{exception, handled, signal},
    find_direct_map,
    preempt::without_preemption,
    task,
    thread::if_traced,
    tick,
};

use aya_ebpf::{
    macros::{fentry, fexit, perf_event, raw_tracepoint},
    programs::{FEntryContext, FExitContext, PerfEventContext, RawTracePointContext},
};

/// Declared as the helpers need it: `bpf_probe_read_kernel` and others are for GPL-compatible programs alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// `exceptions:page_fault_user(address, regs, error_code)`, `trace_page_fault_entries` in `arch/x86/mm/fault.c`; and
/// `exceptions:page_fault_kernel`, the same for an access that the kernel made.
#[raw_tracepoint(tracepoint = "page_fault_user")]
fn page_fault(ctx: RawTracePointContext) -> i32 {
    if_traced(|| exception::enter(&ctx));
    0
}

/// `handle_mm_fault(vma, address, flags, regs)` in `mm/memory.c`, where functions can be hooked.
#[fentry(function = "handle_mm_fault")]
fn handle_enter(ctx: FEntryContext) -> i32 {
    if_traced(|| handled::enter(&ctx));
    0
}

/// The end of the same.
#[fexit(function = "handle_mm_fault")]
fn handle_leave(ctx: FExitContext) -> i32 {
    if_traced(|| handled::leave(&ctx));
    0
}

/// `signal:signal_generate(sig, info, task, group, result)`, `__send_signal_locked` in `kernel/signal.c`.
#[raw_tracepoint(tracepoint = "signal_generate")]
fn signal_generate(ctx: RawTracePointContext) -> i32 {
    signal::sent(&ctx);
    0
}

/// `signal:signal_deliver(sig, info, ka)`, `get_signal` in `kernel/signal.c`, with interrupts off.
#[raw_tracepoint(tracepoint = "signal_deliver")]
fn signal_deliver(_ctx: RawTracePointContext) -> i32 {
    signal::delivered();
    0
}

/// `raw_syscalls:sys_enter(regs, id)`, `syscall_trace_enter` in `kernel/entry/syscall-common.c`.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn sys_enter(ctx: RawTracePointContext) -> i32 {
    if_traced(|| call::enter(&ctx));
    0
}

/// `raw_syscalls:sys_exit(regs, ret)`.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn sys_exit(ctx: RawTracePointContext) -> i32 {
    if_traced(|| call::exit(&ctx));
    0
}

/// `task:task_newtask(task, clone_flags)`, `copy_process` in `kernel/fork.c`: the child is set up and has not run.
#[raw_tracepoint(tracepoint = "task_newtask")]
fn task_newtask(ctx: RawTracePointContext) -> i32 {
    without_preemption(|| birth::birth(&ctx));
    0
}

/// `sched:sched_wakeup_new(task)`, `wake_up_new_task` in `kernel/sched/core.c`: where the hook before may have been left out.
#[raw_tracepoint(tracepoint = "sched_wakeup_new")]
fn sched_wakeup_new(ctx: RawTracePointContext) -> i32 {
    birth::woken(&ctx);
    0
}

/// `task:task_rename(task, comm)`, `__set_task_comm` in `fs/exec.c`.
#[raw_tracepoint(tracepoint = "task_rename")]
fn task_rename(ctx: RawTracePointContext) -> i32 {
    without_preemption(|| task::rename(&ctx));
    0
}

/// `sched:sched_process_exec(task, old_pid, bprm)`, `exec_binprm` in `fs/exec.c`: all mappings are made.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    without_preemption(|| exec::complete(&ctx));
    0
}

/// `sched:sched_process_exit(task, ...)`, `do_exit` in `kernel/exit.c`.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(_ctx: RawTracePointContext) -> i32 {
    without_preemption(task::exit);
    0
}

/// `sched:sched_switch(preempt, prev, next, prev_state)`, `__schedule` in `kernel/sched/core.c`; `prev` is the current task.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn sched_switch(ctx: RawTracePointContext) -> i32 {
    task::switch(&ctx);
    0
}

/// A timer on each CPU, some times a second: ends the fault of a thread that makes no other, and says up to which
/// time all that happened on this CPU has been written.
#[perf_event]
fn tick(ctx: PerfEventContext) -> u32 {
    tick::runs(&ctx);
    0
}

/// Attached for a moment at start, to `sys_enter`: see [`hooks::find_direct_map`].
#[raw_tracepoint(tracepoint = "sys_enter")]
fn find_direct_map(ctx: RawTracePointContext) -> i32 {
    find_direct_map::find(&ctx);
    0
}

/// Attached for a moment by `memtrace attach`, to `sys_enter`: see [`hooks::adopt`].
#[raw_tracepoint(tracepoint = "sys_enter")]
fn adopt_process(ctx: RawTracePointContext) -> i32 {
    without_preemption(|| adopt::adopt(&ctx));
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
