//! Pages that were shared and are an address space's alone now. The kernel doesn't know that until a write: then it
//! takes the page over; or copies it all the same, if something still holds a reference to it.

use std::ops::Range;

use rustc_hash::FxHashMap as HashMap;

use super::{
    Ending,
    ledgers::Ledgers,
    pages::{Pages, moved_page, moved_pages, moved_range, take_range},
};

/// A set of pages with what is known of them.
pub(super) struct SoleOwner {
    pub(super) key: Key,
    /// Where they were at the fork.
    pub(super) pages: Pages,
}

/// How pages came to be an address space's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The fork that had made them shared.
    pub fork: u32,
    /// What ended that.
    pub ending: Ending,
    /// By how many pages the address space has moved them up since the fork.
    pub shift: i64,
}

/// The pages that address spaces have for themselves again.
#[derive(Default)]
pub struct SoleOwners {
    pub(super) by_mm: HashMap<u32, Vec<SoleOwner>>,
}

impl SoleOwners {
    /// Adds pages.
    pub fn add(&mut self, mm: u32, key: Key, pages: Pages, ledgers: &mut Ledgers) {
        if !pages.is_empty() {
            self.set(mm, key, ledgers).pages |= pages;
        }
    }

    /// Adds a page.
    pub fn add_page(&mut self, mm: u32, key: Key, at_fork: u64, ledgers: &mut Ledgers) {
        self.set(mm, key, ledgers).pages.insert(at_fork);
    }

    fn set(&mut self, mm: u32, key: Key, ledgers: &mut Ledgers) -> &mut SoleOwner {
        let solos = self.by_mm.entry(mm).or_default();
        let at = solos.iter().position(|solo| solo.key == key);
        let at = at.unwrap_or_else(|| {
            ledgers.hold(key.fork);
            solos.push(SoleOwner {
                key,
                pages: Pages::new(),
            });
            solos.len() - 1
        });
        &mut solos[at]
    }

    /// Takes a page out: what is known of it, and where it was at the fork. A set that has no page left stays until
    /// [`Self::drop_empty`].
    pub fn take_page(&mut self, mm: u32, page: u64) -> Option<(Key, u64)> {
        self.by_mm.get_mut(&mm)?.iter_mut().find_map(|solo| {
            let at_fork = moved_page(page, -solo.key.shift);
            solo.pages.remove(at_fork).then_some((solo.key, at_fork))
        })
    }

    /// Forgets the pages of a set, which are shared again.
    pub fn forget(&mut self, mm: u32, pages: &Pages, ledgers: &mut Ledgers) {
        for solo in self.by_mm.get_mut(&mm).into_iter().flatten() {
            solo.pages -= &*moved_pages(pages, -solo.key.shift, &solo.pages);
        }
        self.drop_empty(mm, ledgers);
    }

    /// Forgets the pages of a range.
    pub fn forget_range(&mut self, mm: u32, range: &Range<u64>, ledgers: &mut Ledgers) {
        for solo in self.by_mm.get_mut(&mm).into_iter().flatten() {
            let range = moved_range(range, -solo.key.shift);
            solo.pages.remove_range(range);
        }
        self.drop_empty(mm, ledgers);
    }

    /// Forgets all of an address space.
    pub fn forget_all(&mut self, mm: u32, ledgers: &mut Ledgers) {
        for solo in self.by_mm.remove(&mm).into_iter().flatten() {
            ledgers.release(solo.key.fork);
        }
    }

    /// The address space has moved a range of its pages.
    pub fn relocate(&mut self, mm: u32, range: &Range<u64>, by: i64, ledgers: &mut Ledgers) {
        let solos = self.by_mm.get_mut(&mm).into_iter().flatten();
        let moved: Vec<SoleOwner> = solos
            .map(|solo| SoleOwner {
                key: Key {
                    shift: solo.key.shift + by,
                    ..solo.key
                },
                pages: take_range(&mut solo.pages, &moved_range(range, -solo.key.shift)),
            })
            .collect();
        for solo in moved {
            self.add(mm, solo.key, solo.pages, ledgers);
        }
        self.drop_empty(mm, ledgers);
    }

    /// Drops the sets of an address space that have no page left.
    pub fn drop_empty(&mut self, mm: u32, ledgers: &mut Ledgers) {
        let Some(solos) = self.by_mm.get_mut(&mm) else {
            return;
        };
        solos.retain(|solo| {
            let empty = solo.pages.is_empty();
            if empty {
                ledgers.release(solo.key.fork);
            }
            !empty
        });
        if solos.is_empty() {
            self.by_mm.remove(&mm);
        }
    }
}
