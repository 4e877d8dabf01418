//! The clocks: that of all times in a trace, and the wall's.

use nix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds of `CLOCK_MONOTONIC`: the clock that the hooks read (`bpf_ktime_get_ns`).
pub fn now() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By `CLOCK_MONOTONIC`.
    pub ts: u64,
    /// By `CLOCK_REALTIME`.
    pub realtime: u64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            ts: now(),
            realtime: nanoseconds(ClockId::CLOCK_REALTIME),
        }
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    // It can only fail for a clock that doesn't exist.
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    })
}
