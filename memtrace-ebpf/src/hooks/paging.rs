//! Walking a task's page tables, through the kernel's direct map of all memory.

use memtrace_ebpf::{
    arch::LEVELS,
    control::DirectMap,
    pte::{Entry, Level, next_table},
};

use crate::hooks::{
    kernel::{read_pair, read_word},
    verifier::launder_scalar,
};

/// The last table of PTEs that a thread's walks came to: while the entry at `slot` still is `bits`, the table that it points to
/// is the one for all addresses of these 2 MiB.
#[repr(C)]
pub(crate) struct TableCache {
    /// Address in units of 2 MiB, or `u64::MAX`.
    pub(crate) tag: u64,
    /// Where the PMD entry is.
    pub(crate) slot: u64,
    /// What it was.
    pub(crate) bits: u64,
}

impl TableCache {
    #[inline(always)]
    pub(crate) const fn empty() -> Self {
        Self {
            tag: u64::MAX,
            slot: 0,
            bits: 0,
        }
    }

    /// Forgets the table: what is walked next may be another address space.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.tag = u64::MAX;
    }
}

/// The bits of the entry for `address` in the table of this level at the kernel address `table`.
#[inline(always)]
fn slot(table: u64, level: Level, address: u64) -> u64 {
    let index = (address >> (12 + 9 * (level as u64 - 1))) & 511;
    table + index * 8
}

/// Walks from the top table at `pgd` to where the entry for `address` is in a table of PMDs; or to the last entry, if there is
/// no such table.
#[inline(always)]
pub(crate) fn pmd_slot(map: &DirectMap, pgd: u64, address: u64) -> Result<u64, Entry> {
    let mut table = pgd;
    // With fewer levels the upper ones are folded into the pgd: with four, the top table is the one that spans 39 bits and up.
    if map.levels == 5 {
        let bits = read_word(slot(table, Level::Pgd, address));
        let Some(next) = next_table(bits) else {
            return Err(Entry {
                bits,
                level: Level::Pgd,
            });
        };
        table = map.base + next;
    }
    if LEVELS[0] > 3 || map.levels > 3 {
        let bits = read_word(slot(table, Level::P4d, address));
        let Some(next) = next_table(bits) else {
            return Err(Entry {
                bits,
                level: Level::P4d,
            });
        };
        table = map.base + next;
    }
    let bits = read_word(slot(table, Level::Pud, address));
    let Some(next) = next_table(bits) else {
        return Err(Entry {
            bits,
            level: Level::Pud,
        });
    };
    Ok(slot(map.base + next, Level::Pmd, address))
}

/// Walks from the top table at `pgd` to the last entry for `address`, and remembers the way in `cache`.
#[inline(always)]
pub(crate) fn walk(map: &DirectMap, pgd: u64, address: u64, cache: &mut TableCache) -> Entry {
    cache.clear();
    let at = match pmd_slot(map, pgd, address) {
        Ok(at) => at,
        Err(entry) => return entry,
    };
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

/// What one run of a hook has read already.
#[derive(Clone, Copy)]
pub(crate) struct EntryCache {
    /// The cached table was found to be the right one.
    checked: bool,
    /// The page after the last one that was looked up, or `u64::MAX`; and its entry.
    page: u64,
    bits: u64,
}

impl EntryCache {
    #[inline(always)]
    pub(crate) const fn empty() -> Self {
        Self {
            checked: false,
            page: u64::MAX,
            bits: 0,
        }
    }

    /// The same, for the verifier without the branches behind it.
    #[inline(always)]
    pub(crate) fn merged(self, memory: &mut u32) -> Self {
        Self {
            checked: launder_scalar(u32::from(self.checked), memory) != 0,
            ..self
        }
    }
}

/// The last entry for `address`, by the shortest way that is known to be right: the PMD entry that led to the table
/// last time is read again, and if it is the same, so is the table. The entry after it is read with it, as the next
/// fault is often on the next page.
#[inline(always)]
pub(crate) fn entry(
    map: &DirectMap,
    pgd: u64,
    address: u64,
    cache: &mut TableCache,
    read: &mut EntryCache,
) -> Entry {
    if cache.tag == address >> 21 {
        if read.page == address >> 12 {
            return Entry {
                bits: read.bits,
                level: Level::Pte,
            };
        }
        if !read.checked {
            read.checked = read_word(cache.slot) == cache.bits;
        }
        if read.checked
            && let Some(next) = next_table(cache.bits)
        {
            let [bits, after] = read_pair(slot(map.base + next, Level::Pte, address));
            // A table's last entry has none after it; the tag tells, as the next page has another.
            read.page = (address >> 12) + 1;
            read.bits = after;
            return Entry {
                bits,
                level: Level::Pte,
            };
        }
    }
    let found = walk(map, pgd, address, cache);
    read.checked = cache.tag != u64::MAX;
    read.page = u64::MAX;
    found
}
