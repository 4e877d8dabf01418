//! What the kernel and the hooks count: a fault that the kernel has counted is over.

use memtrace_ebpf::{
    fault::{Kind as FaultKind, vm},
    pte::Entry,
    record::{FAULT_FRESH, FAULT_GREW, FAULT_MAJOR, FAULT_MINOR, Frame},
};

use crate::hooks::{
    cache,
    fault::{address::frame_use, kind::open_kind},
    kernel::{Object, config, offset, read_member},
    thread::{CLOSED, Thread},
    verifier::launder_scalar,
};

/// Faults that the kernel has counted on a thread and that no record tells of yet.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) minor: u64,
    pub(crate) major: u64,
}

impl Counted {
    /// Those since the last time.
    #[inline(always)]
    pub(crate) fn since_last(thread: &mut Thread, task: Object) -> Self {
        let min_flt: u64 = task.load(offset!(task_min_flt));
        let maj_flt: u64 = task.load(offset!(task_maj_flt));
        let new = Self {
            minor: min_flt - thread.known.tally.min_flt,
            major: maj_flt - thread.known.tally.maj_flt,
        };
        thread.known.tally.min_flt = min_flt;
        thread.known.tally.maj_flt = maj_flt;
        new
    }

    /// The one of a fault with these flags, if the kernel has counted it.
    #[inline(always)]
    pub(crate) fn of(flags: u8) -> Self {
        Self {
            minor: u64::from(flags & FAULT_MINOR != 0),
            major: u64::from(flags & FAULT_MAJOR != 0),
        }
    }

    /// Takes one away for an exception: the flag of its fault. One exception is one fault; the kernel counts it once, as major
    /// if it had to be retried.
    #[inline(always)]
    pub(crate) fn take_one(&mut self) -> u8 {
        if self.major > 0 {
            self.major -= 1;
            FAULT_MAJOR
        } else if self.minor > 0 {
            self.minor -= 1;
            FAULT_MINOR
        } else {
            0
        }
    }
}

/// Whether the thread has a fault under way that is over: the kernel has counted one since the last was closed.
#[inline(always)]
pub(crate) fn is_over(thread: &Thread, task: Object) -> bool {
    thread.open.state != CLOSED && thread.open.inside == 0 && has_counted(thread, task)
}

/// Whether the kernel has counted faults on the thread that were not accounted for yet.
#[inline(always)]
pub(crate) fn has_counted(thread: &Thread, task: Object) -> bool {
    task.load::<u64>(offset!(task_min_flt)) != thread.known.tally.min_flt
        || task.load::<u64>(offset!(task_maj_flt)) != thread.known.tally.maj_flt
}

/// Notes how many pages there are of the shared memory or shared file that the fault is in.
#[inline(always)]
pub(crate) fn count_pages(thread: &mut Thread) {
    let [present, all] = thread.open.counts;
    if present != 0 {
        thread.open.pages = [read_member(present, 0), read_member(all, 0)];
    }
}

/// What the pages of the shared memory, shared file or pool that the fault is in say of it now: flags of the fault, which
/// ended with this entry of this level.
#[inline(always)]
pub(crate) fn compare_pages(thread: &Thread, after: Entry, level: u8) -> u8 {
    let ([present, all], [pages, all_pages]) = (thread.open.counts, thread.open.pages);
    if present != 0 {
        let grew = read_member::<u64>(present, 0) > pages;
        let fresh = read_member::<u64>(all, 0) > all_pages;
        return (u8::from(grew) * FAULT_GREW) | (u8::from(fresh) * FAULT_FRESH);
    }
    if thread.vma.flags & vm::HUGETLB == 0 {
        return 0;
    }
    // The pool's pages that are nobody else's aren't in the mapping (hugetlb_no_page in mm/hugetlb.c), nor is the copy of
    // one that is there: then that is, too.
    let address = thread.open.address;
    let frame = (frame_use(after.bits, u32::from(level), address) >> 32) as u32;
    let copied = cache::has_page(thread.vma.file, index_of(thread, address, level));
    let fresh = frame == Frame::Anonymous as u32 && copied == 0;
    u8::from(fresh) * FAULT_FRESH
}

/// The place of a page of hugetlbfs's, whose entry is of this level, in the file (`vma_hugecache_offset` in `mm/hugetlb.c`).
#[inline(always)]
fn index_of(thread: &Thread, address: u64, level: u8) -> u64 {
    let index = ((address - thread.vma.start) >> 12) + thread.vma.pgoff;
    let order = (u32::from(level) * 9).wrapping_sub(9) & (u64::BITS - 1);
    index >> (order * config!(one_by_one))
}

/// Counts faults of memtrace's own, before the exec.
#[inline(always)]
pub(crate) fn count_pre_exec(thread: &mut Thread, counted: Counted) {
    thread.pre_exec_faults[0] += counted.minor as u32;
    thread.pre_exec_faults[1] += counted.major as u32;
}

/// With `--summary`: counts the open fault by its kind. `false` if it is not to be sent.
#[inline(always)]
pub(crate) fn count_by_kind(
    thread: &mut Thread,
    after: u64,
    level: u8,
    flags: u8,
    signal: u32,
) -> bool {
    let counted = flags & (FAULT_MINOR | FAULT_MAJOR) != 0;
    let kind = open_kind(after, u32::from(level), u32::from(flags), signal);
    let kind = launder_scalar(kind, &mut thread.launder_scalar) as usize;
    if let Some(count) = thread.known.tally.kinds.get_mut(kind) {
        *count += 1;
    }
    thread.known.tally.counted[usize::from(flags & FAULT_MAJOR != 0)] += u32::from(counted);
    // The accounts of forks need these.
    kind == FaultKind::CowCopy as usize || kind == FaultKind::CowReuse as usize
}
