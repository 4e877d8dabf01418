//! Who shares which pages since which fork, what ended it, and on which account that goes.
//!
//! A fork leaves the parent's private pages mapped in both, until a write. All address spaces that map one frame are a
//! tree of edges, each due to one fork ([`edge`]). An address space leaves the sharing of a page as it writes it, or
//! gives it up; then one edge ends, and its end is booked once on the account of its fork ([`leave`], [`ledger`]). So
//! the numbers of an account add up. Who is left alone with a page is remembered ([`sole_owner`]): what its next write comes
//! to belongs to the same account.
//!
//! Pages are numbers, the address divided by 4 KiB; address spaces are numbers that never come again.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use roaring::RoaringTreemap;

use self::{
    edge::{Edges, End, Link},
    ledgers::Ledgers,
    sole_owner::{Key, SoleOwners},
    unsurveyed::Unsurveyed,
};
use super::event::{ForkAccount, Region};

mod edge;
mod leave;
mod ledger;
mod ledgers;
mod pages;
mod sole_owner;
#[cfg(test)]
mod tests;
mod unsurveyed;

/// A fork that copied an address space.
#[derive(Clone, Debug)]
pub struct Fork {
    /// Counts the forks, from 1. Later ones have higher numbers.
    pub number: u32,
    /// When it was, in nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
    /// The address space that was copied.
    pub parent: u32,
    /// The copy.
    pub child: u32,
    /// The process that forked.
    pub parent_pid: u32,
    /// The process that it made.
    pub child_pid: u32,
    /// The name of the process that forked.
    pub parent_comm: Arc<str>,
    /// Bytes of the child's page tables.
    pub table_bytes: u64,
    /// Private pages in swap.
    pub swapped: u64,
    /// What was not surveyed.
    pub rest: Option<Rest>,
}

/// The part of an address space that was not surveyed as it was copied: from a page on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Its first page.
    pub from: u64,
    /// Private pages in all of the address space, by the kernel's count.
    pub counted: Option<u64>,
}

/// A part of the memory that a fork copied.
#[derive(Clone, Debug)]
pub struct ForkArea {
    /// Where it is.
    pub pages: Range<u64>,
    /// What it is.
    pub region: Region,
    /// The mapped file, or the library.
    pub file: Option<Arc<str>>,
}

/// A fork, as the cause of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its number.
    pub number: u32,
    /// When it was.
    pub ts: u64,
    /// The process that forked.
    pub parent_pid: u32,
    /// The process that it made.
    pub child_pid: u32,
}

/// Why a write had to copy a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blame {
    /// The fork that had made the page shared.
    pub fork: Origin,
    /// Nobody shared it any more: the kernel, or a device, still held a reference to it.
    pub reference: bool,
}

/// How an address space ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// An exec replaced it.
    Exec,
    /// Its last task ended.
    Exit,
    /// Nobody has seen how, or when.
    Unseen,
}

/// What ends the sharing of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It was written, and copied.
    Copied,
    /// It was written, and taken over without a copy.
    TakenOver,
    /// It was given up.
    Released(Reason),
    /// The end of the trace.
    StillShared,
    /// Something that was not seen.
    Unknown,
}

impl Ending {
    /// Whether what the only other sharer does with the page next still belongs to the account: it has the old frame for
    /// itself now, or has left it a moment before.
    fn leaves_solo(self) -> bool {
        matches!(self, Self::Copied | Self::TakenOver | Self::Released(_))
    }
}

/// By what a page is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Exec,
    Exit,
    Munmap,
}

/// The sharing of all traced address spaces, and the accounts of the forks.
#[derive(Default)]
pub struct Sharing {
    edges: Edges,
    solos: SoleOwners,
    ledgers: Ledgers,
    unsurveyed: Unsurveyed,
}

impl Sharing {
    /// What comes next happens at this time.
    pub const fn at(&mut self, ts: u64) {
        self.ledgers.now = ts;
    }

    /// An address space was copied. `areas` are what it is made of: in the order of addresses, disjoint, and each page
    /// is in one. `pages` are shared until a write; `at_once` were copied by the fork itself, and are others.
    ///
    /// The child's address space is one that was never seen before, and so is the fork's number; else nothing is done.
    pub fn fork(
        &mut self,
        fork: Fork,
        areas: Vec<ForkArea>,
        pages: &RoaringTreemap,
        at_once: &RoaringTreemap,
    ) {
        let (number, parent, child) = (fork.number, fork.parent, fork.child);
        let known = self.edges.knows(child) || self.ledgers.of_child(child).is_some();
        if known || parent == child || self.ledgers.knows(number) {
            return;
        }
        self.unsurveyed.fork(&fork, &mut self.ledgers);
        self.ledgers.open(fork, areas, pages, at_once);
        if self.unsurveyed.contains(number) {
            self.ledgers.hold(number);
        }
        self.solos.forget(parent, pages, &mut self.ledgers);
        let [parent, child] = [parent, child].map(|mm| End { mm, shift: 0 });
        let pages = pages::without_runs(pages);
        self.edges
            .add(Link::new(number, parent, child), pages, &mut self.ledgers);
    }

    /// A write is about to copy a page, or to take it over: so it was shared since the latest fork. Where forks were not
    /// surveyed that is news, and it goes on their accounts, where it is in memory of this kind.
    pub fn shows_shared(&mut self, mm: u32, page: u64, region: Region, file: Option<&Arc<str>>) {
        if self.unsurveyed.is_empty() {
            return;
        }
        // Who shares it since a fork that is news may do so since others.
        let mut ahead = vec![mm];
        while let Some(mm) = ahead.pop() {
            let edges = self.edges.at(mm, page).map(|(_, part)| part.fork);
            let latest = edges.filter(|fork| !self.unsurveyed.contains(*fork)).max();
            for found in self.unsurveyed.find(mm, page, latest.unwrap_or(0)) {
                let Some(ledger) = self.ledgers.get_mut(found.fork) else {
                    continue;
                };
                ledger.found(page, region, file);
                let other = found.other(mm);
                let Some(ending) = found.left else {
                    let link = Link::new(
                        found.fork,
                        End { mm, shift: 0 },
                        End {
                            mm: other,
                            shift: 0,
                        },
                    );
                    self.solos.take_page(found.parent, page);
                    self.solos.drop_empty(found.parent, &mut self.ledgers);
                    self.edges.add_page(link, page, &mut self.ledgers);
                    ahead.push(other);
                    continue;
                };
                ledger.book_page(page, ending, other);
                if ending.leaves_solo() && !self.edges.any_at(mm, page) {
                    let key = Key {
                        fork: found.fork,
                        ending,
                        shift: 0,
                    };
                    self.solos.add_page(mm, key, page, &mut self.ledgers);
                }
            }
        }
    }

    /// A write copied a page: why it had to. `None` when no traced fork is known to have made it shared.
    pub fn copied(&mut self, mm: u32, page: u64) -> Option<Blame> {
        if let Some(fork) = self.leave_page(mm, page, Ending::Copied) {
            return Some(Blame {
                fork,
                reference: false,
            });
        }
        let (solo, at_fork) = self.solos.take_page(mm, page)?;
        let ledger = self.ledgers.get_mut(solo.fork)?;
        if solo.ending == Ending::Copied {
            ledger.copied_again();
        } else {
            ledger.rebook_page(at_fork, solo.ending, Ending::Copied, mm);
        }
        let fork = ledger.origin();
        self.solos.drop_empty(mm, &mut self.ledgers);
        Some(Blame {
            fork,
            reference: solo.ending != Ending::TakenOver,
        })
    }

    /// A write took a page over without a copy: the number of the fork that had made it shared, if that is known.
    ///
    /// The kernel does so only when nobody else maps the page. Where others are still thought to, they have just given
    /// it up, or copied it, and word of that is on its way: so the page counts as taken over here already, until it turns
    /// out to have been copied.
    pub fn taken_over(&mut self, mm: u32, page: u64) -> Option<u32> {
        if let Some(fork) = self.leave_page(mm, page, Ending::TakenOver) {
            return Some(fork.number);
        }
        let (solo, at_fork) = self.solos.take_page(mm, page)?;
        if solo.ending != Ending::Copied
            && let Some(ledger) = self.ledgers.get_mut(solo.fork)
        {
            ledger.rebook_page(at_fork, solo.ending, Ending::TakenOver, mm);
        }
        self.solos.drop_empty(mm, &mut self.ledgers);
        Some(solo.fork)
    }

    /// The other address spaces that map the same frame, in the order of their numbers.
    pub fn sharers(&self, mm: u32, page: u64) -> Vec<u32> {
        let others = self.others(mm, page);
        others.into_iter().map(|(mm, _)| mm).collect()
    }

    /// These of a page's sharers map its frame no more: their last tasks have exited, in this order.
    pub fn exited_at(&mut self, mm: u32, page: u64, exited: &[u32]) {
        let others: BTreeMap<_, _> = self.others(mm, page).into_iter().collect();
        for other in exited {
            if let Some(&at) = others.get(other) {
                self.leave_page(*other, at, Ending::Released(Reason::Exit));
            }
        }
    }

    /// The other address spaces that map the same frame, in the order of their numbers, and at which page.
    fn others(&self, mm: u32, page: u64) -> Vec<(u32, u64)> {
        let mut found = Vec::new();
        let mut ahead = vec![(mm, page, None)];
        while let Some((mm, page, came_by)) = ahead.pop() {
            for (edge, part) in self.edges.at(mm, page) {
                if Some(edge) != came_by {
                    let other = (part.other.mm, part.other.page(part.pages));
                    found.push(other);
                    ahead.push((other.0, other.1, Some(edge)));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// A page was seen to be in another state than is thought here.
    pub fn lost(&mut self, mm: u32, page: u64) {
        self.unsurveyed.changed(mm, &(page..page + 1));
        if self.leave_page(mm, page, Ending::Unknown).is_none()
            && self.solos.take_page(mm, page).is_some()
        {
            self.solos.drop_empty(mm, &mut self.ledgers);
        }
    }

    /// The kernel took so many faults on a task's behalf that were not seen: each may have copied a page of this address
    /// space's; without one, of any.
    pub fn unseen(&mut self, mm: Option<u32>, count: u64) {
        match mm {
            Some(mm) => {
                for (fork, pages) in self.edges.forks(mm) {
                    if let Some(ledger) = self.ledgers.get_mut(fork) {
                        ledger.unseen(count.min(pages));
                    }
                }
            }
            None => {
                for (fork, pages) in self.edges.iter() {
                    if let Some(ledger) = self.ledgers.get_mut(fork) {
                        ledger.unseen(count.min(pages.len()));
                    }
                }
            }
        }
    }

    /// A range of pages was unmapped, discarded, or mapped over.
    pub fn gave_up(&mut self, mm: u32, pages: &Range<u64>) {
        self.ended(mm, pages, Ending::Released(Reason::Munmap));
    }

    /// A range of pages may be in another state than is thought here.
    pub fn unsure(&mut self, mm: u32, pages: &Range<u64>) {
        self.ended(mm, pages, Ending::Unknown);
    }

    fn ended(&mut self, mm: u32, pages: &Range<u64>, ending: Ending) {
        self.unsurveyed.changed(mm, pages);
        self.leave(mm, Some(pages), ending);
        self.solos.forget_range(mm, pages, &mut self.ledgers);
    }

    /// A range of pages was moved to where `to` is the first of them now. What was there is given up.
    pub fn moved(&mut self, mm: u32, from: &Range<u64>, to: u64) {
        let by = to.wrapping_sub(from.start) as i64;
        if by == 0 || from.is_empty() {
            return;
        }
        self.gave_up(mm, &pages::moved_range(from, by));
        self.unsurveyed.changed(mm, from);
        self.edges.relocate(mm, from, by, &mut self.ledgers);
        self.solos.relocate(mm, from, by, &mut self.ledgers);
    }

    /// An address space is gone.
    pub fn left(&mut self, mm: u32, how: Leave) {
        let ending = match how {
            Leave::Exec => Ending::Released(Reason::Exec),
            Leave::Exit => Ending::Released(Reason::Exit),
            Leave::Unseen => Ending::Unknown,
        };
        self.leave(mm, None, ending);
        self.unsurveyed.left(mm, ending, &mut self.ledgers);
        self.solos.forget_all(mm, &mut self.ledgers);
        self.ledgers.gone(mm);
    }

    /// A process has left this address space by an exec: before [`Self::left`]. That counts for the fork which made it
    /// if the process is the fork's child: others may have come to share it.
    pub fn execed(&mut self, mm: u32, pid: u32) {
        if let Some(ledger) = self.ledgers.of_child(mm) {
            ledger.execed(pid);
        }
    }

    /// A fork's call took so many nanoseconds.
    pub fn returned(&mut self, fork: u32, dur: u64) {
        self.ledgers.returned(fork, dur);
    }

    /// The process that a fork made is called so now.
    pub fn named(&mut self, fork: u32, comm: Arc<str>) {
        self.ledgers.named(fork, comm);
    }

    /// The end of the trace: the accounts in the order of the forks' numbers. At the end, with number 0, the sum of
    /// those that are too many for one each.
    pub fn finish(mut self) -> Vec<ForkAccount> {
        for (fork, pages) in self.edges.iter() {
            if let Some(ledger) = self.ledgers.get_mut(fork) {
                ledger.book(pages, Ending::StillShared, 0);
            }
        }
        self.ledgers.finish()
    }
}
