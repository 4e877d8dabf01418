//! `memtrace doctor`: what the running kernel grants memtrace, what it lacks, and what to do about it.
//!
//! Each thing is looked at ([`inspect`]) or tried ([`trial`]) for itself, and at last a small program is traced ([`job`]).
//! All of that is [`findings`]. What follows from them is decided in pure functions: a row for each check ([`rows`]) and what
//! memtrace can show ([`verdict`]). [`report`] writes it.

use anyhow::Result;

pub use self::subject::subject;
use crate::cli;

mod findings;
mod inspect;
mod job;
mod report;
mod rows;
mod subject;
#[cfg(test)]
mod tests;
mod trial;
mod verdict;

/// The main job works.
const WORKS: u8 = 0;
/// It doesn't, or couldn't be tried.
const FAILS: u8 = 1;

/// Checks what the kernel grants, and says so. Returns memtrace's exit status.
///
/// # Errors
/// It can't be written, or memtrace itself can't work.
pub fn doctor(args: &cli::Doctor) -> Result<u8> {
    let findings = inspect::inspect(&args.kernel)?;
    report::report(&findings, args.format)?;
    Ok(exit_status(&findings))
}

/// Only the main job decides: it needs all that is needed.
fn exit_status(findings: &findings::Findings) -> u8 {
    match findings.job {
        findings::Tried::Works(_) => WORKS,
        findings::Tried::Refused(_) | findings::Tried::Untried => FAILS,
    }
}
