//! End-to-end tests on the live kernel, and the small programs they trace.
//!
//! The programs (`src/bin`, "subjects") do one thing to their memory or tasks and report what they did, with the
//! frames and counts that the kernel itself gives them. The tests (`tests/live`) trace a subject with memtrace and hold
//! memtrace's events against that report.

pub mod harness;
pub mod subject;
