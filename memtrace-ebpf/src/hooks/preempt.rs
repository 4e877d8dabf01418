//! Hooks that no other task's hooks come between.
//!
//! Where the kernel lets itself be preempted, another task may get the CPU in the middle of a hook: of one on a function, and
//! from 7.0 on of a tracepoint's, too. If it comes by the same hook, the kernel leaves that out, as it does until the
//! first has got the CPU again (`__bpf_trace_run` in `kernel/trace/bpf_trace.c`); if by another, that finds the memory of
//! this CPU in use.

use core::{
    mem::{MaybeUninit, transmute},
    ptr,
};

use memtrace_ebpf::control::PREEMPTION_CALLS;

use crate::hooks::kernel::{Object, offset};

/// Runs a hook to its end. In interrupts, and where they are off, no hook needs this.
///
/// Who waits for the CPU gets it where preemption is enabled again. That must not be here, as the kernel takes the hook for
/// ended only later. With interrupts off nobody gets it (`preemptible` in `include/linux/preempt.h`), nor does turning them on
/// give it away: so it goes at the next occasion after the hook.
#[inline(always)]
pub(crate) fn without_preemption(hook: impl FnOnce()) {
    call::<{ PREEMPTION_CALLS[0] }>(ptr::null_mut());
    hook();
    // Which of them says that somebody waits differs from kernel to kernel.
    if Object::current().load::<u64>(offset!(task_flags)) == 0 {
        call::<{ PREEMPTION_CALLS[2] }>(ptr::null_mut());
        return;
    }
    let mut flags = MaybeUninit::<u64>::uninit();
    call::<{ PREEMPTION_CALLS[1] }>(flags.as_mut_ptr());
    call::<{ PREEMPTION_CALLS[2] }>(ptr::null_mut());
    call::<{ PREEMPTION_CALLS[3] }>(flags.as_mut_ptr());
}

/// A call that the loader replaces before the kernel sees it.
#[inline(always)]
fn call<const NUMBER: u32>(argument: *mut u64) {
    // SAFETY: to BPF's compiler a function at a fixed address is a helper of that number, as in aya-ebpf-bindings. Each of
    // these takes this pointer or nothing, and gives nothing.
    unsafe { transmute::<usize, extern "C" fn(*mut u64)>(NUMBER as usize)(argument) };
}
