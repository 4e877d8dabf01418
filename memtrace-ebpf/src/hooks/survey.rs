//! Surveying an address space: which pages are present and private. At a fork that is what parent and child share until a
//! write; at an attach what was there.
//!
//! A fork is surveyed in the child, which is set up and has not run: nothing in it changes meanwhile. Its page tables have
//! what the fork copied, and no more (`copy_page_range` in `mm/memory.c`).
//!
//! A hook keeps all others from its CPU. So a survey is of a bounded part, and says where the next begins: at an attach
//! memtrace asks for that; of a fork the rest is named as not surveyed, and what its pages are only their faults tell.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memtrace_ebpf::{
    arch,
    fault::vm,
    pte::{Entry, Level, PAGE_SIZE, next_table},
    record::{Header, Kind, Pages, Seen},
};

use crate::hooks::{
    file,
    kernel::{offset, read_into, read_member},
    paging::{direct_map, pmd_slot},
    program::program,
    repeat::repeat,
    ring, scan,
    tree::{self, Found, Lookup},
    vma,
};

/// Pages that a table of PTEs maps, and the bytes.
pub(crate) const TABLE_PAGES: u64 = 512;
const TABLE_SPAN: u64 = TABLE_PAGES * PAGE_SIZE;
/// Bytes that a table of PMDs maps.
const GIB: u64 = 1 << 30;
/// How many VMAs, tables and gaps are gone through at the most: each takes about a microsecond. That is 6 GiB, where all pages
/// are there.
const STEPS: u32 = 3072;
/// How many in one go: the verifier counts each.
const FEW: u32 = 64;
/// Entries of a table of PMDs that are looked at in one go: the verifier follows each.
const GROUP: u32 = 8;
/// How often a tree that is being changed is read again.
const TRIES: u32 = 1000;

/// A survey under way: too large for the stack.
#[repr(C)]
pub(crate) struct Survey {
    mm: u64,
    pgd: u64,
    ts: u64,
    tid: u32,
    seen: u32,
    /// Private pages in swap.
    pub(crate) swapped: u64,
    /// The identity of the program, and by whose root directory paths are told (`fs_struct`).
    exe: u64,
    fs: u64,
    /// The VMA, from where on it is surveyed, and where in it the survey is; beyond its end when the next is due.
    pub(crate) vma: Found,
    from: u64,
    at: u64,
    /// Where it had to stop, as a record could not be sent; or 0.
    stop: u64,
    /// Its pages, so far.
    pub(crate) resident: u64,
    pub(crate) private: u64,
    /// 1 when private pages can be among them; and when each must be asked whether it is one, as the VMA has a file.
    pub(crate) can_be_private: u32,
    pub(crate) must_ask: u32,
    /// 1 while the VMA is still to be sent; and how often the next one could not be read.
    unsent: u32,
    unreadable: u32,
    /// 1 when there are no more VMAs.
    complete: u32,
    pad: u32,
    /// Which table of PMDs is at hand, and the entry in it that is looked at.
    gib: u64,
    index: u64,
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
    pmds: [u64; TABLE_PAGES as usize],
}

#[map]
static SURVEY: PerCpuArray<Survey> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's survey. As with the tree's scratch, no reference is held while a global function runs.
#[inline(always)]
pub(crate) fn survey() -> Option<&'static mut Survey> {
    // SAFETY: a valid pointer to this CPU's survey; hooks that survey don't interrupt one another.
    SURVEY.get_ptr_mut(0).map(|survey| unsafe { &mut *survey })
}

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
pub(crate) fn survey_mm(mm: u64, from: u64, fs: u64, ts: u64, tid: u32, seen: Seen) -> Done {
    let exe = program(mm);
    if let Some(new) = survey() {
        new.mm = mm;
        new.pgd = read_member(mm, offset!(mm_pgd));
        new.ts = ts;
        new.tid = tid;
        new.seen = seen as u32;
        new.swapped = 0;
        new.exe = exe;
        new.fs = fs;
        new.vma = Found::NONE;
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

/// Some tables and VMAs. 1 ends the survey.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn go_far() -> u32 {
    repeat!(FEW, go_on)
}

/// The next table of the VMA, or the next VMA. 1 ends the survey.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn go_on() -> u32 {
    let Some(survey) = survey() else { return 1 };
    if survey.at < survey.vma.end {
        next_chunk(survey);
        u32::from(self::survey().is_none_or(|survey| survey.stop != 0))
    } else {
        next_vma()
    }
}

/// Where the survey has come to, when all of that is sent.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn finish() -> u64 {
    // A VMA of which a part is surveyed.
    let sent = send_vma();
    let Some(done) = survey() else { return 0 };
    if !sent {
        done.from
    } else if done.stop != 0 {
        done.stop
    } else if done.at < done.vma.end {
        done.at
    } else {
        // A table may go on beyond the VMA.
        done.vma.end
    }
}

/// Sends the VMA, if it is to be sent. `false` when that can't be done: then it still is.
#[inline(always)]
fn send_vma() -> bool {
    let Some(done) = survey() else { return false };
    let attach = done.seen == Seen::Attach as u32;
    if done.unsent == 0 || !(attach || done.private != 0) {
        return true;
    }
    let Some(outgoing) = vma::outgoing() else {
        return false;
    };
    outgoing.head = Header {
        ts: done.ts,
        tid: done.tid,
        kind: Kind::Vma as u8,
        flags: vma::record_flags(&done.vma, &file::backed(done.vma.file)),
        a: done.seen as u8,
        b: 0,
    };
    outgoing.mm = done.mm;
    outgoing.found = done.vma;
    outgoing.serial = 0;
    outgoing.exe = done.exe;
    outgoing.fs = done.fs;
    outgoing.pages = [done.resident, done.private];
    if vma::send_outgoing() != 0 {
        return false;
    }
    if let Some(sent) = survey() {
        sent.unsent = 0;
    }
    true
}

#[inline(always)]
fn next_vma() -> u32 {
    if !send_vma() {
        return 1;
    }
    let Some(before) = survey() else { return 1 };
    let from = before.vma.end;
    let lookup = if before.seen == Seen::Attach as u32 {
        tree::find_at_or_above(before.mm, from)
    } else {
        tree::find_next(before.mm, from)
    };
    let Some(next) = survey() else { return 1 };
    let found = match lookup {
        Lookup::Found(found) => found,
        Lookup::Nothing => {
            next.complete = 1;
            return 1;
        }
        Lookup::Unreadable => {
            // The tree is being changed, which takes a moment.
            next.unreadable += 1;
            return u32::from(next.unreadable > TRIES);
        }
    };
    next.vma = found;
    next.unsent = 1;
    next.resident = 0;
    next.private = 0;
    next.can_be_private =
        u32::from(found.flags & (vm::MAYSHARE | vm::PFNMAP) == 0 && found.anon != 0);
    next.must_ask = u32::from(found.ops != 0);
    // The first of a part may have been begun by the part before.
    next.from = if found.start < from {
        from
    } else {
        found.start
    };
    let skip = next.can_be_private == 0 && next.seen != Seen::Attach as u32;
    next.at = if skip || arch::is_kernel(found.start) {
        found.end
    } else {
        next.from
    };
    0
}

/// What one table of PTEs, or one entry above, has of the VMA; or a gap.
#[inline(always)]
fn next_chunk(survey: &mut Survey) {
    let Some(map) = direct_map() else {
        survey.at = survey.vma.end;
        return;
    };
    let at = survey.at;
    let mut entry = Entry::NONE;
    if survey.gib != at / GIB {
        match pmd_slot(map, survey.pgd, at) {
            Ok(slot) if read_into(slot & !(PAGE_SIZE - 1), &mut survey.pmds) => {
                survey.gib = at / GIB;
            }
            Ok(_) => {
                survey.at = (at | (GIB - 1)) + 1;
                return;
            }
            Err(above) if above.is_huge() => entry = above,
            Err(above) => {
                survey.at = (at | (above.level.span() - 1)) + 1;
                return;
            }
        }
    }
    if entry.is_none() {
        survey.index = at / TABLE_SPAN % TABLE_PAGES;
        repeat!(TABLE_PAGES as u32 / GROUP, skip_empty);
        let Some(survey) = self::survey() else { return };
        if survey.index >= TABLE_PAGES {
            survey.at = (at | (GIB - 1)) + 1;
            return;
        }
    }
    read_chunk(map.base, entry);
}

/// Goes on in the table of PMDs at hand to the next entry of the group that isn't empty, which ends it by 1, or to the next group.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn skip_empty() -> u32 {
    let Some(survey) = survey() else { return 1 };
    let index = survey.index;
    if index >= TABLE_PAGES {
        return 1;
    }
    let group = index & !u64::from(GROUP - 1);
    let (mut used, mut bit) = (0, 0);
    while bit < u64::from(GROUP) {
        // No branch: the verifier would follow each way, each time.
        let entry = survey.pmds[((group + bit) & (TABLE_PAGES - 1)) as usize];
        used |= ((entry | entry.wrapping_neg()) >> 63) << bit;
        bit += 1;
    }
    let rest = used & (u64::MAX << (index - group));
    if rest == 0 {
        survey.index = group + u64::from(GROUP);
        return 0;
    }
    survey.index = group + u64::from(rest.trailing_zeros());
    1
}

/// What the VMA has in the table or the larger page behind an entry: a given one, or the one of the table of PMDs.
#[inline(always)]
fn read_chunk(direct_map: u64, larger: Entry) {
    let Some(survey) = survey() else { return };
    let mut at = survey.at;
    let mut entry = larger;
    if larger.is_none() {
        let index = survey.index & (TABLE_PAGES - 1);
        let begin = (at & !(GIB - 1)) + index * TABLE_SPAN;
        if at < begin {
            at = begin;
        }
        entry = Entry {
            bits: survey.pmds[index as usize],
            level: Level::Pmd,
        };
    }
    let base = at & !(TABLE_SPAN - 1);
    let after = base + TABLE_SPAN;
    survey.at = after;
    let end = if survey.vma.end < after {
        survey.vma.end
    } else {
        after
    };
    if at >= end {
        return;
    }
    survey.first = (at - base) / PAGE_SIZE;
    survey.last = (end - 1 - base) / PAGE_SIZE;
    survey.first_word = (survey.first / 64) as u32 & 7;
    survey.words = (survey.last / 64) as u32 - survey.first_word + 1;
    survey.record.mm = survey.mm;
    survey.record.first = base / PAGE_SIZE;
    survey.record.present = [0; 8];
    survey.record.writable = [0; 8];
    let before = [survey.resident, survey.private];
    if let Some(table) = next_table(entry.bits) {
        scan::read_table(survey, direct_map + table);
    } else if entry.is_huge() {
        scan::read_huge(entry.bits, entry.level as u32, at);
    }
    send_pages(at, before);
}

/// Sends the pages of a table, if there were any private ones. If that can't be done, the survey ends before them.
#[inline(always)]
fn send_pages(at: u64, before: [u64; 2]) {
    let Some(survey) = survey() else { return };
    if survey.private == before[1] {
        return;
    }
    survey.record.head = Header {
        ts: survey.ts,
        tid: survey.tid,
        kind: Kind::Pages as u8,
        flags: 0,
        a: survey.seen as u8,
        b: 0,
    };
    let record: *mut Pages = &raw mut survey.record;
    if !ring::try_send_bytes(record.cast(), size_of::<Pages>() as u64) {
        survey.stop = at;
        [survey.resident, survey.private] = before;
    }
}
