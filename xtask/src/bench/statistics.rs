//! Medians, and how sure they are.

use fastrand::Rng;
use serde::Serialize;

/// Of fewer rounds a median has no interval of 95 %: that all of five lie on one side of the true one has a chance of 1 in 16.
pub(super) const FEWEST: usize = 6;
/// How often the rounds are drawn anew.
const RESAMPLES: usize = 2_000;
/// Half of what lies outside of the interval.
const TAIL: f64 = 0.025;
/// The same runs give the same interval each time.
const SEED: u64 = 16;

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    pub(super) median: f64,
    /// Where the true one lies, at 95 %. None if there are too few rounds to say.
    pub(super) interval: Option<Interval>,
    pub(super) rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The median of a figure per round; none if there is no round.
pub(super) fn of_median(rounds: &[f64]) -> Option<Estimate> {
    estimate(rounds, median)
}

/// What `statistic` makes of the rounds, with an interval by bootstrap: as many rounds are drawn from these, some of them
/// more than once, and that is done again and again. What a round holds stays together.
pub(super) fn estimate<T: Copy>(
    rounds: &[T],
    statistic: impl Fn(&[T]) -> Option<f64>,
) -> Option<Estimate> {
    let median = statistic(rounds)?;
    let interval = (rounds.len() >= FEWEST).then(|| {
        let mut random = Rng::with_seed(SEED);
        let mut drawn = Vec::with_capacity(rounds.len());
        let mut figures: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                drawn.clear();
                drawn.extend(rounds.iter().map(|_| rounds[random.usize(..rounds.len())]));
                statistic(&drawn)
            })
            .collect();
        figures.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (figures.len().saturating_sub(1)) as f64 * share;
            figures
                .get(place.round() as usize)
                .copied()
                .unwrap_or(median)
        };
        Interval {
            low: at(TAIL),
            high: at(1.0 - TAIL),
        }
    });
    Some(Estimate {
        median,
        interval,
        rounds: rounds.len(),
    })
}

/// The middle one, or the mean of the middle two.
pub(super) fn median(figures: &[f64]) -> Option<f64> {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    if figures.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*figures.get(middle - 1)?, upper))
}

/// How far apart the figures lie, in percent of their median.
pub(super) fn spread(figures: &[f64]) -> Option<f64> {
    let highest = figures.iter().copied().max_by(f64::total_cmp)?;
    let lowest = figures.iter().copied().min_by(f64::total_cmp)?;
    Some((highest - lowest) / median(figures)? * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn the_spread_is_of_the_median() {
        assert_eq!(spread(&[90.0, 100.0, 150.0]), Some(60.0));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn equal_rounds_leave_no_doubt() {
        let sure = of_median(&[1.2; 15]).expect("rounds");
        assert_eq!(Some(sure.median), median(&[1.2]));
        assert_eq!(
            sure.interval,
            Some(Interval {
                low: 1.2,
                high: 1.2
            })
        );
        assert_eq!(sure.rounds, 15);
    }

    #[test]
    fn the_interval_holds_the_middle_and_not_one_outlier() {
        let mut rounds: Vec<f64> = (0..15).map(|i| 1.0 + f64::from(i) / 100.0).collect();
        rounds[14] = 50.0;
        let Interval { low, high } = of_median(&rounds).and_then(|e| e.interval).expect("some");
        // The median's exact interval (binomial) is from the 4th to the 12th of 15.
        assert!((1.02..=1.04).contains(&low), "{low}");
        assert!((1.10..=1.12).contains(&high), "{high}");
    }

    #[test]
    fn an_interval_is_the_same_each_time() {
        let rounds: Vec<f64> = (0..20).map(|i| f64::from(i * i % 7)).collect();
        assert_eq!(of_median(&rounds), of_median(&rounds));
    }

    #[test]
    fn five_rounds_have_no_interval() {
        assert_eq!(of_median(&[1.0; 5]).map(|e| e.interval), Some(None));
        assert_eq!(of_median(&[]), None);
    }

    #[test]
    fn what_a_round_holds_stays_together() {
        // Each round's two figures differ by one, whatever the round's own level.
        let rounds: Vec<_> = (0..9)
            .map(|i| (f64::from(i * 10), f64::from(i * 10 + 1)))
            .collect();
        let apart = estimate(&rounds, |rounds| {
            median(&rounds.iter().map(|(a, b)| b - a).collect::<Vec<_>>())
        });
        let apart = apart.expect("rounds");
        assert_eq!(
            apart.interval,
            Some(Interval {
                low: 1.0,
                high: 1.0
            })
        );
    }
}
