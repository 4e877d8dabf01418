//! Who shares which pages: edges between two address spaces.
//!
//! The address spaces that map one frame are a tree: each edge of it is due to one fork.

use std::{mem, ops::Range};

use rustc_hash::FxHashMap as HashMap;

use super::{
    ledgers::Ledgers,
    pages::{Pages, moved_page, moved_range, take_range},
};

/// One end of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// The address space.
    pub mm: u32,
    /// By how many pages it has moved the pages up since the fork.
    pub shift: i64,
}

impl End {
    /// Where this end has a page of the fork's moment.
    pub fn page(self, at_fork: u64) -> u64 {
        moved_page(at_fork, self.shift)
    }

    /// Where a page that this end has was at the fork.
    pub fn at_fork(self, page: u64) -> u64 {
        moved_page(page, -self.shift)
    }
}

/// What makes edges equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The fork that it is due to.
    pub fork: u32,
    /// The lower address space first.
    ends: [End; 2],
}

impl Link {
    /// A link between two address spaces.
    pub fn new(fork: u32, one: End, other: End) -> Self {
        let ends = if one.mm < other.mm {
            [one, other]
        } else {
            [other, one]
        };
        Self { fork, ends }
    }

    /// The end at an address space, and the other end.
    fn seen_from(&self, mm: u32) -> (End, End) {
        let [low, high] = self.ends;
        if low.mm == mm {
            (low, high)
        } else {
            (high, low)
        }
    }
}

struct Edge {
    link: Link,
    /// Where they were at the fork.
    pages: Pages,
}

/// An edge, or pages taken out of it, as one of its ends sees it.
pub struct Part<P = Pages> {
    /// The fork.
    pub fork: u32,
    /// This end.
    pub own: End,
    /// The other end.
    pub other: End,
    /// One page, or a set of them: where they were at the fork.
    pub pages: P,
}

impl<P> Part<P> {
    /// This end leaves, and what it shared by `next` passes on to the other end: the link between that and `next`'s
    /// other end.
    pub fn pass_on<Q>(&self, next: &Part<Q>) -> Link {
        let heir = End {
            mm: self.other.mm,
            shift: next.own.shift - self.own.shift + self.other.shift,
        };
        Link::new(next.fork, heir, next.other)
    }
}

/// All edges.
#[derive(Default)]
pub struct Edges {
    /// By number; those that are free have no pages.
    all: Vec<Edge>,
    free: Vec<usize>,
    pub(super) by_link: HashMap<Link, usize>,
    pub(super) by_mm: HashMap<u32, Vec<usize>>,
}

impl Edges {
    /// Adds pages to the edge with this link, which needn't be there yet.
    pub fn add(&mut self, link: Link, pages: Pages, ledgers: &mut Ledgers) {
        if !pages.is_empty() {
            let edge = self.edge(link, ledgers);
            if edge.pages.is_empty() {
                edge.pages = pages;
            } else {
                edge.pages |= pages;
            }
        }
    }

    /// Adds a page.
    pub fn add_page(&mut self, link: Link, at_fork: u64, ledgers: &mut Ledgers) {
        self.edge(link, ledgers).pages.insert(at_fork);
    }

    fn edge(&mut self, link: Link, ledgers: &mut Ledgers) -> &mut Edge {
        let number = *self.by_link.entry(link).or_insert_with(|| {
            let edge = Edge {
                link,
                pages: Pages::new(),
            };
            let number = if let Some(number) = self.free.pop() {
                self.all[number] = edge;
                number
            } else {
                self.all.push(edge);
                self.all.len() - 1
            };
            for end in link.ends {
                self.by_mm.entry(end.mm).or_default().push(number);
            }
            ledgers.hold(link.fork);
            number
        });
        &mut self.all[number]
    }

    fn of(&self, mm: u32) -> &[usize] {
        self.by_mm.get(&mm).map_or(&[], Vec::as_slice)
    }

    /// Whether an address space shares anything.
    pub fn knows(&self, mm: u32) -> bool {
        self.by_mm.contains_key(&mm)
    }

    /// Whether an address space shares one of its pages.
    pub fn any_at(&self, mm: u32, page: u64) -> bool {
        self.at(mm, page).next().is_some()
    }

    /// The edges by which an address space shares one of its pages, with their numbers.
    pub fn at(&self, mm: u32, page: u64) -> impl Iterator<Item = (usize, Part<u64>)> {
        self.of(mm).iter().filter_map(move |&number| {
            let edge = &self.all[number];
            let (own, other) = edge.link.seen_from(mm);
            let at_fork = own.at_fork(page);
            edge.pages.contains(at_fork).then_some((
                number,
                Part {
                    fork: edge.link.fork,
                    own,
                    other,
                    pages: at_fork,
                },
            ))
        })
    }

    /// The forks to which it is due that an address space shares pages, and how many of each.
    pub fn forks(&self, mm: u32) -> impl Iterator<Item = (u32, u64)> {
        let edges = self.of(mm).iter().map(|&number| &self.all[number]);
        edges.map(|edge| (edge.link.fork, edge.pages.len()))
    }

    /// The sets of pages that an address space shares, each with its end's shift.
    pub fn sets(&self, mm: u32) -> impl Iterator<Item = (i64, &Pages)> {
        self.of(mm).iter().map(move |&number| {
            let edge = &self.all[number];
            (edge.link.seen_from(mm).0.shift, &edge.pages)
        })
    }

    /// Takes a page out of an edge. An edge that has none left stays until [`Self::drop_empty`].
    pub fn take_page(&mut self, number: usize, at_fork: u64) {
        self.all[number].pages.remove(at_fork);
    }

    /// Takes all that an address space shares out of its edges, or what lies in a range: the parts that are not empty,
    /// in no order. Edges that have no page left stay until [`Self::drop_empty`].
    pub fn take(&mut self, mm: u32, range: Option<&Range<u64>>) -> Vec<Part> {
        let mut parts = Vec::new();
        for &number in self.by_mm.get(&mm).into_iter().flatten() {
            let edge = &mut self.all[number];
            let (own, other) = edge.link.seen_from(mm);
            let pages = match range {
                Some(range) => take_range(&mut edge.pages, &moved_range(range, -own.shift)),
                None => mem::take(&mut edge.pages),
            };
            if !pages.is_empty() {
                parts.push(Part {
                    fork: edge.link.fork,
                    own,
                    other,
                    pages,
                });
            }
        }
        parts
    }

    /// An address space has moved a range of its pages.
    pub fn relocate(&mut self, mm: u32, range: &Range<u64>, by: i64, ledgers: &mut Ledgers) {
        for part in self.take(mm, Some(range)) {
            let own = End {
                mm,
                shift: part.own.shift + by,
            };
            self.add(Link::new(part.fork, own, part.other), part.pages, ledgers);
        }
        self.drop_empty(mm, ledgers);
    }

    /// Drops the edges of an address space that have no page left.
    pub fn drop_empty(&mut self, mm: u32, ledgers: &mut Ledgers) {
        let Some(numbers) = self.by_mm.get_mut(&mm) else {
            return;
        };
        let mut dropped = Vec::new();
        numbers.retain(|&number| {
            let empty = self.all[number].pages.is_empty();
            if empty {
                dropped.push(number);
            }
            !empty
        });
        if numbers.is_empty() {
            self.by_mm.remove(&mm);
        }
        for number in dropped {
            let link = self.all[number].link;
            self.remove_from(link.seen_from(mm).1.mm, number);
            self.by_link.remove(&link);
            self.free.push(number);
            ledgers.release(link.fork);
        }
    }

    fn remove_from(&mut self, mm: u32, number: usize) {
        if let Some(numbers) = self.by_mm.get_mut(&mm) {
            if let Some(at) = numbers.iter().position(|&other| other == number) {
                numbers.swap_remove(at);
            }
            if numbers.is_empty() {
                self.by_mm.remove(&mm);
            }
        }
    }

    /// Each edge's fork and pages, where those were at the fork.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Pages)> {
        self.by_link
            .iter()
            .map(|(link, &number)| (link.fork, &self.all[number].pages))
    }
}
