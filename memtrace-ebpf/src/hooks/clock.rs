//! The clock of all records.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

/// Now, in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no conditions.
    unsafe { bpf_ktime_get_ns() }
}
