//! Births of tasks: who is to be traced, and what the kernel gives the child of its parent's.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user, macros::map, maps::Array,
    programs::RawTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use memtrace_ebpf::{
    arch,
    record::{Birth, COMPAT_CALL, Header, Kind, VmaReason},
    syscall,
};

use crate::hooks::{
    clock::now,
    direct_map::direct_map,
    experiment, ids,
    kernel::{Object, config, offset, read_into, read_member},
    parts, returned, ring, survey,
    thread::{self, Thread},
};

const CLONE_THREAD: u64 = 0x0001_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// Where `struct clone_args` has `stack` and `stack_size`.
const CLONE_ARGS_STACK: u64 = 40;

/// 1 once the first process of the trace has been born.
#[map]
static STARTED: Array<u32> = Array::with_max_entries(1, 0);

/// A child, as the kernel has set it up.
struct Child {
    task: u64,
    pid: u32,
    tid: u32,
    mm: u64,
    /// Whether that is another one than its maker's.
    own_mm: bool,
}

impl Child {
    #[inline(always)]
    fn new(task: u64, parent: Object) -> Self {
        let mm: u64 = read_member(task, offset!(task_mm));
        Self {
            task,
            pid: read_member(task, offset!(task_tgid)),
            tid: read_member(task, offset!(task_pid)),
            mm,
            own_mm: mm != parent.follow(offset!(task_mm)).address(),
        }
    }
}

/// A child has been set up by the current task.
#[inline(always)]
pub(crate) fn birth(ctx: &RawTracePointContext) {
    let flags: u64 = ctx.arg(1);
    let parent = Object::current();
    // From before the time of its records until they are written: a survey takes a while.
    if let Some(state) = thread::find(parent) {
        state.busy = 1;
    }
    let ts = now();
    let child = Child::new(ctx.arg(0), parent);
    let Some(maker) = maker(parent, child.mm, flags & CLONE_THREAD != 0) else {
        return;
    };
    let followed = maker.follow && follow(ctx, parent, &maker, &child);
    let surveyed = survey(parent, &maker, &child, ts);
    ring::send_filled(Kind::Birth, |record: &mut Birth| {
        record.head = Header {
            flags: maker.compat as u8 * COMPAT_CALL,
            ..ring::head(Kind::Birth, parent.load(offset!(task_pid)), ts)
        };
        record.flags = flags;
        record.followed = u32::from(followed);
        fill(record, parent, &maker, &child);
        fill_surveyed(record, &child, &surveyed);
    });
    if config!(detail) != 0 {
        experiment::born(ctx, parent, child.task, ts);
    }
    if let Some(state) = thread::find(parent) {
        state.child = child.tid;
        state.hooked += now() - ts;
        state.busy = 0;
    }
}

/// Surveys what a fork has left shared, where the child has an address space of its own that isn't memtrace's.
#[inline(always)]
fn survey(parent: Object, maker: &Maker, child: &Child, ts: u64) -> survey::Done {
    if !child.own_mm || child.mm == maker.pre_exec_mm {
        return survey::Done {
            swapped: 0,
            next: 0,
            complete: true,
            exe: 0,
        };
    }
    let fs: u64 = read_member(child.task, offset!(task_fs));
    let tid = parent.load(offset!(task_pid));
    survey::survey_mm(child.mm, 0, fs, ts, tid, VmaReason::Fork)
}

/// What the record says of the two tasks. Its flags are there already.
#[inline(always)]
fn fill(record: &mut Birth, parent: Object, maker: &Maker, child: &Child) {
    record.parent_pid = parent.load(offset!(task_tgid));
    record.child_pid = child.pid;
    record.child_tid = child.tid;
    record.exit_signal = read_member(child.task, offset!(task_exit_signal));
    [record.stack, record.stack_size] = maker.stack;
    record.call = maker.call;
    record.began = maker.began;
    record.child_ids = ids::ids(child.task);
    let real_parent: u64 = read_member(child.task, offset!(task_real_parent));
    record.real_parent = read_member(real_parent, offset!(task_pid));
    record.ppid = ids::ids(real_parent).pid;
    record.handled = [0; 2];
    if record.flags & CLONE_CLEAR_SIGHAND != 0 {
        record.handled = [parts::handled(parent.address()), parts::handled(child.task)];
    }
    parts::parts(parent.address(), &mut record.parent);
    parts::parts(child.task, &mut record.child);
    // The child's name is a copy of the parent's.
    let comm = child.task + u64::from(offset!(task_comm));
    read_into(comm, &mut record.comm);
}

/// What the record says of the child's address space.
#[inline(always)]
fn fill_surveyed(record: &mut Birth, child: &Child, surveyed: &survey::Done) {
    record.table_bytes = 0;
    if child.own_mm {
        record.table_bytes = read_member(child.mm, offset!(mm_table_bytes));
    }
    record.swapped = surveyed.swapped;
    record.unsurveyed = 0;
    record.anonymous = 0;
    if !surveyed.complete {
        record.unsurveyed = surveyed.next;
        record.anonymous = read_member(child.mm, offset!(mm_anonymous));
    }
}

/// What a child's birth takes from the task that makes it.
struct Maker {
    /// The call under way, and whether it is a 32-bit one.
    call: u32,
    compat: u32,
    /// When that began.
    began: u64,
    /// An address in the child's stack, and how large that is; 0 where the call doesn't say.
    stack: [u64; 2],
    /// Whether the child is to be traced.
    follow: bool,
    /// The address space whose faults are memtrace's own.
    pre_exec_mm: u64,
}

/// What is known of the current task as a maker; `None` if its children are nobody's concern.
#[inline(always)]
fn maker(parent: Object, child_mm: u64, thread: bool) -> Option<Maker> {
    if let Some(state) = thread::find(parent) {
        let pre_exec = state.pre_exec_mm == child_mm;
        return Some(Maker {
            call: state.call,
            compat: state.compat,
            began: state.began,
            stack: stack(state),
            follow: thread || config!(follow) != 0,
            pre_exec_mm: if pre_exec { child_mm } else { 0 },
        });
    }
    (!thread && is_started(parent)).then(|| Maker {
        call: syscall::NONE,
        compat: 0,
        began: now(),
        stack: [0; 2],
        follow: true,
        pre_exec_mm: child_mm,
    })
}

/// Takes a child under trace. `false` when there are too many.
#[inline(always)]
fn follow(ctx: &RawTracePointContext, parent: Object, maker: &Maker, child: &Child) -> bool {
    let &Child { task, pid, tid, .. } = child;
    let in_call = if arch::CHILD_LEAVES_CALL {
        maker.call
    } else {
        syscall::NONE
    };
    let call = (in_call, maker.compat);
    if !thread::insert(task, pid, tid, call, maker.pre_exec_mm, [0; 2]) {
        ring::lose(ring::UNFOLLOWED);
        warn!(
            ctx,
            "too many threads: can't follow thread {} of process {}", tid, pid
        );
        return false;
    }
    if !arch::CHILD_LEAVES_CALL && syscall::makes_task(maker.call) {
        returned::expect(task, parent, maker.call);
    }
    debug!(ctx, "follows thread {} of process {}", tid, pid);
    true
}

/// An address in the stack that the call under way gives the child, and its size; 0 for what it doesn't say.
#[inline(always)]
fn stack(parent: &Thread) -> [u64; 2] {
    match parent.call {
        // The stack pointer: the first address above the stack, it may be.
        syscall::CLONE => [parent.args[1].saturating_sub(8), 0],
        // struct clone_args (include/uapi/linux/sched.h) has the lowest address, a guard page it may be, and the size.
        // The kernel has just read it.
        syscall::CLONE3 => {
            let mut stack = [0_u64; 2];
            // SAFETY: the helper checks the address.
            unsafe {
                bpf_probe_read_user(
                    (&raw mut stack).cast(),
                    16,
                    (parent.args[0] + CLONE_ARGS_STACK) as *const _,
                );
            }
            [(stack[0] + stack[1]).saturating_sub(8), stack[1]]
        }
        _ => [0; 2],
    }
}

/// Whether a child of `parent` is a program that memtrace starts: the first process that it forks, in the lab each.
#[inline(always)]
fn is_started(parent: Object) -> bool {
    let tracer = direct_map().map_or(0, |map| map.tracer);
    if u64::from(parent.load::<u32>(offset!(task_tgid))) != tracer {
        return false;
    }
    let Some(started) = STARTED.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a valid pointer; memtrace forks from one thread.
    let first = unsafe { core::mem::replace(&mut *started, 1) } == 0;
    first || config!(detail) != 0
}

/// The current task's child runs for the first time, whose birth may have been left out: then word of it is lost, but not what it
/// does. The kernel has the run queue locked here (`wake_up_new_task` in `kernel/sched/core.c`), so it leaves this hook out for
/// nobody.
#[inline(always)]
pub(crate) fn woken(ctx: &RawTracePointContext) {
    let parent = Object::current();
    let child = Child::new(ctx.arg(0), parent);
    let born = thread::find(parent).is_some_and(|state| state.child == child.tid);
    if born || thread::find_address(child.task).is_some() {
        return;
    }
    if let Some(maker) = maker(parent, child.mm, child.pid != child.tid)
        && maker.follow
    {
        follow(ctx, parent, &maker, &child);
    }
}
