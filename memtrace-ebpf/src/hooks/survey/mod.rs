//! Surveying an address space: which pages are present and private. At a fork that is what parent and child share until a
//! write; at an attach what was there.
//!
//! A fork is surveyed in the child, which is set up and has not run: nothing in it changes meanwhile. Its page tables have
//! what the fork copied, and no more (`copy_page_range` in `mm/memory.c`).
//!
//! A hook keeps all others from its CPU. So a survey is of a bounded part, and says where the next begins: at an attach
//! memtrace asks for that; of a fork the rest is named as not surveyed, and what its pages are only their faults tell.

use memtrace_ebpf::record::VmaReason;

use crate::hooks::{
    kernel::{offset, read_member},
    program::program,
    tree::VmaFields,
    verifier::repeat,
};

mod emit;
mod state;
mod table;
mod walk;

use emit::finish;
use state::survey;
use walk::{FEW, go_far};

/// How many VMAs, tables and gaps are gone through at the most: each takes about a microsecond. That is 6 GiB, where all pages
/// are there.
const STEPS: u32 = 3072;

/// What came of a survey.
pub(crate) struct Done {
    /// Private pages in swap.
    pub(crate) swapped: u64,
    /// From here on nothing is surveyed.
    pub(crate) next: u64,
    /// There is nothing from there on.
    pub(crate) complete: bool,
    /// The identity of the address space's program.
    pub(crate) exe: u64,
}

/// Surveys the address space at `mm` from an address on, for records of the thread `tid`, with paths as a task with this `fs`
/// knows them.
#[inline(always)]
pub(crate) fn survey_mm(mm: u64, from: u64, fs: u64, ts: u64, tid: u32, reason: VmaReason) -> Done {
    let exe = program(mm);
    if let Some(new) = survey() {
        new.mm = mm;
        new.pgd = read_member(mm, offset!(mm_pgd));
        new.ts = ts;
        new.tid = tid;
        new.reason = reason as u32;
        new.swapped = 0;
        new.exe = exe;
        new.fs = fs;
        new.vma = VmaFields::NONE;
        new.vma.end = from;
        new.at = from;
        new.stop = 0;
        new.unsent = 0;
        new.unreadable = 0;
        new.complete = 0;
        new.gib = u64::MAX;
    }
    repeat!(STEPS / FEW, go_far);
    let next = finish();
    let done = survey();
    Done {
        swapped: done.as_ref().map_or(0, |done| done.swapped),
        next,
        complete: done.is_some_and(|done| done.complete != 0),
        exe,
    }
}
