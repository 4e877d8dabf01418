//! Tasks: names, execs, ends, and leaving the CPU.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    macros::map,
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use memtrace_ebpf::{
    layout::ABSENT,
    record::{Bounds, EXEC_BYTES, EXEC_TRUNCATED, Exec, Exit, Kind, Rename},
    syscall,
};

use crate::hooks::{
    clock::now,
    experiment,
    fault::{count::is_over, emit::pause, end::settle},
    file, gone, ids,
    kernel::{Object, config, offset, read_member},
    parts::send_objects,
    program::program,
    returned, ring, thread,
    verifier::{self, launder_ptr},
    vma,
};

/// `TASK_DEAD` (`include/linux/sched.h`)
const TASK_DEAD: u32 = 0x80;
/// SIGKILL's bit in the first word of a set of signals.
const SIGKILL: u64 = 1 << (9 - 1);
/// Bytes of an exec'ed file's name.
const NAME_BYTES: usize = 4096;

#[repr(C)]
struct ExecScratch {
    record: Exec,
    bytes: [u8; EXEC_BYTES + NAME_BYTES],
}

#[map]
static EXEC: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

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
    thread.invalidate_caches();
    thread.pre_exec_mm = 0;
    // A thread that isn't the leader takes over the leader's id (de_thread in fs/exec.c).
    thread.known.tid = task.load(offset!(task_pid));
    thread.known.ids = ids::ids(task.address());
    let hidden = thread.pre_exec_faults;
    thread.pre_exec_faults = [0; 2];
    let mm = task.follow(offset!(task_mm));
    // Read, not loaded: a plain number, as a function of its own takes it.
    let exe: u64 = read_member(mm.address(), offset!(mm_exe_file));
    let fs: u64 = read_member(task.address(), offset!(task_fs));
    let path = file::tell(exe, fs, thread.known.tid);
    let program = program(launder_ptr(mm, &mut thread.launder_ptr));
    if let Some(scratch) = verifier::scratch(&EXEC) {
        let record = &mut scratch.record;
        record.head = thread.call_head(Kind::Exec, ts);
        record.pid = thread.known.pid;
        record.old_tid = ctx.arg(1);
        record.mm = mm.address();
        record.exe = program;
        record.path = path;
        bounds(mm.address(), &mut record.bounds);
        [record.pre_exec_minor, record.pre_exec_major] = hidden;
        send_exec(scratch, mm, ctx.arg(2));
    }
    send_objects(syscall::EXECVE, ts);
    vma::list(ts);
    thread.busy = 0;
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
