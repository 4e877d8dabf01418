//! Surveying an address space: which pages are present and private. At a fork that is what parent and child share until a
//! write; at an attach what was there.
//!
//! A fork is surveyed in the child, which is set up and has not run: nothing in it changes meanwhile. Its page tables have
//! what the fork copied, and no more (`copy_page_range` in `mm/memory.c`).

use core::hint::black_box;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memtrace_ebpf::{
    arch,
    fault::vm,
    pte::{Entry, Level, PAGE_SIZE, SWAP_TYPES, next_table},
    record::{Header, Kind, Pages, Seen},
};

use crate::hooks::{
    file, frame,
    kernel::{config, offset, read_member},
    paging::{direct_map, walk},
    repeat::repeat,
    ring,
    thread::Table,
    tree::{self, Found, Lookup},
    vma,
};

/// Pages that a table of PTEs maps, and the bytes.
const TABLE_PAGES: u64 = 512;
const TABLE_SPAN: u64 = TABLE_PAGES * PAGE_SIZE;
/// Entries that are looked at in one go: the verifier follows each, so few. And how many such groups a word's bits are.
const GROUP: u64 = 16;
const GROUPS: u32 = 64 / GROUP as u32;
/// As many times as many VMAs, tables and gaps are gone through at the most: 2 TiB of pages.
const STEPS: u32 = 1024;
/// How often a tree that is being changed is read again.
const TRIES: u32 = 1000;

/// A survey under way: too large for the stack.
#[repr(C)]
struct Survey {
    mm: u64,
    pgd: u64,
    ts: u64,
    tid: u32,
    seen: u32,
    /// Private pages in swap.
    swapped: u64,
    /// The identity of the program, and by whose root directory paths are told (`fs_struct`).
    exe: u64,
    fs: u64,
    /// The VMA, and where in it the survey is; beyond its end when the next is due.
    vma: Found,
    at: u64,
    /// Its pages, so far.
    resident: u64,
    private: u64,
    /// 1 when private pages can be among them; and when each must be asked whether it is one, as the VMA has a file.
    can_be_private: u32,
    must_ask: u32,
    /// 1 while the VMA is still to be sent; and how often the next one could not be read.
    unsent: u32,
    unreadable: u32,
    /// The table: what is cached of the way, the pages of the VMA in it, and its words from the first of interest on.
    cache: Table,
    first: u64,
    last: u64,
    first_word: u32,
    words: u32,
    /// The next group of entries, how many there are, and the next entry that is asked.
    group: u32,
    groups: u32,
    asked: u64,
    /// Of a group of entries those that are private pages, and those that must be asked.
    sure: u64,
    unsure: u64,
    record: Pages,
    table: [u64; TABLE_PAGES as usize],
}

#[map]
static SURVEY: PerCpuArray<Survey> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's survey. As with the tree's scratch, no reference is held while a global function runs.
#[inline(always)]
fn survey() -> Option<&'static mut Survey> {
    // SAFETY: a valid pointer to this CPU's survey; hooks that survey don't interrupt one another.
    SURVEY.get_ptr_mut(0).map(|survey| unsafe { &mut *survey })
}

/// Surveys the address space at `mm`, for records of the thread `tid`, with paths as a task with this `fs` knows them. Returns how many private pages are in swap.
#[inline(always)]
pub(crate) fn survey_mm(mm: u64, fs: u64, ts: u64, tid: u32, seen: Seen) -> u64 {
    let exe = file::identify(read_member(mm, offset!(mm_exe_file)));
    let Some(new) = survey() else { return 0 };
    new.mm = mm;
    new.pgd = read_member(mm, offset!(mm_pgd));
    new.ts = ts;
    new.tid = tid;
    new.seen = seen as u32;
    new.swapped = 0;
    new.exe = exe;
    new.fs = fs;
    new.vma = Found::NONE;
    new.at = 0;
    new.unsent = 0;
    new.unreadable = 0;
    repeat!(STEPS, go_far);
    survey().map_or(0, |done| done.swapped)
}

/// Some tables and VMAs. 1 ends the survey.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn go_far() -> u32 {
    repeat!(STEPS, go_on)
}

/// The next table of the VMA, or the next VMA. 1 ends the survey.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn go_on() -> u32 {
    let Some(survey) = survey() else { return 1 };
    if survey.at < survey.vma.end {
        next_chunk(survey);
        0
    } else {
        next_vma(survey)
    }
}

#[inline(always)]
fn next_vma(done: &mut Survey) -> u32 {
    let attach = done.seen == Seen::Attach as u32;
    if done.unsent != 0 && (attach || done.private != 0) {
        done.unsent = 0;
        let seen = if attach { Seen::Attach } else { Seen::Fork };
        let Some(outgoing) = vma::outgoing() else {
            return 1;
        };
        outgoing.head = Header {
            ts: done.ts,
            tid: done.tid,
            kind: Kind::Vma as u8,
            flags: vma::record_flags(&done.vma, &file::backed(done.vma.file)),
            a: seen as u8,
            b: 0,
        };
        outgoing.mm = done.mm;
        outgoing.found = done.vma;
        outgoing.serial = 0;
        outgoing.exe = done.exe;
        outgoing.fs = done.fs;
        outgoing.pages = [done.resident, done.private];
        vma::send_outgoing();
    }
    let Some(before) = survey() else { return 1 };
    let lookup = if attach {
        tree::find_at_or_above(before.mm, before.vma.end)
    } else {
        tree::find_next(before.mm, before.vma.end)
    };
    let found = match lookup {
        Lookup::Found(found) => found,
        Lookup::Nothing => return 1,
        Lookup::Unreadable => {
            // The tree is being changed, which takes a moment.
            let Some(again) = survey() else { return 1 };
            again.unreadable += 1;
            return u32::from(again.unreadable > TRIES);
        }
    };
    let Some(next) = survey() else { return 1 };
    next.vma = found;
    next.unsent = 1;
    next.resident = 0;
    next.private = 0;
    next.can_be_private =
        u32::from(found.flags & (vm::MAYSHARE | vm::PFNMAP) == 0 && found.anon != 0);
    next.must_ask = u32::from(found.ops != 0);
    let skip = next.can_be_private == 0 && next.seen != Seen::Attach as u32;
    next.at = if skip || arch::is_kernel(found.start) {
        found.end
    } else {
        found.start
    };
    0
}

/// What one table of PTEs, or one entry above, has of the VMA.
#[inline(always)]
fn next_chunk(survey: &mut Survey) {
    let Some(map) = direct_map() else {
        survey.at = survey.vma.end;
        return;
    };
    let at = survey.at;
    let entry = walk(map, survey.pgd, at, &mut survey.cache);
    if entry.level != Level::Pte && !entry.is_huge() {
        let span = entry.level.span();
        survey.at = (at | (span - 1)) + 1;
        return;
    }
    let base = at & !(TABLE_SPAN - 1);
    let after = base + TABLE_SPAN;
    let end = if survey.vma.end < after {
        survey.vma.end
    } else {
        after
    };
    survey.at = after;
    survey.first = (at - base) / PAGE_SIZE;
    survey.last = (end - 1 - base) / PAGE_SIZE;
    survey.first_word = (survey.first / 64) as u32 & 7;
    survey.words = (survey.last / 64) as u32 - survey.first_word + 1;
    survey.record.mm = survey.mm;
    survey.record.first = base / PAGE_SIZE;
    survey.record.present = [0; 8];
    survey.record.writable = [0; 8];
    let private = survey.private;
    if entry.level == Level::Pte {
        read_table(survey, map.base);
    } else {
        read_huge(survey, entry, at);
    }
    send(private);
}

/// Sends the pages of a table, if there were any private ones.
#[inline(always)]
fn send(private_before: u64) {
    let Some(survey) = survey() else { return };
    if survey.private == private_before {
        return;
    }
    survey.record.head = Header {
        ts: survey.ts,
        tid: survey.tid,
        kind: Kind::Pages as u8,
        ..Header::default()
    };
    let record: *mut Pages = &raw mut survey.record;
    ring::send_bytes(Kind::Pages, record.cast(), size_of::<Pages>() as u64);
}

/// A page that is larger than a table's span, or as large.
#[inline(always)]
fn read_huge(survey: &mut Survey, entry: Entry, at: u64) {
    let count = survey.last - survey.first + 1;
    // hugetlbfs has operations, the huge zero page is no anonymous one.
    let anonymous = frame::is_anonymous(entry.pfn(at).unwrap_or(0));
    if anonymous || survey.vma.ops != 0 {
        survey.resident += count;
    }
    if survey.can_be_private == 0 || !anonymous {
        return;
    }
    survey.private += count;
    let writable = if entry.is_writable() { u64::MAX } else { 0 };
    let mut word = 0;
    while word < 8 {
        let mask = mask(survey.first, survey.last, word);
        survey.record.present[word as usize] = mask;
        survey.record.writable[word as usize] = mask & writable;
        word += 1;
    }
}

/// The bits of a word that stand for pages from `first` to `last`.
#[inline(always)]
fn mask(first: u64, last: u64, word: u64) -> u64 {
    below(above(last + 1, word * 64)) & !below(above(first, word * 64))
}

/// How far `number` is above `base`, 0 if it isn't. No branch, here and below: the verifier would follow each way.
#[inline(always)]
fn above(number: u64, base: u64) -> u64 {
    let difference = number.wrapping_sub(base);
    difference & (difference >> 63).wrapping_sub(1)
}

/// As many of the lowest bits.
#[inline(always)]
fn below(count: u64) -> u64 {
    let all = 0_u64.wrapping_sub(63_u64.wrapping_sub(count) >> 63);
    ((1 << (count & 63)) - 1) | all
}

#[inline(always)]
fn read_table(survey: &mut Survey, direct_map: u64) {
    let Some(table) = next_table(survey.cache.bits) else {
        return;
    };
    let words = if survey.words > 8 { 8 } else { survey.words };
    let from = direct_map + table + u64::from(survey.first_word) * 512;
    let memory = survey.table.as_mut_ptr();
    // SAFETY: the helper checks the address, and the table has room for eight words of 64 entries each.
    let failed = unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_kernel(
            memory.cast(),
            words * 512,
            from as *const _,
        )
    };
    if failed == 0 {
        survey.group = 0;
        survey.groups = words * GROUPS;
        repeat!(TABLE_PAGES as u32 / GROUP as u32, scan);
    }
}

/// Looks at the next group of entries. 1 ends it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan() -> u32 {
    let Some(survey) = survey() else { return 1 };
    if survey.group >= survey.groups {
        return 1;
    }
    let zero = u64::from(config!(zero_pfn));
    let first = u64::from(survey.group & (TABLE_PAGES / GROUP - 1) as u32) * GROUP;
    survey.group += 1;
    let (mut present, mut writable, mut dirty, mut zeros, mut swapped) = (0, 0, 0, 0, 0);
    let mut bit = 0;
    while bit < GROUP {
        // No branch: the verifier would follow each way, each time; and none that the compiler makes of bits together.
        let entry = survey.table[((first + bit) & (TABLE_PAGES - 1)) as usize];
        let there = black_box(arch::present(entry));
        writable |= (there & arch::writable(entry)) << bit;
        let there = there | black_box(arch::prot_none(entry));
        present |= there << bit;
        dirty |= arch::dirty(entry) << bit;
        zeros |= (((entry & arch::FRAME) >> 12 ^ zero).wrapping_sub(1) >> 63) << bit;
        let used = (entry | entry.wrapping_neg()) >> 63;
        let swap = arch::swap_type(entry).wrapping_sub(SWAP_TYPES) >> 63;
        swapped |= (used & swap & !there & 1) << bit;
        bit += 1;
    }
    let page = u64::from(survey.first_word) * 64 + first;
    let word = (page / 64) & 7;
    let shift = page & 63;
    let mask = mask(survey.first, survey.last, word) >> shift;
    present &= mask;
    // As smaps has it: neither the zero page nor what has no struct page (vm_normal_page in mm/memory.c).
    if survey.vma.flags & vm::PFNMAP == 0 {
        survey.resident += u64::from((present & !zeros).count_ones());
    }
    if survey.can_be_private == 0 {
        return 0;
    }
    survey.swapped += u64::from((swapped & mask).count_ones());
    // What a private mapping of a file has written is anonymous memory.
    survey.sure = if survey.must_ask == 0 {
        present & !zeros
    } else {
        present & dirty
    };
    survey.unsure = present & !survey.sure & !zeros;
    if survey.must_ask != 0 && survey.unsure != 0 {
        survey.asked = first;
        repeat!(GROUP as u32, ask);
    }
    let Some(survey) = self::survey() else {
        return 1;
    };
    let private = survey.sure;
    survey.private += u64::from(private.count_ones());
    survey.record.present[word as usize & 7] |= private << shift;
    survey.record.writable[word as usize & 7] |= (private & writable) << shift;
    0
}

/// Asks the next page of a group whether it is anonymous memory. Never 1, which would end it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ask() -> u32 {
    let Some(survey) = survey() else { return 1 };
    let page = survey.asked & (TABLE_PAGES - 1);
    survey.asked += 1;
    let bit = page & (GROUP - 1);
    if survey.unsure >> bit & 1 == 0 {
        return 0;
    }
    let entry = survey.table[page as usize];
    if frame::is_anonymous((entry & arch::FRAME) >> 12) {
        survey.sure |= 1 << bit;
    }
    0
}
