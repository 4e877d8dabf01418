//! Ranges of addresses, or of pages.

use std::ops::Range;

/// Ranges in their order, of which those that overlap or follow each other are one.
pub fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let follows = next.start <= last.end;
        if follows {
            last.end = last.end.max(next.end);
        }
        follows
    });
    ranges.shrink_to_fit();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_or_follows_is_one() {
        let ranges = vec![8..9, 0..2, 5..6, 2..3, 1..2, 5..8, 20..30, 22..23];
        assert_eq!(joined(ranges), [0..3, 5..9, 20..30]);
        assert!(joined(Vec::new()).is_empty());
    }
}
