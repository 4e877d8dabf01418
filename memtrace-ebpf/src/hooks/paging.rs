//! Walking a task's page tables, through the kernel's direct map of all memory.

use aya_ebpf::{macros::map, maps::Array};
use memtrace_ebpf::{
    layout::DirectMap,
    pte::{Entry, Level, next_table},
};

use crate::hooks::{kernel::read_word, thread::Table};

/// Where the direct map is; user space and [`crate::hooks::direct_map`] find it before any trace.
#[map]
static DIRECT_MAP: Array<DirectMap> = Array::with_max_entries(1, 0);

/// The direct map, if it has been found.
#[inline(always)]
pub(crate) fn direct_map() -> Option<&'static mut DirectMap> {
    let slot = DIRECT_MAP.get_ptr_mut(0)?;
    // SAFETY: the map gives a valid pointer; it is written once, before any other hook is attached.
    Some(unsafe { &mut *slot })
}

/// The bits of the entry for `address` in the table of this level at the kernel address `table`.
#[inline(always)]
fn slot(table: u64, level: Level, address: u64) -> u64 {
    let index = (address >> (12 + 9 * (level as u64 - 1))) & 511;
    table + index * 8
}

/// Walks from the top table at `pgd` to the last entry for `address`, and remembers the way in `cache`.
#[inline(always)]
pub(crate) fn walk(map: DirectMap, pgd: u64, address: u64, cache: &mut Table) -> Entry {
    cache.tag = u64::MAX;
    let mut table = pgd;
    // With four levels the p4d is folded into the pgd: the top table is the one that spans 39 bits and up.
    if map.levels == 5 {
        let bits = read_word(slot(table, Level::Pgd, address));
        let Some(next) = next_table(bits) else {
            return Entry {
                bits,
                level: Level::Pgd,
            };
        };
        table = map.base + next;
    }
    let bits = read_word(slot(table, Level::P4d, address));
    let Some(next) = next_table(bits) else {
        return Entry {
            bits,
            level: Level::P4d,
        };
    };
    let bits = read_word(slot(map.base + next, Level::Pud, address));
    let Some(next) = next_table(bits) else {
        return Entry {
            bits,
            level: Level::Pud,
        };
    };
    let at = slot(map.base + next, Level::Pmd, address);
    let bits = read_word(at);
    let Some(next) = next_table(bits) else {
        return Entry {
            bits,
            level: Level::Pmd,
        };
    };
    cache.tag = address >> 21;
    cache.slot = at;
    cache.bits = bits;
    Entry {
        bits: read_word(slot(map.base + next, Level::Pte, address)),
        level: Level::Pte,
    }
}

/// The last entry for `address`, by the shortest way that is known to be right: the PMD entry that led to the table
/// last time is read again, and if it is the same, so is the table. `checked` says that this hook has done so.
#[inline(always)]
pub(crate) fn entry(
    map: DirectMap,
    pgd: u64,
    address: u64,
    cache: &mut Table,
    checked: &mut bool,
) -> Entry {
    if cache.tag == address >> 21 {
        if !*checked {
            *checked = read_word(cache.slot) == cache.bits;
        }
        if *checked && let Some(next) = next_table(cache.bits) {
            let at = slot(map.base + next, Level::Pte, address);
            return Entry {
                bits: read_word(at),
                level: Level::Pte,
            };
        }
    }
    let found = walk(map, pgd, address, cache);
    *checked = cache.tag != u64::MAX;
    found
}
