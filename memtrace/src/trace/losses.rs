//! When records were lost: what was under way then may be incomplete.

use std::ops::RangeInclusive;

/// Times that are told apart; beyond them neighbours are one.
const KEPT: usize = 1024;

/// The times in which records were lost.
#[derive(Clone, Debug, Default)]
pub struct Losses(Vec<RangeInclusive<u64>>);

impl Losses {
    /// Records were lost at some moment of that time, which doesn't end before the one that was noted last.
    pub fn note(&mut self, time: RangeInclusive<u64>) {
        let (mut start, mut end) = time.into_inner();
        while let Some(last) = self.0.pop_if(|last| *last.end() >= start) {
            start = start.min(*last.start());
            end = end.max(*last.end());
        }
        self.0.push(start..=end);
        if self.0.len() > KEPT {
            let pairs = self.0.chunks(2);
            let joined =
                pairs.filter_map(|pair| Some(*pair.first()?.start()..=*pair.last()?.end()));
            self.0 = joined.collect();
        }
    }

    /// Whether none was ever lost.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether records were lost between these times.
    pub fn any_in(&self, time: RangeInclusive<u64>) -> bool {
        let at = self.0.partition_point(|lost| lost.end() < time.start());
        self.0
            .get(at)
            .is_some_and(|lost| lost.start() <= time.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_is_told_from_what_was_not() {
        let mut losses = Losses::default();
        assert!(!losses.any_in(0..=u64::MAX));
        losses.note(10..=20);
        losses.note(20..=30);
        losses.note(50..=60);
        assert_eq!(losses.0.len(), 2);
        for (time, any) in [
            (0..=9, false),
            (0..=10, true),
            (15..=16, true),
            (30..=40, true),
            (31..=49, false),
            (31..=50, true),
            (61..=u64::MAX, false),
        ] {
            assert_eq!(losses.any_in(time.clone()), any, "{time:?}");
        }
    }

    #[test]
    fn a_long_time_covers_short_ones() {
        let mut losses = Losses::default();
        for time in [1..=2, 10..=20, 30..=40, 15..=50] {
            losses.note(time);
        }
        assert_eq!(losses.0, [1..=2, 10..=50]);
    }

    #[test]
    fn ever_so_many_are_bounded_and_none_is_forgotten() {
        let mut losses = Losses::default();
        for at in 0..10_000 {
            losses.note(at * 10..=at * 10 + 1);
        }
        assert!(losses.0.len() <= KEPT);
        assert!((0..10_000).all(|at| losses.any_in(at * 10..=at * 10)));
        assert!(!losses.any_in(99_992..=u64::MAX));
    }
}
