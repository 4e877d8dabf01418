//! The clock of all times in a trace.

use nix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds of `CLOCK_MONOTONIC`: the clock that the hooks read (`bpf_ktime_get_ns`).
pub fn now() -> u64 {
    // It can only fail for a clock that doesn't exist.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    })
}
