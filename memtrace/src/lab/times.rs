//! Times of something that was done several times.

use std::fmt::{self, Display, Formatter};

/// The median of some times and the range that they lie in, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Half of them are shorter.
    pub median: u64,
    /// The shortest.
    pub least: u64,
    /// The longest.
    pub greatest: u64,
}

impl Times {
    /// Those of these; nothing if there are none.
    pub fn of(times: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut times: Vec<u64> = times.into_iter().collect();
        times.sort_unstable();
        Some(Self {
            median: *times.get(times.len() / 2)?,
            least: *times.first()?,
            greatest: *times.last()?,
        })
    }
}

/// In milliseconds: `1.20 ms (0.95 to 3.10)`.
impl Display for Times {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| ns as f64 / 1e6;
        let Self {
            median,
            least,
            greatest,
        } = *self;
        write!(
            f,
            "{:.2} ms ({:.2} to {:.2})",
            ms(median),
            ms(least),
            ms(greatest)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_range() {
        assert_eq!(Times::of([]), None);
        let times = Times::of([3_000_000, 950_000, 1_200_000]).expect("some");
        assert_eq!(times.to_string(), "1.20 ms (0.95 to 3.00)");
    }
}
