//! The account of each fork: what became of the pages that it left shared.

use std::{ops::Range, sync::Arc};

use rustc_hash::FxHashMap as HashMap;

use super::{Ending, Fork, ForkArea, Origin, Reason, pages::Pages};
use crate::trace::event::{Area, ForkAccount, Region};

/// A fork's ledger.
pub struct Ledger {
    account: ForkAccount,
    /// The address space that was copied.
    parent: u32,
    /// Its copy.
    child: u32,
    /// Which area a page belonged to at the fork: in the order of addresses, while one of them may still change.
    spans: Vec<Span>,
}

struct Span {
    pages: Range<u64>,
    area: usize,
}

impl Ledger {
    /// Opens it. `pages` are shared until a write, `at_once` were copied by the fork itself.
    pub fn new(fork: Fork, areas: Vec<ForkArea>, pages: &Pages, at_once: &Pages) -> Self {
        let mut account = ForkAccount {
            number: fork.number,
            ts: fork.ts,
            parent: fork.parent_pid,
            parent_comm: fork.parent_comm,
            child: fork.child_pid,
            table_bytes: fork.table_bytes,
            swapped: fork.swapped,
            pages: pages.len() + at_once.len(),
            at_once: at_once.len(),
            ..ForkAccount::default()
        };
        let mut spans: Vec<Span> = Vec::with_capacity(areas.len());
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
                        account.areas.push(empty_area(*region, file.clone()));
                        account.areas.len() - 1
                    });
            account.areas[number].pages += count;
            account.areas[number].copied += copied;
            spans.push(Span {
                pages: area.pages,
                area: number,
            });
        }
        Self {
            account,
            parent: fork.parent,
            child: fork.child,
            spans,
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
        for span in &self.spans {
            let count = pages.range_cardinality(span.pages.clone());
            if count > 0 {
                *in_area(&mut self.account.areas[span.area], ending) += count;
            }
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

    /// Nothing will change any more for any page.
    pub fn close(&mut self) {
        self.spans = Vec::new();
    }

    /// The account as it is.
    pub fn into_account(self) -> ForkAccount {
        self.account
    }

    fn total(&mut self, ending: Ending, mm: u32) -> &mut u64 {
        let account = &mut self.account;
        match ending {
            Ending::Copied if mm == self.child => &mut account.by_child,
            Ending::Copied if mm == self.parent => &mut account.by_parent,
            Ending::Copied => &mut account.by_others,
            Ending::TakenOver => &mut account.taken_over,
            Ending::GivenUp(Reason::Exec) => &mut account.given_up.exec,
            Ending::GivenUp(Reason::Exit) => &mut account.given_up.exit,
            Ending::GivenUp(Reason::Munmap) => &mut account.given_up.munmap,
            Ending::StillShared => &mut account.still_shared,
            Ending::Unknown => &mut account.unknown,
        }
    }

    fn area(&mut self, page: u64) -> Option<&mut Area> {
        let after = self.spans.partition_point(|span| span.pages.end <= page);
        let span = self.spans.get(after)?;
        span.pages
            .contains(&page)
            .then(|| &mut self.account.areas[span.area])
    }
}

fn in_area(area: &mut Area, ending: Ending) -> &mut u64 {
    match ending {
        Ending::Copied => &mut area.copied,
        Ending::TakenOver => &mut area.taken_over,
        Ending::GivenUp(_) => &mut area.given_up,
        Ending::StillShared => &mut area.still_shared,
        Ending::Unknown => &mut area.unknown,
    }
}

fn empty_area(region: Region, file: Option<Arc<str>>) -> Area {
    Area {
        region,
        file,
        pages: 0,
        copied: 0,
        taken_over: 0,
        given_up: 0,
        still_shared: 0,
        unknown: 0,
    }
}
