//! Finding the kernel's direct map by trial.
//!
//! Its base is fixed on some kernels, randomised on most, and its symbol not always readable. But `mm->pgd` is an
//! address in it, the base is aligned ([`DIRECT_MAP_ALIGNMENT`]), and user space
//! knows the frames of its own pages from `/proc/self/pagemap`. So the base is right when a walk from it finds those
//! frames; two of them, so that chance can't. They are memtrace's own pages, so the caller is memtrace.
//!
//! The array of `struct page` (`vmemmap`) is found likewise: a file of one page has that page's `struct page` in its page cache
//! (`i_pages.xa_head`), and memtrace knows the frame of each of two such files of its own.

use aya_ebpf::programs::RawTracePointContext;
use memtrace_ebpf::{
    arch::{DIRECT_MAP_ALIGNMENT, LEVELS},
    control::{DirectMap, PROBE_CALL, PROBE_MAGIC, PROBE_STEPS},
    layout::PAGE_STRUCT,
    pte::PAGE_SIZE,
};

use crate::hooks::{
    direct_map::direct_map,
    ids::{UPID, UPID_NS},
    kernel::{Object, config, offset, read_member},
    paging::{TableCache, walk},
    thread,
    tree::{self, Lookup},
};

/// How many pages after those whose frames tell the direct map the two pages of files are.
const FILE_PAGES: u64 = 3;

/// Tries [`PROBE_STEPS`] bases, from the one that the arguments of memtrace's system call name.
#[inline(always)]
pub(crate) fn find(ctx: &RawTracePointContext) {
    let task = Object::current();
    if ctx.arg::<u64>(1) != PROBE_CALL {
        return;
    }
    let regs: u64 = ctx.arg(0);
    let frames = config!(frames);
    // Another memtrace that starts at the same time has other pages: what it tries is none of this one's.
    if read_member::<u64>(regs, offset!(regs_arg_0)) != PROBE_MAGIC ^ frames[0] {
        return;
    }
    let first: u64 = read_member(regs, offset!(regs_arg_1));
    let address: u64 = read_member(regs, offset!(regs_arg_2));
    let Some(found) = direct_map() else { return };
    let pgd: u64 = read_member(task.follow(offset!(task_mm)).address(), offset!(mm_pgd));
    let tracer = u64::from(task.load::<u32>(offset!(task_tgid)));
    let mut cache = TableCache::empty();
    for step in 0..PROBE_STEPS {
        let base = (pgd & !(DIRECT_MAP_ALIGNMENT - 1)) - (first + step) * DIRECT_MAP_ALIGNMENT;
        for levels in LEVELS {
            let map = DirectMap {
                base,
                levels,
                tracer,
                ..DirectMap::default()
            };
            if walk(&map, pgd, address, &mut cache).pfn(address) == Some(frames[0])
                && walk(&map, pgd, address + PAGE_SIZE, &mut cache).pfn(address + PAGE_SIZE)
                    == Some(frames[1])
            {
                *found = map;
                found.registers = regs.wrapping_sub(task.load(offset!(task_stack)));
                find_vmemmap(found, task, address + FILE_PAGES * PAGE_SIZE);
                find_namespace(found, task);
                thread::free_all();
                return;
            }
        }
    }
    found.untried = first + PROBE_STEPS;
}

/// Finds where the `struct page` of frame 0 would be, if the pages at `address` and after are what user space said.
#[inline(always)]
fn find_vmemmap(map: &mut DirectMap, task: Object, address: u64) {
    let mm = task.follow(offset!(task_mm)).address();
    let frames = config!(file_frames);
    let first = array_of(mm, address, frames[0]);
    if first != 0 && first == array_of(mm, address + PAGE_SIZE, frames[1]) {
        map.vmemmap = first;
    }
}

/// Where the array begins if the page of the file that is mapped at `address` has this frame; 0 if that can't be told.
#[inline(always)]
fn array_of(mm: u64, address: u64, frame: u64) -> u64 {
    let Lookup::Found(vma) = tree::find_at_or_above(mm, address) else {
        return 0;
    };
    let mapping: u64 = read_member(vma.file, offset!(file_mapping));
    let page: u64 = read_member(mapping, offset!(mapping_first));
    page.wrapping_sub(frame * PAGE_STRUCT)
}

/// memtrace's own pid namespace: the innermost of its ids (`task_active_pid_ns` in `kernel/pid.c`).
#[inline(always)]
fn find_namespace(map: &mut DirectMap, task: Object) {
    let pid: u64 = task.load(offset!(task_thread_pid));
    let level = u64::from(read_member::<u32>(pid, offset!(pid_level)));
    map.pid_level = level;
    map.pid_ns = read_member(
        pid + u64::from(offset!(pid_numbers)) + level * UPID + UPID_NS,
        0,
    );
}
