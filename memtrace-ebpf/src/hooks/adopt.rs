//! Taking a process under trace that runs already.
//!
//! memtrace asks for it by a system call that does nothing else (see [`memtrace_ebpf::control::ADOPT_MAGIC`]). The process is
//! looked for in the ring of all processes, as `for_each_process` does it: a hook runs under RCU, as that must.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
    programs::RawTracePointContext,
};
use memtrace_ebpf::{
    control::{ADOPT_MAGIC, ADOPT_SURVEY, Adopted, PROBE_CALL},
    record::{ExistingTask, Kind, Surveyed, VmaReason},
    syscall,
};

use crate::hooks::{
    clock::now,
    direct_map::direct_map,
    exec::bounds,
    ids,
    kernel::{Object, offset, read_into, read_member},
    parts, ring, survey, thread,
    verifier::{self, repeat},
};

/// As many times as many processes, and threads of one, are gone through at the most: there are no more ids.
const LIMIT: u32 = 2048;

/// What came of the last call.
#[map]
static ADOPTED: Array<Adopted> = Array::with_max_entries(1, 0);

/// A search under way.
#[repr(C)]
struct Search {
    /// The process that is wanted, by its id in memtrace's pid namespace.
    wanted: u64,
    /// The task that is looked at, and where the ring ends.
    task: u64,
    end: u64,
    /// Found.
    leader: u64,
    /// What is to be done, and from which address on.
    what: u64,
    from: u64,
    /// A thread of it, its address space, and its `fs_struct`.
    mm: u64,
    fs: u64,
    tid: u32,
    pad: u32,
    added: u64,
    refused: u64,
    /// How far the survey came, and 1 when it is complete.
    next: u64,
    complete: u64,
}

#[map]
static SEARCH: PerCpuArray<Search> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn search() -> Option<&'static mut Search> {
    verifier::scratch(&SEARCH)
}

/// Does what memtrace's call asks for.
#[inline(always)]
pub(crate) fn adopt(ctx: &RawTracePointContext) {
    if ctx.arg::<u64>(1) != PROBE_CALL {
        return;
    }
    let task = Object::current();
    let regs = task.registers();
    if regs.load::<u64>(offset!(regs_arg_0)) != ADOPT_MAGIC || !is_memtrace(task) {
        return;
    }
    let Some(new) = search() else { return };
    new.wanted = regs.load(offset!(regs_arg_1));
    new.leader = 0;
    new.mm = 0;
    new.what = regs.load(offset!(regs_arg_2));
    new.from = regs.load(offset!(regs_arg_3));
    new.next = new.from;
    new.complete = 0;
    new.added = 0;
    new.refused = 0;
    new.end = task.load(offset!(task_group_leader));
    new.task = new.end;
    repeat!(LIMIT, next_processes);
    let Some(found) = search() else { return };
    // Once more with each call: a hook that was under way may have missed what the call before has changed.
    thread::forget_untraced();
    if found.leader != 0 {
        let signal: u64 = read_member(found.leader, offset!(task_signal));
        found.end = signal + u64::from(offset!(signal_thread_head));
        found.task = read_member(found.end, 0);
        repeat!(LIMIT, next_threads);
        thread::forget_untraced();
        survey_process();
    }
    if let (Some(done), Some(answer)) = (search(), ADOPTED.get_ptr_mut(0)) {
        // SAFETY: a valid pointer; memtrace makes one call at a time.
        unsafe {
            *answer = Adopted {
                leader: done.leader,
                added: done.added,
                refused: done.refused,
                mm: done.mm,
                next: done.next,
                complete: done.complete,
            };
        }
    }
}

/// Whether the task is the memtrace that this hook belongs to: it has found its direct map.
#[inline(always)]
fn is_memtrace(task: Object) -> bool {
    let tracer = direct_map().map_or(0, |map| map.tracer);
    u64::from(task.load::<u32>(offset!(task_tgid))) == tracer
}

/// Looks at some processes. 1 ends the search.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn next_processes() -> u32 {
    repeat!(LIMIT, next_process)
}

/// Looks at the next process. 1 ends the search.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn next_process() -> u32 {
    let Some(search) = search() else { return 1 };
    let link: u64 = read_member(search.task, offset!(task_tasks));
    search.task = link.wrapping_sub(u64::from(offset!(task_tasks)));
    if link == 0 || search.task == search.end {
        return 1;
    }
    if u64::from(ids::id(search.task)) == search.wanted {
        search.leader = search.task;
        return 1;
    }
    0
}

/// Takes some threads of the process under trace. 1 ends it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn next_threads() -> u32 {
    repeat!(LIMIT, next_thread)
}

/// Takes the next thread of the process under trace, if that is asked for, and notes its address space. 1 ends it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn next_thread() -> u32 {
    let Some(search) = search() else { return 1 };
    let link = search.task;
    if link == 0 || link == search.end {
        return 1;
    }
    let task = link.wrapping_sub(u64::from(offset!(task_thread_node)));
    search.task = read_member(link, 0);
    let mm: u64 = read_member(task, offset!(task_mm));
    // One that has ended, and is only there as others of its process aren't yet, has none.
    if mm == 0 {
        return 0;
    }
    // The first thread, if it lives: the others come and go.
    if search.mm == 0 {
        search.mm = mm;
        search.fs = read_member(task, offset!(task_fs));
        search.tid = read_member(task, offset!(task_pid));
    }
    if search.what == ADOPT_SURVEY || thread::find_address(task).is_some() {
        return 0;
    }
    let pid: u32 = read_member(task, offset!(task_tgid));
    let tid: u32 = read_member(task, offset!(task_pid));
    let min_flt: u64 = read_member(task, offset!(task_min_flt));
    let maj_flt: u64 = read_member(task, offset!(task_maj_flt));
    // Before it is traced: none of its records is older.
    let ts = now();
    if !thread::insert(task, pid, tid, (syscall::NONE, 0), 0, [min_flt, maj_flt]) {
        search.refused += 1;
        ring::lose(ring::UNFOLLOWED);
        return 0;
    }
    search.added += 1;
    ring::send_filled(Kind::ExistingTask, |record: &mut ExistingTask| {
        record.head = ring::head(Kind::ExistingTask, tid, ts);
        record.pid = pid;
        record.parent_pid = ids::ids(read_member(task, offset!(task_real_parent))).pid;
        record.ids = ids::ids(task);
        record.min_flt = min_flt;
        record.maj_flt = maj_flt;
        parts::parts(task, &mut record.parts);
        read_into(task + u64::from(offset!(task_comm)), &mut record.comm);
    });
    0
}

/// Sends what the next part of the process's address space is made of, if that is asked for.
#[inline(always)]
fn survey_process() {
    let Some(search) = search() else { return };
    let (mm, fs, tid) = (search.mm, search.fs, search.tid);
    if search.what != ADOPT_SURVEY || mm == 0 {
        return;
    }
    let done = survey::survey_mm(mm, search.from, fs, now(), tid, VmaReason::Attach);
    let Some(search) = self::search() else { return };
    search.next = done.next;
    if !done.complete {
        return;
    }
    let ts = now();
    let sent = ring::try_send_filled(|record: &mut Surveyed| {
        record.head = ring::head(Kind::Surveyed, tid, ts);
        record.mm = mm;
        record.exe = done.exe;
        bounds(mm, &mut record.bounds);
    });
    if let Some(search) = self::search() {
        search.complete = u64::from(sent);
    }
}
