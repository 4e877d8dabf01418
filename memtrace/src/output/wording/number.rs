//! Numbers with their units.

use std::fmt::{self, Display, Formatter};

/// A size, exact, in the largest unit that divides it.
pub(super) struct Bytes(pub(super) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = (self.0.trailing_zeros() / 10).min(4);
        match self.0 {
            0 => f.write_str("0 bytes"),
            1 => f.write_str("1 byte"),
            bytes => {
                let name = ["bytes", "KiB", "MiB", "GiB", "TiB"][unit as usize];
                write!(f, "{} {name}", bytes >> (10 * unit))
            }
        }
    }
}

/// A size that need not be exact.
pub(in crate::output) struct Size(pub(in crate::output) u64);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const KIB: f64 = 1024.0;
        let bytes = self.0 as f64;
        // Nothing is shown as 1024.0 of a unit.
        let fits = |unit: f64| bytes < (KIB - 0.05) * unit;
        match self.0 {
            0..1024 => write!(f, "{}", Bytes(self.0)),
            _ if fits(KIB) => write!(f, "{:.0} KiB", bytes / KIB),
            _ if fits(KIB * KIB) => write!(f, "{:.1} MiB", bytes / (KIB * KIB)),
            _ => write!(f, "{:.1} GiB", bytes / (KIB * KIB * KIB)),
        }
    }
}

/// So many pages of 4 KiB, as a size.
pub(in crate::output) const fn size_of(pages: u64) -> Size {
    Size(pages.saturating_mul(4096))
}

/// Nanoseconds in a handy unit.
pub(in crate::output) struct Span(pub(in crate::output) u64);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        let (unit, name) = match self.0 {
            0..1_000 => return write!(f, "{} ns", self.0),
            1_000..1_000_000 => (1e3, "us"),
            1_000_000..1_000_000_000 => (1e6, "ms"),
            _ => (1e9, "s"),
        };
        let digits = usize::from(ns / unit < 99.95);
        write!(f, "{:.digits$} {name}", ns / unit)
    }
}

/// Nanoseconds as seconds, with microseconds. A width is that of the whole seconds.
pub(in crate::output) struct Seconds(pub(in crate::output) u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1000;
        let width = f.width().unwrap_or(0);
        write!(
            f,
            "{:>width$}.{:06}",
            micros / 1_000_000,
            micros % 1_000_000
        )
    }
}

/// So many of something.
pub(in crate::output) struct Count(
    pub(in crate::output) u64,
    pub(in crate::output) &'static str,
);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(count, noun) = self;
        let plural = match (*count, noun.ends_with('s')) {
            (1, _) => "",
            (_, false) => "s",
            (_, true) => "es",
        };
        write!(f, "{count} {noun}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0 bytes");
        assert_eq!(shown(100), "100 bytes");
        assert_eq!(shown(132 << 10), "132 KiB");
        assert_eq!(shown((2 << 20) + 4096), "2052 KiB");
        assert_eq!(shown(1 << 63), "8388608 TiB");
    }

    #[test]
    fn sizes_are_handy() {
        let shown = |bytes| Size(bytes).to_string();
        assert_eq!(shown(0), "0 bytes");
        assert_eq!(shown(44 << 10), "44 KiB");
        assert_eq!(shown((1 << 20) - 1), "1.0 MiB");
        assert_eq!(shown(1_900_544), "1.8 MiB");
        assert_eq!(shown((1 << 30) - 1), "1.0 GiB");
        assert_eq!(shown(3 << 40), "3072.0 GiB");
        assert_eq!(size_of(512).to_string(), "2.0 MiB");
    }

    #[test]
    fn spans_are_handy() {
        let shown = |ns| Span(ns).to_string();
        assert_eq!(shown(0), "0 ns");
        assert_eq!(shown(999), "999 ns");
        assert_eq!(shown(1_000), "1.0 us");
        assert_eq!(shown(99_950), "100 us");
        assert_eq!(shown(312_400), "312 us");
        assert_eq!(shown(1_249_999), "1.2 ms");
        assert_eq!(shown(3_600_000_000_000), "3600 s");
    }
}
