//! A claim with what came of its experiment, and what all of them together come to.

use super::{
    claim::Claim,
    finding::{Finding, Undecided},
};

/// A claim, and what came of its experiment.
#[derive(Debug)]
pub struct Decided {
    /// The claim.
    pub claim: &'static Claim,
    /// The finding, or why there is none.
    pub result: Result<Finding, Undecided>,
    /// When the trace began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub began: u64,
}

impl Decided {
    /// Whether it was decided, and otherwise than a Linux of today should have it.
    pub fn differs(&self) -> bool {
        let verdict = self.result.as_ref().ok().map(|finding| finding.verdict);
        verdict.is_some_and(|verdict| !self.claim.expected.contains(&verdict))
    }

    /// The verdicts that a Linux of today should give, in words.
    pub fn expected(&self) -> String {
        let names: Vec<_> = self
            .claim
            .expected
            .iter()
            .map(|verdict| verdict.name())
            .collect();
        names.join(" or ")
    }
}

/// All was decided, and as expected.
pub const AS_EXPECTED: u8 = 0;
/// Something was decided otherwise than expected.
const DIFFERS: u8 = 1;
/// Something was not decided, and nothing otherwise than expected.
const UNDECIDED: u8 = 2;

/// memtrace's exit status for all of them.
pub fn status_of(all: &[Decided]) -> u8 {
    if all.iter().any(Decided::differs) {
        DIFFERS
    } else if all.iter().any(|one| one.result.is_err()) {
        UNDECIDED
    } else {
        AS_EXPECTED
    }
}
