//! Where loaders have put the BSS of programs and libraries: the memory of theirs that no file supplies.
//!
//! It is known by addresses, not by VMAs: the kernel makes one VMA of a BSS and of other memory that comes to lie beside it.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// A program or a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its file's identity.
    pub file: u64,
    /// Its path; `None` when that was not told.
    pub path: Option<Arc<str>>,
}

/// All BSS of an address space, by the first addresses. Forks share it until one changes it.
#[derive(Clone, Debug, Default)]
pub struct Bss(Arc<BTreeMap<u64, Area>>);

#[derive(Clone, Debug)]
struct Area {
    end: u64,
    image: Image,
}

impl Bss {
    /// A loader has mapped the BSS of `image`.
    pub fn insert(&mut self, range: Range<u64>, image: Image) {
        self.remove(range.clone());
        if range.start < range.end {
            let area = Area {
                end: range.end,
                image,
            };
            Arc::make_mut(&mut self.0).insert(range.start, area);
        }
    }

    /// The memory there is gone, or another.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        let touched: Vec<u64> = self.within(&range).map(|(start, _)| start).collect();
        if touched.is_empty() {
            return;
        }
        let areas = Arc::make_mut(&mut self.0);
        for start in touched {
            let Some(area) = areas.remove(&start) else {
                continue;
            };
            if range.end < area.end {
                areas.insert(range.end, area.clone());
            }
            if start < range.start {
                let end = range.start;
                areas.insert(start, Area { end, ..area });
            }
        }
    }

    /// Whose BSS an address is in.
    pub fn at(&self, address: u64) -> Option<&Image> {
        let (_, area) = self.0.range(..=address).next_back()?;
        (address < area.end).then_some(&area.image)
    }

    /// Parts of `range`, in order, of which each is in one BSS or in none.
    pub fn parts(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut at = range.start;
        for (start, end) in self.within(range) {
            for bound in [start, end] {
                let bound = bound.clamp(at, range.end);
                if at < bound {
                    parts.push(at..bound);
                    at = bound;
                }
            }
        }
        if at < range.end {
            parts.push(at..range.end);
        }
        parts
    }

    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        let begin = range.start;
        let before = self.0.range(..begin).next_back();
        before
            .into_iter()
            .chain(self.0.range(range.clone()))
            .map(|(start, area)| (*start, area.end))
            .filter(move |(_, end)| *end > begin)
    }

    /// How many there are, for tests.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(file: u64) -> Image {
        Image { file, path: None }
    }

    fn files(bss: &Bss, range: &Range<u64>) -> Vec<(Range<u64>, u64)> {
        let of = |at| bss.at(at).map_or(0, |image| image.file);
        let parts = bss.parts(range).into_iter();
        parts.map(|part| (part.clone(), of(part.start))).collect()
    }

    #[test]
    fn a_range_is_split_where_bss_begins_and_ends() {
        let mut bss = Bss::default();
        bss.insert(10..20, image(1));
        bss.insert(20..30, image(2));
        bss.insert(40..40, image(3));
        assert_eq!(
            files(&bss, &(0..50)),
            [(0..10, 0), (10..20, 1), (20..30, 2), (30..50, 0)]
        );
        assert_eq!(files(&bss, &(12..15)), [(12..15, 1)]);
        assert_eq!(files(&bss, &(30..35)), [(30..35, 0)]);
    }

    #[test]
    fn what_is_mapped_over_is_bss_no_longer() {
        let mut bss = Bss::default();
        bss.insert(10..20, image(1));
        let before = bss.clone();
        bss.remove(12..15);
        assert_eq!(
            files(&bss, &(10..20)),
            [(10..12, 1), (12..15, 0), (15..20, 1)]
        );
        bss.remove(0..11);
        bss.insert(18..25, image(2));
        assert_eq!(
            files(&bss, &(10..30)),
            [
                (10..11, 0),
                (11..12, 1),
                (12..15, 0),
                (15..18, 1),
                (18..25, 2),
                (25..30, 0)
            ]
        );
        assert_eq!(
            files(&before, &(10..20)),
            [(10..20, 1)],
            "a fork's is its own"
        );
        bss.remove(0..100);
        assert_eq!(bss.len(), 0);
    }
    #[test]
    fn it_has_a_piece_for_each_that_is_told_apart_and_forks_share_them() {
        const PIECES: u64 = 10_000;
        let mut bss = Bss::default();
        // Again at the same places: what was there is gone.
        for _ in 0..2 {
            for at in 0..PIECES {
                bss.insert(at * 10..at * 10 + 5, image(at));
            }
        }
        assert_eq!(bss.len() as u64, PIECES);
        let forks: Vec<Bss> = (0..100).map(|_| bss.clone()).collect();
        assert!(forks.iter().all(|fork| Arc::ptr_eq(&fork.0, &bss.0)));
        // What takes nothing away changes nothing.
        bss.remove(5..10);
        assert!(Arc::ptr_eq(&forks[0].0, &bss.0));
        for at in 0..PIECES {
            bss.remove(at * 10 + 2..at * 10 + 3);
        }
        assert_eq!(bss.len() as u64, 2 * PIECES, "each is in two");
        bss.insert(0..PIECES * 10, image(1));
        assert_eq!((bss.len(), forks[99].len() as u64), (1, PIECES));
    }
}
