//! A survey under way.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memtrace_ebpf::record::Pages;

use crate::hooks::{tree::VmaFields, verifier};

/// Pages that a table of PTEs maps.
pub(crate) const TABLE_PAGES: u64 = 512;

/// A survey under way: too large for the stack.
#[repr(C)]
pub(crate) struct Survey {
    pub(crate) mm: u64,
    pub(crate) pgd: u64,
    pub(crate) ts: u64,
    pub(crate) tid: u32,
    pub(crate) reason: u32,
    /// Private pages in swap.
    pub(crate) swapped: u64,
    /// The identity of the program, and by whose root directory paths are told (`fs_struct`).
    pub(crate) exe: u64,
    pub(crate) fs: u64,
    /// The VMA, from where on it is surveyed, and where in it the survey is; beyond its end when the next is due.
    pub(crate) vma: VmaFields,
    pub(crate) from: u64,
    pub(crate) at: u64,
    /// Where it had to stop, as a record could not be sent; or 0.
    pub(crate) stop: u64,
    /// Its pages, so far.
    pub(crate) resident: u64,
    pub(crate) private: u64,
    /// 1 when private pages can be among them; and when each must be asked whether it is one, as the VMA has a file.
    pub(crate) can_be_private: u32,
    pub(crate) must_ask: u32,
    /// 1 while the VMA is still to be sent; and how often the next one could not be read.
    pub(crate) unsent: u32,
    pub(crate) unreadable: u32,
    /// 1 when there are no more VMAs.
    pub(crate) complete: u32,
    pub(crate) pad: u32,
    /// Which table of PMDs is at hand, and the entry in it that is looked at.
    pub(crate) gib: u64,
    pub(crate) index: u64,
    /// The pages of the VMA in the table of PTEs, and that table's words from the first of interest on.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) first_word: u32,
    pub(crate) words: u32,
    /// The next word of entries, the next group in it, and the next entry that is asked.
    pub(crate) word: u32,
    pub(crate) group: u32,
    pub(crate) asked: u64,
    /// Of a group of entries those that are private pages, and those that must be asked.
    pub(crate) sure: u64,
    pub(crate) unsure: u64,
    pub(crate) record: Pages,
    pub(crate) table: [u64; TABLE_PAGES as usize],
    pub(crate) pmds: [u64; TABLE_PAGES as usize],
}

#[map]
static SURVEY: PerCpuArray<Survey> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's survey. As with the tree's scratch, no reference is held while a global function runs.
#[inline(always)]
pub(crate) fn survey() -> Option<&'static mut Survey> {
    verifier::scratch(&SURVEY)
}
