//! The return of a clone: who of parent and child is back in user mode first.
//!
//! The tracepoint at the end of a system call comes before the kernel looks whether another task should run first
//! (`exit_to_user_mode_loop` in `kernel/entry/common.c`), and after a fork that is often the child. Where it will, the record is
//! kept back until the thread gets its CPU again.

use aya_ebpf::{macros::map, maps::Array};
use memtrace_ebpf::{
    arch,
    record::{Kind, RETURNED_IN_CHILD, Returned},
};

use crate::hooks::{
    clock::now,
    compat,
    kernel::{Object, config, offset},
    ring,
    thread::{self, Thread},
    verifier::launder_ptr,
};

/// Slots of [`WAITING`].
const SLOTS: u32 = 64;

/// Tasks that have left their CPU between the end of a call and user mode: so that not each task that gets a CPU must be
/// looked up. One that loses its slot to another tells of its return by the next thing that it does.
#[map]
static WAITING: Array<u64> = Array::with_max_entries(SLOTS, 0);

/// A call that makes tasks ends: in the parent, if it has made a child; or in the child for the first time.
#[inline(always)]
pub(crate) fn end(thread: &mut Thread, task: Object, ret: i64, ts: u64) {
    let in_child = thread.began == 0 && ret == 0;
    if !in_child && (ret <= 0 || thread.child == 0) {
        return;
    }
    let mut head = thread.head(Kind::Returned, ts);
    head.flags = if in_child { RETURNED_IN_CHILD } else { 0 };
    thread.pending_return = Returned {
        head,
        waited: 0,
        began: thread.began,
        hooked: thread.hooked,
        child_tid: thread.child,
        call: thread.call,
        ret,
        ip: ip(task),
    };
    thread.return_pending = 1;
    if task.load::<u64>(offset!(task_thread_flags)) & arch::RESCHEDULES == 0 {
        send_pending(thread, 0);
    }
}

/// A call makes a child that will not be seen to leave it ([`arch::CHILD_LEAVES_CALL`]): it does when it gets a CPU first.
#[inline(always)]
pub(crate) fn expect(child: u64, parent: Object, call: u32) {
    let Some(thread) = thread::find_address(child) else {
        return;
    };
    let mut head = thread.head(Kind::Returned, 0);
    head.flags = RETURNED_IN_CHILD;
    thread.pending_return = Returned {
        head,
        waited: 0,
        began: 0,
        hooked: 0,
        child_tid: 0,
        call,
        ret: 0,
        // The child's registers are a copy.
        ip: ip(parent),
    };
    thread.return_pending = 1;
    if let Some(slot) = WAITING.get_ptr_mut(slot(child)) {
        // SAFETY: a valid pointer. Of two that write at once one is kept.
        unsafe { *slot = child };
    }
}

/// Where a task goes on in user mode, for the lab.
#[inline(always)]
fn ip(task: Object) -> u64 {
    if config!(detail) == 0 {
        0
    } else {
        task.registers().load(offset!(regs_ip))
    }
}

/// Sends the pending record, if there is one: the thread has been in user mode since the call's end, or, where `waited` isn't 0,
/// for so many nanoseconds it was not.
#[inline(always)]
pub(crate) fn send_pending(thread: &mut Thread, waited: u64) {
    if thread.return_pending == 0 {
        return;
    }
    thread.return_pending = 0;
    thread.pending_return.waited = waited;
    thread.pending_return.head.ts += waited;
    if !arch::CHILD_LEAVES_CALL && thread.pending_return.head.ts == 0 {
        thread.pending_return.head.ts = now();
    }
    ring::send(Kind::Returned, thread.pending_return);
}

/// The thread leaves its CPU.
#[inline(always)]
pub(crate) fn leave(thread: &mut Thread, task: Object) {
    if thread.return_pending == 0 {
        return;
    }
    // An interrupt in user mode has left another number there than that of the call.
    let own: u32 = task.registers().load(offset!(regs_call));
    let number = if thread.compat == 0 {
        own
    } else {
        compat::number(own)
    };
    if number != thread.pending_return.call {
        send_pending(thread, 0);
        return;
    }
    let task = launder_ptr(task, &mut thread.launder_ptr);
    if let Some(slot) = WAITING.get_ptr_mut(slot(task)) {
        // SAFETY: a valid pointer. Of two that write at once one is kept.
        unsafe { *slot = task };
    }
}

/// A task gets a CPU.
#[inline(always)]
pub(crate) fn get_cpu(task: u64) {
    let Some(slot) = WAITING.get_ptr_mut(slot(task)) else {
        return;
    };
    // SAFETY: a valid pointer; the task itself is in no other slot.
    if unsafe { *slot } != task {
        return;
    }
    // SAFETY: the same.
    unsafe { *slot = 0 };
    if let Some(thread) = thread::find_address(task) {
        let waited = now().saturating_sub(thread.pending_return.head.ts);
        send_pending(thread, waited);
    }
}

/// Where a task is noted.
#[inline(always)]
fn slot(task: u64) -> u32 {
    // A task_struct is aligned to 64 bytes, and some thousand bytes long.
    (task >> 6 ^ task >> 13) as u32 % SLOTS
}
