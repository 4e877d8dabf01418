//! The ledgers of all forks. Each of the first forks keeps its account; of the later ones those that are over are
//! summed up in one.

use std::sync::Arc;

use rustc_hash::FxHashMap as HashMap;

use super::{Fork, ForkArea, ledger::Ledger, pages::Pages};
use crate::trace::event::ForkAccount;

/// Forks that have an account of their own.
pub const KEPT: usize = 10_000;

/// Name of the account of the later ones.
const REST: &str = "(further forks)";

/// The ledgers of all forks.
#[derive(Default)]
pub struct Ledgers {
    /// Those that are kept, and further ones while something in them can still change.
    pub(super) forks: HashMap<u32, Entry>,
    /// The fork that made an address space.
    pub(super) made: HashMap<u32, u32>,
    opened: usize,
    /// The time.
    pub(super) now: u64,
    rest: Option<ForkAccount>,
}

/// A ledger, and what keeps it.
pub(super) struct Entry {
    ledger: Ledger,
    /// How many edges and sets of solo pages are due to the fork; the child's address space counts, too.
    pub(super) holds: u32,
    /// It is among the first.
    kept: bool,
}

impl Ledgers {
    /// Opens the ledger of a fork. It is held until the child's address space is [`Self::gone`].
    pub fn open(&mut self, fork: Fork, areas: Vec<ForkArea>, pages: &Pages, at_once: &Pages) {
        let (number, child) = (fork.number, fork.child);
        let entry = Entry {
            ledger: Ledger::new(fork, areas, pages, at_once),
            holds: 1,
            kept: self.opened < KEPT,
        };
        self.opened += 1;
        self.forks.insert(number, entry);
        self.made.insert(child, number);
    }

    /// Whether a fork has a ledger, and was not summed up with others.
    pub fn knows(&self, fork: u32) -> bool {
        self.forks.contains_key(&fork)
    }

    /// A fork's ledger; `None` when it was summed up with others.
    pub fn get_mut(&mut self, fork: u32) -> Option<&mut Ledger> {
        self.forks.get_mut(&fork).map(|entry| &mut entry.ledger)
    }

    /// The ledger of the fork that made an address space.
    pub fn of_child(&mut self, mm: u32) -> Option<&mut Ledger> {
        self.get_mut(*self.made.get(&mm)?)
    }

    /// Something more is due to a fork.
    pub fn hold(&mut self, fork: u32) {
        if let Some(entry) = self.forks.get_mut(&fork) {
            entry.holds += 1;
        }
    }

    /// Something that was due to a fork is no more. With the last such thing only its numbers are left.
    pub fn release(&mut self, fork: u32) {
        let Some(entry) = self.forks.get_mut(&fork) else {
            return;
        };
        entry.holds -= 1;
        if entry.holds > 0 {
            return;
        }
        entry.ledger.close(self.now);
        if !entry.kept
            && let Some(entry) = self.forks.remove(&fork)
        {
            add(
                self.rest.get_or_insert_with(rest),
                entry.ledger.into_account(),
            );
        }
    }

    /// An address space is gone.
    pub fn gone(&mut self, mm: u32) {
        if let Some(fork) = self.made.remove(&mm) {
            self.release(fork);
        }
    }

    /// A fork's call took so many nanoseconds.
    pub fn returned(&mut self, fork: u32, dur: u64) {
        if let Some(ledger) = self.get_mut(fork) {
            ledger.returned(dur);
        } else if let Some(rest) = &mut self.rest {
            *rest.dur.get_or_insert_default() += dur;
        }
    }

    /// A fork's child is called so now.
    pub fn named(&mut self, fork: u32, comm: Arc<str>) {
        if let Some(ledger) = self.get_mut(fork) {
            ledger.named(comm);
        }
    }

    /// The accounts in the order of the forks' numbers; at the end the sum of those that are too many.
    pub fn finish(self) -> Vec<ForkAccount> {
        let mut sum = self.rest;
        let mut accounts = Vec::with_capacity(self.opened.min(KEPT) + 1);
        for entry in self.forks.into_values() {
            let account = entry.ledger.into_account();
            if entry.kept {
                accounts.push(account);
            } else {
                add(sum.get_or_insert_with(rest), account);
            }
        }
        accounts.sort_unstable_by_key(|account| account.number);
        accounts.extend(sum);
        accounts
    }
}

fn rest() -> ForkAccount {
    ForkAccount {
        parent_comm: REST.into(),
        ..ForkAccount::default()
    }
}

/// Adds an account to the sum. Of its areas only the regions are kept: files can be without number.
fn add(sum: &mut ForkAccount, account: ForkAccount) {
    sum.add_numbers(&account);
    sum.execed |= account.execed;
    for mut area in account.areas {
        area.file = None;
        match sum.areas.iter_mut().find(|of| of.region == area.region) {
            Some(of) => {
                of.pages += area.pages;
                of.copied += area.copied;
                of.taken_over += area.taken_over;
                of.given_up += area.given_up;
                of.still_shared += area.still_shared;
                of.unknown += area.unknown;
            }
            None => sum.areas.push(area),
        }
    }
}
