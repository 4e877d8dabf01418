//! Finding the kernel's direct map by trial.
//!
//! Its base is fixed on some kernels, randomised on most, and its symbol not always readable. But `mm->pgd` is an
//! address in it, the base is aligned to 1 GiB (`kernel_randomize_memory` in `arch/x86/mm/kaslr.c`), and user space
//! knows the frames of its own pages from `/proc/self/pagemap`. So the base is right when a walk from it finds those
//! frames; two of them, so that chance can't. They are memtrace's own pages, so the caller is memtrace.

use aya_ebpf::programs::RawTracePointContext;
use memtrace_ebpf::{
    layout::{DirectMap, PROBE_CALL, PROBE_MAGIC, PROBE_STEPS},
    pte::PAGE_SIZE,
};

use crate::hooks::{
    kernel::{Object, config, offset, read_member},
    paging::{direct_map, walk},
    thread::Table,
};

const ALIGNMENT: u64 = 1 << 30;

/// Tries [`PROBE_STEPS`] bases, from the one that the arguments of memtrace's system call name.
#[inline(always)]
pub(crate) fn find(ctx: &RawTracePointContext) {
    let task = Object::current();
    if ctx.arg::<u64>(1) != PROBE_CALL {
        return;
    }
    let regs = task.registers();
    if regs.load::<u64>(offset!(regs_di)) != PROBE_MAGIC {
        return;
    }
    let first: u64 = regs.load(offset!(regs_si));
    let address: u64 = regs.load(offset!(regs_dx));
    let frames = config().frames;
    let Some(found) = direct_map() else { return };
    let pgd: u64 = read_member(task.follow(offset!(task_mm)).address(), offset!(mm_pgd));
    let tracer = u64::from(task.load::<u32>(offset!(task_tgid)));
    let mut cache = Table {
        tag: 0,
        slot: 0,
        bits: 0,
    };
    for step in 0..PROBE_STEPS {
        let base = (pgd & !(ALIGNMENT - 1)) - (first + step) * ALIGNMENT;
        for levels in [4, 5] {
            let map = DirectMap {
                base,
                levels,
                tracer,
            };
            if walk(map, pgd, address, &mut cache).pfn(address) == Some(frames[0])
                && walk(map, pgd, address + PAGE_SIZE, &mut cache).pfn(address + PAGE_SIZE)
                    == Some(frames[1])
            {
                *found = map;
                return;
            }
        }
    }
}
