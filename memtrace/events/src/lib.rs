//! What memtrace reports: the events of a trace, and the accounts at its end, as types.
//!
//! Every output is made from these alone. `memtrace/src/output/SCHEMA.md` describes their JSON form to readers,
//! [`json_schema`] to programs, and a line of JSON can be read back as a [`Line`]. There is no kernel in here, no eBPF and no
//! command line. Without the feature `std` there are only the kinds of faults, by which the hooks count.
#![cfg_attr(not(feature = "std"), no_std)]

mod fault_kind;
#[cfg(feature = "std")]
mod report;

pub use fault_kind::FaultKind;
#[cfg(feature = "std")]
pub use report::*;

/// The variants of an enumeration, as an array of as many.
const fn array<T, const N: usize>(variants: &[T]) -> &[T; N] {
    match variants.first_chunk() {
        Some(all) => all,
        None => unreachable!(),
    }
}
