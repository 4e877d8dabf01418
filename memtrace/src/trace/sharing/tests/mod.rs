//! Stories with exact numbers, and long random ones against a model that is too simple to be wrong.

use std::ops::Range;

use roaring::RoaringTreemap;

use super::{Blame, Fork, ForkArea, Origin, Sharing};
use crate::trace::{
    event::{ForkAccount, Region},
    tests::adds_up,
};

mod bounds;
mod inside;
mod moves;
mod naive;
mod random;
mod regions;
mod stories;
mod world;

/// A fork by process 1000 + `parent`, which makes process 1000 + `child`.
fn fork(number: u32, parent: u32, child: u32) -> Fork {
    Fork {
        number,
        ts: u64::from(number) * 1000,
        parent,
        child,
        parent_pid: 1000 + parent,
        child_pid: 1000 + child,
        parent_comm: "parent".into(),
        table_bytes: 4096,
        swapped: 0,
        rest: None,
    }
}

/// All memory as one area.
fn one_area() -> Vec<ForkArea> {
    vec![ForkArea {
        pages: 0..1 << 36,
        region: Region::Heap,
        file: None,
    }]
}

fn set(pages: impl IntoIterator<Item = u64>) -> RoaringTreemap {
    pages.into_iter().collect()
}

/// A story of address spaces.
#[derive(Default)]
struct Story {
    sharing: Sharing,
    forks: Vec<Origin>,
}

impl Story {
    /// One that begins with 1, which forks 2; and the number of that fork.
    fn forked(pages: Range<u64>) -> (Self, u32) {
        let mut story = Self::default();
        let fork = story.fork(1, 2, pages);
        (story, fork)
    }

    /// A fork that leaves these pages shared: its number.
    fn fork(&mut self, parent: u32, child: u32, pages: Range<u64>) -> u32 {
        let number = self.forks.len() as u32 + 1;
        let fork = fork(number, parent, child);
        self.forks.push(Origin {
            number,
            ts: fork.ts,
            parent_pid: fork.parent_pid,
            child_pid: fork.child_pid,
        });
        self.sharing
            .fork(fork, one_area(), &set(pages), &RoaringTreemap::new());
        number
    }

    /// Writes are copied, as others share the pages, and this fork is to blame.
    fn copies(&mut self, mm: u32, pages: Range<u64>, fork: u32) {
        self.blames(mm, pages, fork, false);
    }

    /// Writes are copied though nobody shares the pages, and this fork is to blame.
    fn copies_alone(&mut self, mm: u32, pages: Range<u64>, fork: u32) {
        self.blames(mm, pages, fork, true);
    }

    fn blames(&mut self, mm: u32, pages: Range<u64>, fork: u32, reference: bool) {
        let fork = self.forks[fork as usize - 1];
        for page in pages {
            assert_eq!(
                self.sharing.copied(mm, page),
                Some(Blame { fork, reference }),
                "page {page}"
            );
        }
    }

    /// Writes take pages over that this fork had made shared.
    fn takes_over(&mut self, mm: u32, pages: Range<u64>, fork: u32) {
        for page in pages {
            let taken = self.sharing.taken_over(mm, page);
            assert_eq!(taken, Some(fork), "page {page}");
        }
    }

    /// Nothing is known of these pages.
    fn knows_nothing(&mut self, mm: u32, pages: Range<u64>) {
        for page in pages {
            assert_eq!(self.sharing.copied(mm, page), None, "page {page}");
            assert_eq!(self.sharing.taken_over(mm, page), None, "page {page}");
            assert!(self.sharing.sharers(mm, page).is_empty(), "page {page}");
        }
    }

    /// The end: the account of the only fork has these numbers.
    #[track_caller]
    fn ends_with(self, expected: [u64; 11]) {
        let [account] = self.finish();
        assert_eq!(numbers(&account), expected);
    }

    /// The end: the accounts.
    fn finish<const FORKS: usize>(self) -> [ForkAccount; FORKS] {
        finish(self.sharing).try_into().expect("so many forks")
    }
}

/// What an account says, in the order of its fields from `pages` on: without those of the exec.
fn numbers(account: &ForkAccount) -> [u64; 11] {
    [
        account.pages,
        account.by_child,
        account.by_parent,
        account.by_others,
        account.taken_over,
        account.given_up.exec,
        account.given_up.exit,
        account.given_up.munmap,
        account.still_shared,
        account.unknown,
        account.copied_again,
    ]
}

/// Ends the trace; each account must add up, and so must its areas.
fn finish(sharing: Sharing) -> Vec<ForkAccount> {
    let accounts = sharing.finish();
    for account in &accounts {
        adds_up(account);
        assert!(account.before_exec <= account.by_child + account.by_parent + account.by_others);
    }
    accounts
}
