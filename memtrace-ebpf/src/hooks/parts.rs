//! The kernel objects that a task uses.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memtrace_ebpf::record::{Kind, Objects, Parts};

use crate::hooks::{
    kernel::{Object, offset, read_member},
    ring, thread,
    verifier::{self, repeat},
};

/// Signals that a task can handle, and where their `struct sigaction` begin, one after the other.
const SIGNALS: u32 = 64;
const SIGACTION: u64 = 32;
/// `SIG_IGN`; `SIG_DFL` is 0.
const SIG_IGN: u64 = 1;

/// Reads what the task at this address uses.
#[inline(always)]
pub(crate) fn parts(task: u64, parts: &mut Parts) {
    parts.mm = read_member(task, offset!(task_mm));
    parts.files = read_member(task, offset!(task_files));
    parts.fs = read_member(task, offset!(task_fs));
    parts.sighand = read_member(task, offset!(task_sighand));
    parts.signal = read_member(task, offset!(task_signal));
    parts.cred = read_member(task, offset!(task_cred));
    parts.io = read_member(task, offset!(task_io));
    parts.sysvsem = read_member(task, offset!(task_sysvsem));
    parts.group = read_member(task, offset!(task_group_leader));
    parts.user_ns = read_member(parts.cred, offset!(cred_user));
    let namespaces: u64 = read_member(task, offset!(task_nsproxy));
    parts.nsproxy = namespaces;
    parts.mnt_ns = read_member(namespaces, offset!(nsproxy_mnt));
    parts.uts_ns = read_member(namespaces, offset!(nsproxy_uts));
    parts.ipc_ns = read_member(namespaces, offset!(nsproxy_ipc));
    parts.pid_ns = read_member(namespaces, offset!(nsproxy_pid));
    parts.net_ns = read_member(namespaces, offset!(nsproxy_net));
    parts.cgroup_ns = read_member(namespaces, offset!(nsproxy_cgroup));
    parts.time_ns = read_member(namespaces, offset!(nsproxy_time));
}

/// Sends what the current task uses now that `call` may have changed it.
///
/// A global function, so that its stack isn't its caller's all along: a hook and what it calls have 512 bytes of it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_objects(call: u32, ts: u64) -> u32 {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return 0;
    };
    ring::send_filled(Kind::Objects, |record: &mut Objects| {
        record.head = thread.head(Kind::Objects, ts);
        record.call = call;
        record.pad = 0;
        parts(task.address(), &mut record.parts);
    });
    0
}

/// How many signals the task at this address handles itself.
#[inline(always)]
pub(crate) fn handled(task: u64) -> u32 {
    let sighand: u64 = read_member(task, offset!(task_sighand));
    let Some(handlers) = handlers() else { return 0 };
    handlers.next = sighand + u64::from(offset!(sighand_action));
    handlers.handled = 0;
    repeat!(SIGNALS, next_handler);
    self::handlers().map_or(0, |handlers| handlers.handled as u32)
}

/// How far [`handled`] is.
struct Handlers {
    next: u64,
    handled: u64,
}

#[map]
static HANDLERS: PerCpuArray<Handlers> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn handlers() -> Option<&'static mut Handlers> {
    verifier::scratch(&HANDLERS)
}

/// Counts the next signal, if it is handled. 1 ends it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn next_handler() -> u32 {
    let Some(handlers) = handlers() else { return 1 };
    let handler: u64 = read_member(handlers.next, 0);
    // Without a branch: above SIG_IGN.
    handlers.handled += SIG_IGN.wrapping_sub(handler) >> 63;
    handlers.next += SIGACTION;
    0
}
