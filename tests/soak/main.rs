//! What takes minutes: memtrace under loads, and treatment, that no one means well with. Run by `cargo xtask soak`, one case after the
//! other.
//!
//! Unlike the live tests these may hold memtrace to a time: that it ends at once, or keeps no CPU for long, is what they are about.

mod counts;
mod crowds;
mod latency;
mod ring;
mod signals;
mod snapshot;
mod support;
mod types;
mod wide;
