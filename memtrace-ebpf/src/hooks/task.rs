//! Tasks: births, names, execs, ends, and leaving the CPU.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    macros::map,
    maps::{Array, PerCpuArray},
    programs::RawTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use memtrace_ebpf::{
    arch,
    layout::ABSENT,
    record::{
        Birth, Bounds, COMPAT_CALL, EXEC_BYTES, EXEC_TRUNCATED, Exec, Exit, Header, Kind, Objects,
        Rename, Seen,
    },
    syscall,
};

use crate::hooks::{
    call::compat_flag,
    experiment,
    fault::{NO_CALL, now, pause},
    file, gone,
    kernel::{Object, config, offset, plain, read_into, read_member},
    paging::direct_map,
    parts,
    program::program,
    returned, ring,
    settle::{is_over, settle},
    survey,
    thread::{self, Thread},
    vma,
};

const CLONE_THREAD: u64 = 0x0001_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// Where `struct clone_args` has `stack` and `stack_size`.
const CLONE_ARGS_STACK: u64 = 40;
/// `TASK_DEAD` (`include/linux/sched.h`)
const TASK_DEAD: u32 = 0x80;
/// SIGKILL's bit in the first word of a set of signals.
const SIGKILL: u64 = 1 << (9 - 1);
/// Bytes of an exec'ed file's name.
const NAME_BYTES: usize = 4096;

/// 1 once the first process of the trace has been born.
#[map]
static STARTED: Array<u32> = Array::with_max_entries(1, 0);

#[repr(C)]
struct ExecScratch {
    record: Exec,
    bytes: [u8; EXEC_BYTES + NAME_BYTES],
}

#[map]
static EXEC: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// A child has been set up by the current task.
#[inline(always)]
pub(crate) fn birth(ctx: &RawTracePointContext) {
    let child: u64 = ctx.arg(0);
    let flags: u64 = ctx.arg(1);
    let parent = Object::current();
    let thread = flags & CLONE_THREAD != 0;
    // From before the time of its records until they are written: a survey takes a while.
    if let Some(state) = thread::find(parent) {
        state.busy = 1;
    }
    let ts = now();
    let child_mm: u64 = read_member(child, offset!(task_mm));
    let Some(maker) = maker(parent, child_mm, thread) else {
        return;
    };
    let pid: u32 = read_member(child, offset!(task_tgid));
    let tid: u32 = read_member(child, offset!(task_pid));
    let followed = maker.follow && follow(ctx, parent, &maker, child, (pid, tid));
    let own_mm = child_mm != parent.follow(offset!(task_mm)).address();
    let surveyed = if own_mm && child_mm != maker.hidden_mm {
        let fs: u64 = read_member(child, offset!(task_fs));
        survey::survey_mm(
            child_mm,
            0,
            fs,
            ts,
            parent.load(offset!(task_pid)),
            Seen::Fork,
        )
    } else {
        survey::Done {
            swapped: 0,
            next: 0,
            complete: true,
        }
    };
    ring::send_filled(Kind::Birth, |record: &mut Birth| {
        record.head = Header {
            ts,
            tid: parent.load(offset!(task_pid)),
            kind: Kind::Birth as u8,
            flags: maker.compat as u8 * COMPAT_CALL,
            ..Header::default()
        };
        record.parent_pid = parent.load(offset!(task_tgid));
        record.child_pid = pid;
        record.child_tid = tid;
        record.exit_signal = read_member(child, offset!(task_exit_signal));
        record.flags = flags;
        record.stack = maker.stack;
        record.call = maker.call;
        record.followed = u32::from(followed);
        record.child_ids = parts::ids(child);
        let real_parent: u64 = read_member(child, offset!(task_real_parent));
        record.real_parent = read_member(real_parent, offset!(task_pid));
        record.ppid = parts::ids(real_parent).pid;
        record.handled = [0; 2];
        if flags & CLONE_CLEAR_SIGHAND != 0 {
            record.handled = [parts::handled(parent.address()), parts::handled(child)];
        }
        record.table_bytes = if own_mm {
            read_member(child_mm, offset!(mm_table_bytes))
        } else {
            0
        };
        record.swapped = surveyed.swapped;
        record.unsurveyed = 0;
        record.anonymous = 0;
        if !surveyed.complete {
            record.unsurveyed = surveyed.next;
            record.anonymous = read_member(child_mm, offset!(mm_anonymous));
        }
        record.began = maker.began;
        parts::parts(parent.address(), &mut record.parent);
        parts::parts(child, &mut record.child);
        // The child's name is a copy of the parent's.
        let comm = child + u64::from(offset!(task_comm));
        read_into(comm, &mut record.comm);
    });
    if config!(detail) != 0 {
        experiment::born(ctx, parent, child, ts);
    }
    if let Some(state) = thread::find(parent) {
        state.child = tid;
        state.hooked += now() - ts;
        state.busy = 0;
    }
}

/// What a child's birth takes from the task that makes it.
struct Maker {
    /// The call under way, and whether it is a 32-bit one.
    call: u32,
    compat: u32,
    /// When that began.
    began: u64,
    /// An address in the child's stack.
    stack: u64,
    /// Whether the child is to be traced.
    follow: bool,
    /// The address space whose faults are memtrace's own.
    hidden_mm: u64,
}

/// What is known of the current task as a maker; `None` if its children are nobody's concern.
#[inline(always)]
fn maker(parent: Object, child_mm: u64, thread: bool) -> Option<Maker> {
    if let Some(state) = thread::find(parent) {
        let hidden = state.hidden_mm == child_mm;
        return Some(Maker {
            call: state.call,
            compat: state.compat,
            began: state.began,
            stack: stack(state),
            follow: thread || config!(follow) != 0,
            hidden_mm: if hidden { child_mm } else { 0 },
        });
    }
    (!thread && is_started(parent)).then(|| Maker {
        call: NO_CALL,
        compat: 0,
        began: now(),
        stack: 0,
        follow: true,
        hidden_mm: child_mm,
    })
}

/// Takes a child under trace. `false` when there are too many.
#[inline(always)]
fn follow(
    ctx: &RawTracePointContext,
    parent: Object,
    maker: &Maker,
    child: u64,
    (pid, tid): (u32, u32),
) -> bool {
    let in_call = if arch::CHILD_LEAVES_CALL {
        maker.call
    } else {
        NO_CALL
    };
    let call = (in_call, maker.compat);
    if !thread::insert(child, pid, tid, call, maker.hidden_mm, [0; 2]) {
        ring::lose(ring::UNFOLLOWED);
        warn!(
            ctx,
            "too many threads: can't follow thread {} of process {}", tid, pid
        );
        return false;
    }
    if !arch::CHILD_LEAVES_CALL && syscall::makes_task(maker.call) {
        returned::expect(child, parent, maker.call);
    }
    debug!(ctx, "follows thread {} of process {}", tid, pid);
    true
}

/// An address in the stack that the call under way gives the child; 0 for none.
#[inline(always)]
fn stack(parent: &Thread) -> u64 {
    match parent.call {
        // The stack pointer: the first address above the stack, it may be.
        syscall::CLONE => parent.args[1].saturating_sub(8),
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
            (stack[0] + stack[1]).saturating_sub(8)
        }
        _ => 0,
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

/// An exec is complete.
#[inline(always)]
pub(crate) fn exec(ctx: &RawTracePointContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    thread.busy = 1;
    let ts = now();
    let Some(thread) = settle(thread, task, 0, ts) else {
        return;
    };
    thread.forget_mm();
    thread.hidden_mm = 0;
    // A thread that isn't the leader takes over the leader's id (de_thread in fs/exec.c).
    thread.known.tid = task.load(offset!(task_pid));
    thread.known.ids = parts::ids(task.address());
    let hidden = thread.hidden;
    thread.hidden = [0; 2];
    let mm = task.follow(offset!(task_mm));
    // Read, not loaded: a plain number, as a function of its own takes it.
    let exe: u64 = read_member(mm.address(), offset!(mm_exe_file));
    let fs: u64 = read_member(task.address(), offset!(task_fs));
    let path = file::tell(exe, fs, thread.known.tid);
    let program = program(plain(mm, &mut thread.number));
    if let Some(scratch) = EXEC.get_ptr_mut(0) {
        // SAFETY: a valid pointer to this CPU's scratch.
        let scratch = unsafe { &mut *scratch };
        let record = &mut scratch.record;
        record.head = thread.head(Kind::Exec, ts);
        record.head.flags = compat_flag(thread);
        record.pid = thread.known.pid;
        record.old_tid = ctx.arg(1);
        record.mm = mm.address();
        record.exe = program;
        record.path = path;
        bounds(mm.address(), &mut record.bounds);
        [record.hidden_minor, record.hidden_major] = hidden;
        send_exec(scratch, mm, ctx.arg(2));
    }
    send_objects(syscall::EXECVE, ts);
    vma::list(ts);
    thread.busy = 0;
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
        parts::parts(task.address(), &mut record.parts);
    });
    0
}

#[inline(always)]
pub(crate) fn bounds(mm: u64, bounds: &mut Bounds) {
    bounds.start_code = read_member(mm, offset!(mm_start_code));
    bounds.end_code = read_member(mm, offset!(mm_end_code));
    bounds.start_data = read_member(mm, offset!(mm_start_data));
    bounds.end_data = read_member(mm, offset!(mm_end_data));
    bounds.start_brk = read_member(mm, offset!(mm_start_brk));
    bounds.brk = read_member(mm, offset!(mm_brk));
    bounds.start_stack = read_member(mm, offset!(mm_start_stack));
    bounds.vdso = read_member(mm, offset!(mm_vdso));
}

/// Adds the name and the arguments, and sends the record.
#[inline(always)]
fn send_exec(scratch: &mut ExecScratch, mm: Object, bprm: u64) {
    let name: u64 = read_member(bprm, offset!(bprm_filename));
    // SAFETY: the helper checks the address; the name's room is at the buffer's beginning.
    let written = unsafe {
        bpf_probe_read_kernel_str(
            scratch.bytes.as_mut_ptr().cast(),
            NAME_BYTES as u32,
            name as *const _,
        )
    };
    let name_len = if written > 0 {
        written as usize & (NAME_BYTES * 2 - 1)
    } else {
        0
    };
    let name_len = if name_len > NAME_BYTES {
        NAME_BYTES
    } else {
        name_len
    };
    let start: u64 = mm.load(offset!(mm_arg_start));
    let end: u64 = mm.load(offset!(mm_arg_end));
    let mut args_len = end.wrapping_sub(start);
    if args_len > (EXEC_BYTES - 1) as u64 {
        args_len = (EXEC_BYTES - 1) as u64;
        scratch.record.head.flags |= EXEC_TRUNCATED;
    }
    // SAFETY: the helper checks the address; name and arguments fit one after the other.
    let failed = unsafe {
        bpf_probe_read_user(
            scratch.bytes.as_mut_ptr().add(name_len).cast(),
            args_len as u32 & (EXEC_BYTES as u32 - 1),
            start as *const _,
        )
    };
    if failed != 0 {
        args_len = 0;
        scratch.record.head.flags |= EXEC_TRUNCATED;
    }
    scratch.record.name_len = name_len as u32;
    scratch.record.args_len = args_len as u32;
    let len = size_of::<Exec>() as u64 + name_len as u64 + (args_len & (EXEC_BYTES as u64 - 1));
    let record: *mut ExecScratch = scratch;
    ring::send_bytes(Kind::Exec, record.cast(), len);
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
    returned::pay(thread, 0);
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
