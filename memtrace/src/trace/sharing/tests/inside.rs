//! What must always hold inside.

use std::collections::BTreeSet;

use crate::trace::sharing::Sharing;

impl Sharing {
    /// How many edges there are, sets of solo pages, and forks that something is due to.
    pub fn sizes(&self) -> [usize; 3] {
        let held = self.ledgers.forks.values().filter(|fork| fork.holds > 0);
        [
            self.edges.by_link.len(),
            self.solos.by_mm.values().map(Vec::len).sum(),
            held.count(),
        ]
    }

    /// Bytes of all sets of pages, as they would be stored: what they are in memory, but for some words each.
    pub fn bytes(&self) -> u64 {
        let shared = self.edges.iter().map(|(_, pages)| pages);
        let solos = self.solos.by_mm.values().flatten().map(|solo| &solo.pages);
        let sets = shared.chain(solos);
        sets.map(|pages| pages.serialized_size() as u64).sum()
    }

    /// Panics where something inside contradicts itself, or the numbers of pages that are shared and that are alone.
    pub fn check(&self, (shared, sole_owners): (usize, usize)) {
        let pages: Vec<u64> = self.edges.iter().map(|(_, pages)| pages.len()).collect();
        assert!(pages.iter().all(|count| *count > 0), "no edge is empty");
        assert_eq!(pages.iter().sum::<u64>(), shared as u64);
        assert!(self.edges.by_mm.values().all(|edges| !edges.is_empty()));
        assert_eq!(
            self.edges.by_mm.values().map(Vec::len).sum::<usize>(),
            2 * pages.len(),
            "each edge has two ends"
        );

        let mut seen = BTreeSet::new();
        for (mm, solos) in &self.solos.by_mm {
            assert!(!solos.is_empty());
            for solo in solos {
                assert!(!solo.pages.is_empty());
                for at_fork in &solo.pages {
                    let page = at_fork.wrapping_add_signed(solo.key.shift);
                    assert!(seen.insert((*mm, page)), "a page is in one set");
                    assert!(!self.edges.any_at(*mm, page), "a page is alone or shared");
                }
            }
        }
        assert_eq!(seen.len(), sole_owners);

        let [edges, solos, _] = self.sizes();
        let holds: u32 = self.ledgers.forks.values().map(|fork| fork.holds).sum();
        assert_eq!(holds as usize, edges + solos + self.ledgers.made.len());
    }
}
