//! An address space leaves the sharing of pages: what becomes of the edges.
//!
//! Of its edges at a page the one of the latest fork ends, and the end is booked on that fork. The others pass on, so
//! that those that go on sharing the page are one tree: the second's end at the leaver moves to the other end of the
//! first, the third's to the other end of the second, and so on.

use std::{cmp::Reverse, ops::Range};

use super::{
    Ending, Origin, Sharing,
    edge::{End, Part},
    pages::{Pages, moved_pages},
    sole_owner::Key,
};

impl Sharing {
    /// An address space leaves the sharing of one page: the fork of the edge that ended, if there was one.
    pub(super) fn leave_page(&mut self, mm: u32, page: u64, ending: Ending) -> Option<Origin> {
        let mut edges: Vec<(usize, Part<u64>)> = self.edges.at(mm, page).collect();
        edges.sort_unstable_by_key(|(_, part)| Reverse(part.fork));
        for (number, part) in &edges {
            self.edges.take_page(*number, part.pages);
        }
        for pair in edges.windows(2) {
            let (_, before) = &pair[0];
            let (_, part) = &pair[1];
            let link = before.pass_on(part);
            self.edges.add_page(link, part.pages, &mut self.ledgers);
        }

        let (_, ended) = edges.first()?;
        let ledger = self.ledgers.get_mut(ended.fork)?;
        ledger.book_page(ended.pages, ending, mm);
        let origin = ledger.origin();
        let End { mm: other, shift } = ended.other;
        if ending.leaves_solo() && !self.edges.any_at(other, ended.other.page(ended.pages)) {
            let key = Key {
                fork: ended.fork,
                ending,
                shift,
            };
            self.solos
                .add_page(other, key, ended.pages, &mut self.ledgers);
        }
        self.edges.drop_empty(mm, &mut self.ledgers);
        Some(origin)
    }

    /// An address space leaves the sharing of all its pages, or of those in a range.
    pub(super) fn leave(&mut self, mm: u32, range: Option<&Range<u64>>, ending: Ending) {
        let mut parts = self.edges.take(mm, range);
        parts.sort_unstable_by_key(|part| Reverse(part.fork));
        let mut ended = Vec::with_capacity(parts.len());
        // The parts so far, each with those of its pages at which no later part has come yet.
        let mut last: Vec<Part> = Vec::new();
        for part in parts {
            let mut pages = part.pages.clone();
            for before in &mut last {
                let ahead = before.own.shift - part.own.shift;
                let both = &*moved_pages(&before.pages, ahead, &part.pages) & &part.pages;
                if !both.is_empty() {
                    before.pages -= &*moved_pages(&both, -ahead, &before.pages);
                    pages -= &both;
                    let link = before.pass_on(&part);
                    self.edges.add(link, both, &mut self.ledgers);
                }
            }
            last.retain(|part| !part.pages.is_empty());
            if !pages.is_empty() {
                ended.push((part.fork, part.other, pages));
            }
            last.push(part);
        }

        for (fork, other, pages) in ended {
            if let Some(ledger) = self.ledgers.get_mut(fork) {
                ledger.book(&pages, ending, mm);
            }
            if ending.leaves_solo() {
                let key = Key {
                    fork,
                    ending,
                    shift: other.shift,
                };
                let solo = self.unshared(other, pages);
                self.solos.add(other.mm, key, solo, &mut self.ledgers);
            }
        }
        self.edges.drop_empty(mm, &mut self.ledgers);
    }

    /// Those of an address space's pages that it shares with nobody.
    fn unshared(&self, end: End, mut pages: Pages) -> Pages {
        for (shift, shared) in self.edges.sets(end.mm) {
            if pages.is_empty() {
                break;
            }
            pages -= &*moved_pages(shared, shift - end.shift, &pages);
        }
        pages
    }
}
