//! Forks that were not surveyed to their end: which pages they left shared there only faults tell, one by one. A write that the
//! kernel has to handle on a page that was there at the fork, and that nothing has changed since, is such news.

use std::{mem, ops::Range};

use rustc_hash::FxHashMap as HashMap;

use super::{Ending, Fork, ledgers::Ledgers, pages::Pages};
use crate::trace::ranges::joined;

/// As many pages in a row are kept as a range: a call may be on as many addresses as there are.
const MANY: u64 = 1 << 16;
/// Such ranges at the most.
const RANGES: usize = 1024;

/// The forks whose parent or child is still there.
#[derive(Default)]
pub struct Unsurveyed {
    forks: HashMap<u32, Part>,
    /// The forks that have made an address space, or its copies.
    by_mm: HashMap<u32, Vec<u32>>,
}

/// What was not surveyed of a fork.
struct Part {
    parent: u32,
    child: u32,
    /// The first page.
    from: u64,
    /// Pages of which all is known, or nothing can be any more: what is there has changed since.
    settled: Pages,
    /// The same, where they are [very many](MANY).
    settled_ranges: Vec<Range<u64>>,
    /// How one of the two left.
    left: Option<Ending>,
}

impl Part {
    /// Nothing more is to be learnt of a page. `false` if that was so before.
    fn settle(&mut self, page: u64) -> bool {
        let is_in = |range: &Range<u64>| range.contains(&page);
        !self.settled_ranges.iter().any(is_in) && self.settled.insert(page)
    }

    /// The same of a range.
    fn settle_all(&mut self, pages: Range<u64>) {
        if pages.end - pages.start < MANY {
            self.settled.insert_range(pages);
            return;
        }
        self.settled.remove_range(pages.clone());
        self.settled_ranges.push(pages);
        self.settled_ranges = joined(mem::take(&mut self.settled_ranges));
        // What lies between is given up: less is learnt then, and nothing wrong.
        if self.settled_ranges.len() > RANGES
            && let [first, .., last] = self.settled_ranges.as_slice()
        {
            let all = first.start..last.end;
            self.settled_ranges = Vec::from([all]);
        }
    }
}

/// A fork that has turned out to have left a page shared.
pub struct UnsurveyedShare {
    /// Its number.
    pub fork: u32,
    /// The address space that was copied.
    pub parent: u32,
    child: u32,
    /// How the other side has left, if it has.
    pub left: Option<Ending>,
}

impl UnsurveyedShare {
    /// The other of the two address spaces.
    pub const fn other(&self, mm: u32) -> u32 {
        if mm == self.parent {
            self.child
        } else {
            self.parent
        }
    }
}

impl Unsurveyed {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.forks.is_empty()
    }

    /// Whether it is one of them.
    pub fn contains(&self, fork: u32) -> bool {
        self.forks.contains_key(&fork)
    }

    /// An address space is copied. Of copies of it that are gone nothing more is asked: what they left to it alone is shared
    /// anew.
    pub fn fork(&mut self, fork: &Fork, ledgers: &mut Ledgers) {
        for number in self.of(fork.parent) {
            if self
                .forks
                .get(&number)
                .is_some_and(|part| part.left.is_some())
            {
                self.drop(number, ledgers);
            }
        }
        let Some(rest) = fork.rest else { return };
        let (parent, child) = (fork.parent, fork.child);
        let part = Part {
            parent,
            child,
            from: rest.from,
            settled: Pages::new(),
            settled_ranges: Vec::new(),
            left: None,
        };
        self.forks.insert(fork.number, part);
        for mm in [parent, child] {
            self.by_mm.entry(mm).or_default().push(fork.number);
        }
    }

    /// The forks later than `latest` that turn out to have left a page of an address space shared. Each time but the first
    /// that is no news.
    pub fn find(&mut self, mm: u32, page: u64, latest: u32) -> Vec<UnsurveyedShare> {
        let mut found = Vec::new();
        for &fork in self.by_mm.get(&mm).into_iter().flatten() {
            if let Some(part) = self.forks.get_mut(&fork)
                && fork > latest
                && page >= part.from
                && part.settle(page)
            {
                found.push(UnsurveyedShare {
                    fork,
                    parent: part.parent,
                    child: part.child,
                    left: part.left,
                });
            }
        }
        found
    }

    /// What an address space has in a range of pages is not what it had before.
    pub fn changed(&mut self, mm: u32, pages: &Range<u64>) {
        for fork in self.by_mm.get(&mm).into_iter().flatten() {
            if let Some(part) = self.forks.get_mut(fork) {
                let from = pages.start.max(part.from);
                part.settle_all(from..pages.end.max(from));
            }
        }
    }

    /// An address space is gone.
    pub fn left(&mut self, mm: u32, how: Ending, ledgers: &mut Ledgers) {
        for number in self.of(mm) {
            let Some(part) = self.forks.get_mut(&number) else {
                continue;
            };
            if part.left.is_some() {
                self.drop(number, ledgers);
            } else {
                part.left = Some(how);
            }
        }
        self.by_mm.remove(&mm);
    }

    fn of(&self, mm: u32) -> Vec<u32> {
        self.by_mm.get(&mm).cloned().unwrap_or_default()
    }

    fn drop(&mut self, fork: u32, ledgers: &mut Ledgers) {
        let Some(part) = self.forks.remove(&fork) else {
            return;
        };
        for mm in [part.parent, part.child] {
            if let Some(forks) = self.by_mm.get_mut(&mm) {
                forks.retain(|other| *other != fork);
                if forks.is_empty() {
                    self.by_mm.remove(&mm);
                }
            }
        }
        ledgers.release(fork);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_very_many_pages_are_bounded() {
        let mut part = Part {
            parent: 1,
            child: 2,
            from: 0,
            settled: Pages::new(),
            settled_ranges: Vec::new(),
            left: None,
        };
        assert!(part.settle(MANY + 5) && !part.settle(MANY + 5));
        part.settle_all(0..MANY - 1);
        assert!(part.settled_ranges.is_empty() && part.settled.len() == MANY);
        let mut most = 0;
        for at in 0..3000 {
            part.settle_all(4 * at * MANY..(4 * at + 2) * MANY);
            most = most.max(part.settled_ranges.len());
            assert!(!part.settle((4 * at + 1) * MANY));
        }
        assert_eq!(most, RANGES);
        assert!(
            part.settled.is_empty(),
            "a page is in a range or in the set"
        );
        assert!(part.settle(12_000 * MANY), "beyond the last");
        part.settle_all(0..u64::MAX);
        let all = 0..u64::MAX;
        assert_eq!(part.settled_ranges, [all]);
    }
}
