//! What a survey finds in one table of page-table entries.

use core::hint::black_box;

use memtrace_ebpf::{
    arch,
    fault::vm,
    pte::{Entry, Level, SWAP_TYPES},
};

use crate::hooks::{
    frame,
    kernel::config,
    survey::state::{Survey, TABLE_PAGES, survey},
    verifier::repeat,
};

/// Entries that a word's bits are.
const WORD: u64 = 64;
const WORDS: u32 = 8;
/// Entries that are looked at in one go: the verifier follows each, so few. And how many such groups a word's bits are.
const GROUP: u64 = 8;
const GROUPS: u32 = (WORD / GROUP) as u32;

/// Looks at an entry of this level for a page that is larger than a table's span, or as large.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_huge(bits: u64, level: u32, at: u64) -> u32 {
    let Some(survey) = survey() else { return 0 };
    let entry = Entry {
        bits,
        level: Level::from_number(level as u8),
    };
    let count = survey.last - survey.first + 1;
    // hugetlbfs has operations, the huge zero page is no anonymous one.
    let anonymous = frame::is_anonymous(entry.pfn(at).unwrap_or(0));
    if anonymous || survey.vma.ops != 0 {
        survey.resident += count;
    }
    if survey.can_be_private == 0 || !anonymous {
        return 0;
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
    0
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

/// The entries of the table at the kernel address `table`.
#[inline(always)]
pub(crate) fn read_table(survey: &mut Survey, table: u64) {
    let words = if survey.words > WORDS {
        WORDS
    } else {
        survey.words
    };
    let from = table + u64::from(survey.first_word) * 512;
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
        survey.word = 0;
        survey.words = words;
        repeat!(WORDS, scan_word);
    }
}

/// Looks at the next word's entries. 1 ends it.
///
/// Most words are empty, or their entries all say the same: then a look at what they have in common is enough.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_word() -> u32 {
    let Some(survey) = survey() else { return 1 };
    if survey.word >= survey.words {
        return 1;
    }
    let first = u64::from(survey.word & (WORDS - 1)) * WORD;
    survey.word += 1;
    let (mut any, mut all) = (0, u64::MAX);
    let mut at = 0;
    while at < WORD {
        let entry = survey.table[((first + at) & (TABLE_PAGES - 1)) as usize];
        any |= entry;
        all &= entry;
        at += 1;
    }
    if any == 0 {
        return 0;
    }
    let alike = (any ^ all) & arch::RIGHTS == 0 && arch::present(all) != 0;
    let sure = survey.must_ask == 0 || arch::dirty(all) != 0;
    if !alike || !sure || any & arch::SPECIAL != 0 {
        survey.group = first as u32 / GROUP as u32;
        repeat!(GROUPS, scan_group);
        return 0;
    }
    let word = (u64::from(survey.first_word) + first / WORD) & 7;
    let pages = mask(survey.first, survey.last, word);
    let count = u64::from(pages.count_ones());
    if survey.vma.flags & vm::PFNMAP == 0 {
        survey.resident += count;
    }
    if survey.can_be_private != 0 {
        survey.private += count;
        let writable = 0_u64.wrapping_sub(arch::writable(all));
        survey.record.present[word as usize] |= pages;
        survey.record.writable[word as usize] |= pages & writable;
    }
    0
}

/// Looks at the next group of entries. Never 1, which would end it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_group() -> u32 {
    let Some(survey) = survey() else { return 1 };
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
