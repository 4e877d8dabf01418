//! The way of a survey: from VMA to VMA, and in each from table to table.

use memtrace_ebpf::{
    arch,
    fault::vm,
    pte::{Entry, Level, PAGE_SIZE, next_table},
    record::VmaReason,
};

use crate::hooks::{
    direct_map::direct_map,
    kernel::read_into,
    paging::pmd_slot,
    survey::{
        emit::{send_pages, send_vma},
        state::{Survey, TABLE_PAGES, survey},
        table,
    },
    tree::{self, Lookup},
    verifier::repeat,
};

/// Bytes that a table of PTEs maps.
const TABLE_SPAN: u64 = TABLE_PAGES * PAGE_SIZE;
/// Bytes that a table of PMDs maps.
const GIB: u64 = 1 << 30;
/// How many VMAs, tables and gaps are gone through in one go: the verifier counts each.
pub(crate) const FEW: u32 = 64;
/// Entries of a table of PMDs that are looked at in one go: the verifier follows each.
const GROUP: u32 = 8;
/// How often a tree that is being changed is read again.
const TRIES: u32 = 1000;

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

/// The next VMA. 1 ends the survey.
#[inline(always)]
fn next_vma() -> u32 {
    if !send_vma() {
        return 1;
    }
    let Some(before) = survey() else { return 1 };
    let from = before.vma.end;
    let lookup = if before.reason == VmaReason::Attach as u32 {
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
    let skip = next.can_be_private == 0 && next.reason != VmaReason::Attach as u32;
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
        table::read_table(survey, direct_map + table);
    } else if entry.is_huge() {
        table::read_huge(entry.bits, entry.level as u32, at);
    }
    send_pages(at, before);
}
