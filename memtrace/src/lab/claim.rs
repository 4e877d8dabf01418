//! What a claim is.

use super::{
    finding::{Finding, Undecided, Verdict},
    observed::Observed,
};

/// A claim, and the experiment that decides it.
#[derive(Debug)]
pub struct Claim {
    /// `L1` to `L14`, `T1` to `T9`, `F1` to `F18` are those of the notes, `X` and a number those beyond them.
    pub id: &'static str,
    /// The claim in a few words: at most 52 characters.
    pub short: &'static str,
    /// What the book says, in plain words and whole sentences.
    pub book: &'static str,
    /// What the experiment does, in plain words and whole sentences.
    pub experiment: &'static str,
    /// What a Linux of today should give. Several where chance decides.
    pub expected: &'static [Verdict],
    /// What to read in the kernel's source, or in a manual: `mm/memory.c: do_wp_page - what it does`.
    pub read: &'static [&'static str],
    /// How it is decided.
    pub method: Method,
}

/// How a claim is decided.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// A program runs under trace, and a judge looks at what was seen. The judge is a pure function.
    Experiment {
        /// The program, one of [`super::programs`].
        program: &'static str,
        /// From the events to the verdict.
        judge: fn(&Observed) -> Result<Finding, Undecided>,
    },
    /// No Linux can decide it: why.
    Never(&'static str),
}
