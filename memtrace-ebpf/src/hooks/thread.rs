//! The state that the hooks keep for each traced thread.

use core::ptr;

use aya_ebpf::{
    helpers::generated,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Stack},
};
use memtrace_ebpf::{
    control::DirectMap,
    record::{COMPAT_CALL, Header, Kind, MAX_THREADS, Returned, THREAD_WORDS, ThreadSummary},
};

use crate::hooks::{
    direct_map::direct_map,
    ids,
    kernel::{Object, offset, read_into},
    paging::TableCache,
    preempt::without_preemption,
    ring,
    verifier::{self, repeat},
};

/// A traced thread.
#[repr(C)]
pub(crate) struct Thread {
    /// What user space may read. First, so that it needs to know nothing of the rest.
    pub(crate) known: ThreadSummary,
    /// Its `task_struct`: 0 when nobody uses this state.
    task: u64,
    /// Set while a hook works on this state, so that one which interrupts it keeps away.
    pub(crate) busy: u32,
    /// The system call under way, or [`memtrace_ebpf::syscall::NONE`].
    pub(crate) call: u32,
    /// Its arguments, where it [`memtrace_ebpf::compat::has_arguments`].
    pub(crate) args: [u64; 6],
    /// Where an address passes through for the verifier's sake, see [`crate::hooks::verifier::launder_ptr`].
    pub(crate) launder_ptr: u64,
    /// The fault under way.
    pub(crate) open: Open,
    /// The last table of PTEs that was walked to.
    pub(crate) table: TableCache,
    /// The last VMA that was found.
    pub(crate) vma: VmaCache,
    /// The address space whose faults are memtrace's own: that of its child before the exec. 0 for none.
    pub(crate) pre_exec_mm: u64,
    /// Counted faults there: minor, major.
    pub(crate) pre_exec_faults: [u32; 2],
    /// A clone: when the call began (0 in the child, until it has returned there), the nanoseconds that the hooks took of
    /// it, and the child.
    pub(crate) began: u64,
    pub(crate) hooked: u64,
    pub(crate) child: u32,
    /// Whether `pending_return` is to be sent yet.
    pub(crate) return_pending: u32,
    /// What tells that a clone has returned, from the end of the call until the thread is back in user mode.
    pub(crate) pending_return: Returned,
    /// Where a number passes through for the verifier's sake, see [`crate::hooks::verifier::launder_scalar`].
    pub(crate) launder_scalar: u32,
    /// 1 if that call is a 32-bit one.
    pub(crate) compat: u32,
}

const _: () = assert!(
    size_of::<Thread>() == THREAD_WORDS * 8,
    "THREAD_WORDS is out of date"
);

/// Which of [`Thread::args`] is the address space that the thread began an exec in: neither exec has so many arguments.
pub(crate) const EXEC_MM: usize = 5;

/// A fault between its entry and its end.
#[repr(C)]
pub(crate) struct Open {
    /// [`CLOSED`], [`OPEN`] or [`HELD`].
    pub(crate) state: u32,
    /// Its VMA's serial.
    pub(crate) vma: u32,
    pub(crate) ts: u64,
    pub(crate) address: u64,
    pub(crate) ip: u64,
    /// Its address space, and the top page table of that.
    pub(crate) mm: u64,
    pub(crate) pgd: u64,
    /// The page-table entry, and its level.
    pub(crate) before: u64,
    pub(crate) level: u8,
    pub(crate) error: u8,
    pub(crate) flags: u8,
    /// 1 while `handle_mm_fault` runs; always 0 where it can't be hooked.
    pub(crate) inside: u8,
    pub(crate) pad: [u8; 4],
    /// The addresses of [`VmaCache::counts`], and what was there at entry.
    pub(crate) counts: [u64; 2],
    pub(crate) pages: [u64; 2],
    /// A write to a page that may not be written: how often its frame is mapped, and what it is.
    pub(crate) map_count: u32,
    pub(crate) frame: u32,
    /// When `handle_mm_fault` was last entered, when it was left, 0 before; and how long the calls took that had to be
    /// repeated, and their number.
    pub(crate) entered: u64,
    pub(crate) left: u64,
    pub(crate) waited: u64,
    pub(crate) retries: u32,
    pub(crate) pad_2: u32,
}

/// No fault is under way.
pub(crate) const CLOSED: u32 = 0;
/// A fault is under way.
pub(crate) const OPEN: u32 = 1;
/// And user space was told that it takes long.
pub(crate) const HELD: u32 = 2;

/// The last VMA that was found for this thread.
#[repr(C)]
pub(crate) struct VmaCache {
    /// Its address space; 0 when there is none.
    pub(crate) mm: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) flags: u64,
    pub(crate) file: u64,
    pub(crate) pgoff: u64,
    /// The identity of the address space's program.
    pub(crate) exe: u64,
    /// Where the kernel counts the pages that are shared: those in memory of shared memory and of a shared file, and all
    /// of shared memory. 0 for no such memory.
    pub(crate) counts: [u64; 2],
    /// `mm_lock_seq` when it was found: it holds while this is unchanged.
    pub(crate) seq: u32,
    /// Counts what was sent.
    pub(crate) serial: u32,
    /// The flags of its record.
    pub(crate) record_flags: u32,
    pub(crate) pad: u32,
}

/// The states. All are allocated in advance, as the tick may run anywhere.
#[map]
static STATES: Array<Thread> = Array::with_max_entries(MAX_THREADS, 0);

/// Which of them is whose, by the address of the `task_struct`: the key stays when an exec changes the thread's id.
#[map]
static THREADS: HashMap<u64, u32> = HashMap::with_max_entries(MAX_THREADS, 0);

/// Which of them are nobody's.
#[map]
static FREE: Stack<u32> = Stack::with_max_entries(MAX_THREADS, 0);

/// The state of the traced task that was on this CPU last: a look into the hash table costs as much as all else that is
/// done to enter a hook.
#[map]
static LAST: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Tasks that are not traced, as far as they were met last: most hooks run for such, and must be over at once. By a hash of the
/// address of the `task_struct`, with [`DirectMap::adoptions`] in it.
#[map]
static UNTRACED: Array<u64> = Array::with_max_entries(1 << UNTRACED_BITS, 0);
const UNTRACED_BITS: u32 = 11;

/// Where a new thread's state is put together: it is too large for the stack.
#[map]
static TEMPLATE: PerCpuArray<Thread> = PerCpuArray::with_max_entries(1, 0);

/// Runs a hook that is about the current task alone, unless nobody traces that.
#[inline(always)]
pub(crate) fn if_traced(hook: impl FnOnce()) {
    if let Some(map) = direct_map()
        && !is_untraced(map)
    {
        without_preemption(hook);
    }
}

/// The state of the task that runs on this CPU, if it is traced.
#[inline(always)]
pub(crate) fn find(task: Object) -> Option<&'static mut Thread> {
    let map = direct_map()?;
    if map.stopped != 0 {
        return None;
    }
    let task = task.address();
    // A hook that interrupts this one is about the same task.
    let last = verifier::scratch(&LAST)?;
    // A state knows whose it is: the last task may have ended, and its `task_struct` be another's.
    if let Some(state) = state(*last, task) {
        return Some(state);
    }
    // Before the look: what is taken under trace after it makes this void.
    let current = current_address();
    let untraced = mark(current, map);
    let Some(index) = index(task) else {
        note(current, untraced);
        return None;
    };
    *last = index;
    state(index, task)
}

/// Whether the current task was looked for in vain before.
#[inline(always)]
fn is_untraced(map: &DirectMap) -> bool {
    let task = current_address();
    UNTRACED.get(place(task)).copied() == Some(mark(task, map))
}

/// The address of the current task's `task_struct`: a number to calculate with.
#[inline(always)]
fn current_address() -> u64 {
    // SAFETY: the helper has no conditions.
    unsafe { generated::bpf_get_current_task() }
}

/// What is noted of an untraced task. Volatile: it must not be read later than the table is looked into.
#[inline(always)]
fn mark(task: u64, map: &DirectMap) -> u64 {
    // SAFETY: a valid reference.
    task ^ unsafe { ptr::read_volatile(&raw const map.adoptions) }
}

/// The place in [`UNTRACED`] for a task.
#[inline(always)]
fn place(task: u64) -> u32 {
    // By the upper half of a product with the golden ratio (Knuth).
    (task.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - UNTRACED_BITS)) as u32
}

/// Notes what is known of the task with this address.
#[inline(always)]
fn note(task: u64, mark: u64) {
    if let Some(noted) = UNTRACED.get_ptr_mut(place(task)) {
        // SAFETY: the map gives a valid pointer. Several CPUs may write it, each a whole word that is true.
        unsafe { ptr::write_volatile(noted, mark) };
    }
}

/// Tasks that ran already have been taken under trace, whom a hook may have met before.
#[inline(always)]
pub(crate) fn forget_untraced() {
    if let Some(map) = direct_map() {
        map.adoptions = map.adoptions.wrapping_add(1 << 48);
    }
}

/// The state of the task with this `task_struct`, if it is traced.
#[inline(always)]
pub(crate) fn find_address(task: u64) -> Option<&'static mut Thread> {
    if direct_map()?.stopped != 0 {
        return None;
    }
    state(index(task)?, task)
}

#[inline(always)]
fn index(task: u64) -> Option<u32> {
    // SAFETY: an index is written once, before it is in the table.
    unsafe { THREADS.get(task) }.copied()
}

/// The state with this index, if it is the task's.
#[inline(always)]
fn state(index: u32, task: u64) -> Option<&'static mut Thread> {
    let state = STATES.get_ptr_mut(index)?;
    // SAFETY: the map gives a valid pointer. The thread itself is the only writer; hooks that interrupt one another on
    // the same thread look at `busy` first.
    let state = unsafe { &mut *state };
    (state.task == task).then_some(state)
}

/// Begins to trace a task, of whose faults `counted` minor and major ones lie before. `false` when there are too many.
#[inline(always)]
pub(crate) fn insert(
    task: u64,
    pid: u32,
    tid: u32,
    (call, compat): (u32, u32),
    pre_exec_mm: u64,
    counted: [u64; 2],
) -> bool {
    // Its other members stay zero for good.
    let Some(new) = verifier::scratch(&TEMPLATE) else {
        return false;
    };
    new.task = task;
    new.known.pid = pid;
    new.known.tid = tid;
    new.known.ids = ids::ids(task);
    // A child's name is a copy of its parent's.
    read_into(task + u64::from(offset!(task_comm)), &mut new.known.comm);
    [new.known.tally.min_flt, new.known.tally.maj_flt] = counted;
    new.call = call;
    new.compat = compat;
    new.pre_exec_mm = pre_exec_mm;
    new.table.clear();
    let Ok(Some(free)) = FREE.pop() else {
        return false;
    };
    if STATES.set(free, &*new, 0).is_ok() && THREADS.insert(task, free, 0).is_ok() {
        // Its `task_struct` may have been an untraced task's.
        note(task, 0);
        return true;
    }
    release(free);
    false
}

/// Notes that all states are nobody's: once, before any trace. From user space that takes a system call for each.
#[inline(always)]
pub(crate) fn free_all() {
    repeat!(MAX_THREADS / FREED, free_some);
}

/// States that are freed in one go.
const FREED: u32 = 128;
const _: () = assert!(MAX_THREADS.is_multiple_of(FREED));

/// How many states have been freed.
#[map]
static FREED_STATES: Array<u32> = Array::with_max_entries(1, 0);

/// The next states are nobody's. Never 1, which would end it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn free_some() -> u32 {
    repeat!(FREED, free_next)
}

/// The next state is nobody's. Never 1, which would end it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn free_next() -> u32 {
    let Some(freed) = FREED_STATES.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: a valid pointer; memtrace itself is the only one that does this.
    let freed = unsafe { &mut *freed };
    *freed += 1;
    release(MAX_THREADS - *freed);
    0
}

/// Forgets a task.
#[inline(always)]
pub(crate) fn remove(task: Object) {
    let task = task.address();
    let Some(index) = index(task) else {
        return;
    };
    // The only failure is that it isn't there.
    let _ = THREADS.remove(task);
    if let Some(state) = state(index, task) {
        state.task = 0;
    }
    release(index);
}

/// The state is nobody's.
#[inline(always)]
fn release(index: u32) {
    // It was taken out of there, so there is room.
    let _ = FREE.push(index, 0);
}

impl Thread {
    /// The beginning of a record of the thread's.
    #[inline(always)]
    pub(crate) fn head(&self, kind: Kind, ts: u64) -> Header {
        ring::head(kind, self.known.tid, ts)
    }

    /// The same of a record of what the call under way has done.
    #[inline(always)]
    pub(crate) fn call_head(&self, kind: Kind, ts: u64) -> Header {
        Header {
            flags: self.compat as u8 * COMPAT_CALL,
            ..self.head(kind, ts)
        }
    }

    /// The address space is another: what was remembered of the old one is void.
    #[inline(always)]
    pub(crate) fn invalidate_caches(&mut self) {
        self.table.clear();
        self.vma.mm = 0;
    }
}
