//! The account of each fork: what became of the pages that it left shared.

use std::sync::Arc;

use memtrace_ebpf::pte::PAGE_SIZE;
use rustc_hash::FxHashMap as HashMap;

use super::{Ending, Fork, ForkArea, Origin, Reason, Rest, pages::Pages};
use crate::trace::event::{Address, Area, ForkAccount, NotSurveyed, Region};

/// A fork's ledger.
pub struct Ledger {
    account: ForkAccount,
    /// The address space that was copied.
    parent: u32,
    /// Its copy.
    child: u32,
    /// Which area a page belonged to at the fork: from a page on this one, up to the next. In the order of addresses, while
    /// one of the pages may still change. What lies between two areas has no pages, and may belong to either.
    runs: Vec<(u64, usize)>,
    /// Where it was not surveyed.
    rest: Option<Rest>,
    /// The pages from there on that have been found since, by their area.
    found: Vec<(usize, Pages)>,
}

impl Ledger {
    /// Opens it. `pages` are shared until a write, `at_once` were copied by the fork itself.
    pub fn new(fork: Fork, areas: Vec<ForkArea>, pages: &Pages, at_once: &Pages) -> Self {
        let mut account = ForkAccount {
            number: fork.number,
            ts: fork.ts,
            parent: fork.parent_pid,
            // The name that it is born with.
            child_comm: fork.parent_comm.clone(),
            parent_comm: fork.parent_comm,
            child: fork.child_pid,
            table_bytes: fork.table_bytes,
            swapped: fork.swapped,
            pages: pages.len() + at_once.len(),
            at_once: at_once.len(),
            ..ForkAccount::default()
        };
        let mut runs: Vec<(u64, usize)> = Vec::new();
        let mut numbers = HashMap::default();
        for area in areas {
            let copied = at_once.range_cardinality(area.pages.clone());
            let count = pages.range_cardinality(area.pages.clone()) + copied;
            if count == 0 {
                continue;
            }
            let number =
                *numbers
                    .entry((area.region, area.file))
                    .or_insert_with_key(|(region, file)| {
                        account.areas.push(Area::empty(*region, file.clone()));
                        account.areas.len() - 1
                    });
            account.areas[number].pages += count;
            account.areas[number].copied += copied;
            // A heap of many mappings is one run.
            if runs.last().is_none_or(|(_, last)| *last != number) {
                runs.push((area.pages.start, number));
            }
        }
        Self {
            account,
            parent: fork.parent,
            child: fork.child,
            runs,
            rest: fork.rest,
            found: Vec::new(),
        }
    }

    /// The fork, as a cause.
    pub fn origin(&self) -> Origin {
        Origin {
            number: self.account.number,
            ts: self.account.ts,
            parent_pid: self.account.parent,
            child_pid: self.account.child,
        }
    }

    /// Books what became of pages, by what `mm` did. They are where they were at the fork.
    pub fn book(&mut self, pages: &Pages, ending: Ending, mm: u32) {
        *self.total(ending, mm) += pages.len();
        let surveyed = self.rest.map_or(u64::MAX, |rest| rest.from);
        let ends = self.runs.iter().skip(1).map(|(start, _)| *start);
        for ((start, area), end) in self.runs.iter().zip(ends.chain([surveyed])) {
            let count = pages.range_cardinality(*start..end);
            if count > 0 {
                *in_area(&mut self.account.areas[*area], ending) += count;
            }
        }
        for (area, found) in &self.found {
            *in_area(&mut self.account.areas[*area], ending) += found.intersection_len(pages);
        }
    }

    /// Books what became of a page.
    pub fn book_page(&mut self, page: u64, ending: Ending, mm: u32) {
        *self.total(ending, mm) += 1;
        if let Some(area) = self.area(page) {
            *in_area(area, ending) += 1;
        }
    }

    /// What became of a page turns out to be something else.
    pub fn rebook_page(&mut self, page: u64, before: Ending, ending: Ending, mm: u32) {
        *self.total(before, mm) -= 1;
        if let Some(area) = self.area(page) {
            *in_area(area, before) -= 1;
        }
        self.book_page(page, ending, mm);
    }

    /// A page that was not surveyed turns out to have been left shared, in memory of this kind.
    pub fn found(&mut self, page: u64, region: Region, file: Option<&Arc<str>>) {
        self.account.pages += 1;
        let areas = &mut self.account.areas;
        let is_it = |area: &Area| area.region == region && area.file.as_ref() == file;
        let number = areas.iter().position(is_it).unwrap_or_else(|| {
            areas.push(Area::empty(region, file.cloned()));
            areas.len() - 1
        });
        areas[number].pages += 1;
        match self.found.iter_mut().find(|(area, _)| *area == number) {
            Some((_, pages)) => _ = pages.insert(page),
            None => self.found.push((number, Pages::from_iter([page]))),
        }
    }

    /// So many pages may have been copied unseen.
    pub fn unseen(&mut self, count: u64) {
        self.account.unseen += count;
    }

    /// A page was copied beyond the one time that it counts.
    pub fn copied_again(&mut self) {
        self.account.copied_again += 1;
    }

    /// A process that had the child's address space has exec'ed.
    pub fn execed(&mut self, pid: u32) {
        let account = &mut self.account;
        if account.child != pid || account.execed {
            return;
        }
        account.execed = true;
        account.before_exec = account.by_child + account.by_parent + account.by_others;
    }

    /// The call took so many nanoseconds.
    pub fn returned(&mut self, dur: u64) {
        self.account.dur = Some(dur);
    }

    /// The child is called so now.
    pub fn named(&mut self, comm: Arc<str>) {
        self.account.child_comm = comm;
    }

    /// Nothing will change any more for any page, from the time `ts` on.
    pub fn close(&mut self, ts: u64) {
        self.account.settled = Some(ts);
        self.runs = Vec::new();
        self.found = Vec::new();
    }

    /// The account as it is.
    pub fn into_account(self) -> ForkAccount {
        let mut account = self.account;
        let given_up = account.given_up;
        let not_copied = account.taken_over
            + (given_up.exec + given_up.exit + given_up.munmap)
            + (account.still_shared + account.unknown);
        account.unseen = account.unseen.min(not_copied);
        account.not_surveyed = self.rest.map(|rest| NotSurveyed {
            from: Address(rest.from * PAGE_SIZE),
            pages: rest
                .counted
                .map(|counted| counted.saturating_sub(account.pages)),
        });
        account
    }

    fn total(&mut self, ending: Ending, mm: u32) -> &mut u64 {
        let account = &mut self.account;
        match ending {
            Ending::Copied if mm == self.child => &mut account.by_child,
            Ending::Copied if mm == self.parent => &mut account.by_parent,
            Ending::Copied => &mut account.by_others,
            Ending::TakenOver => &mut account.taken_over,
            Ending::Released(Reason::Exec) => &mut account.given_up.exec,
            Ending::Released(Reason::Exit) => &mut account.given_up.exit,
            Ending::Released(Reason::Munmap) => &mut account.given_up.munmap,
            Ending::StillShared => &mut account.still_shared,
            Ending::Unknown => &mut account.unknown,
        }
    }

    fn area(&mut self, page: u64) -> Option<&mut Area> {
        let found = self.found.iter().find(|(_, pages)| pages.contains(page));
        let area = if let Some((area, _)) = found {
            *area
        } else {
            let after = self.runs.partition_point(|(start, _)| *start <= page);
            self.runs.get(after.checked_sub(1)?)?.1
        };
        Some(&mut self.account.areas[area])
    }
}

fn in_area(area: &mut Area, ending: Ending) -> &mut u64 {
    match ending {
        Ending::Copied => &mut area.copied,
        Ending::TakenOver => &mut area.taken_over,
        Ending::Released(_) => &mut area.given_up,
        Ending::StillShared => &mut area.still_shared,
        Ending::Unknown => &mut area.unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger of as many areas with a page each, which `region` and `file` say more of.
    fn ledger(areas: u64, place: impl Fn(u64) -> (Region, Option<Arc<str>>)) -> Ledger {
        let pages: Pages = (0..areas).map(|at| 2 * at).collect();
        let areas = (0..areas).map(|at| {
            let (region, file) = place(at);
            ForkArea {
                pages: 2 * at..2 * at + 1,
                region,
                file,
            }
        });
        let fork = Fork {
            number: 1,
            ts: 1,
            parent: 1,
            child: 2,
            parent_pid: 1,
            child_pid: 2,
            parent_comm: "".into(),
            table_bytes: 0,
            swapped: 0,
            rest: None,
        };
        Ledger::new(fork, areas.collect(), &pages, &Pages::new())
    }

    #[test]
    fn many_mappings_of_one_kind_are_one() {
        let heap = ledger(10_000, |_| (Region::Heap, None));
        assert_eq!((heap.runs.len(), heap.account.areas.len()), (1, 1));
        let mut turns = ledger(10_000, |at| match at % 2 {
            0 => (Region::Heap, None),
            _ => (Region::Anon, None),
        });
        assert_eq!((turns.runs.len(), turns.account.areas.len()), (10_000, 2));
        turns.close(2);
        assert_eq!((turns.runs.len(), turns.runs.capacity()), (0, 0));
        let files = ledger(100, |at| (Region::File, Some(format!("{at}").into())));
        assert_eq!(files.account.areas.len(), 100, "one for each file");
    }
}
