//! Execs: the program that a task runs from then on, and where the kernel has put it.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    macros::map,
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use memtrace_ebpf::{
    record::{Bounds, EXEC_BYTES, EXEC_TRUNCATED, Exec, Kind},
    syscall,
};

use crate::hooks::{
    clock::now,
    fault::end::settle,
    file, ids,
    kernel::{Object, offset, read_member},
    parts::send_objects,
    program::program,
    ring, thread,
    verifier::{self, launder_ptr},
    vma,
};

/// Bytes of an exec'ed file's name.
const NAME_BYTES: usize = 4096;

#[repr(C)]
struct ExecScratch {
    record: Exec,
    bytes: [u8; EXEC_BYTES + NAME_BYTES],
}

#[map]
static EXEC: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// An exec is complete.
#[inline(always)]
pub(crate) fn complete(ctx: &RawTracePointContext) {
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
