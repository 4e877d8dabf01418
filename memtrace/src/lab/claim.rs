//! What a claim is, and what an experiment can find about it.

use serde::Serialize;

use super::observed::Observed;
use crate::trace::event::Event;

/// What an experiment says of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as the claim says.
    Confirmed,
    /// It is otherwise.
    Refuted,
    /// It is so in one case and otherwise in another; both were seen.
    Qualified,
}

impl Verdict {
    /// Its name in the table and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Qualified => "qualified",
        }
    }
}

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

/// A verdict, and what it rests on.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// The one figure that decides it, for the table: a few words.
    pub figure: String,
    /// What was observed, in order: sentences and the events themselves.
    pub seen: Vec<Seen>,
    /// Why that confirms, refutes or qualifies the claim.
    pub why: String,
}

/// A piece of evidence.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A sentence.
    Text(String),
    /// An event of the trace.
    Event(Box<Event>),
}

/// Why an experiment has no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// This kernel or machine can't show it, or the program did not get so far: why.
    NotHere(String),
    /// memtrace and an independent source disagree: an error of memtrace's, or of the experiment's.
    Contradiction(String),
}

impl Undecided {
    /// Why this kernel or machine can't show it.
    pub fn because(why: impl Into<String>) -> Self {
        Self::NotHere(why.into())
    }
}

/// Gathers the evidence of a judge.
#[derive(Debug, Default)]
pub struct Evidence {
    seen: Vec<Seen>,
}

impl Evidence {
    /// Adds a sentence.
    pub fn say(&mut self, text: impl Into<String>) -> &mut Self {
        self.seen.push(Seen::Text(text.into()));
        self
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Event) -> &mut Self {
        self.seen.push(Seen::Event(Box::new(event.clone())));
        self
    }

    /// An independent source must agree: `what` says who says what.
    ///
    /// # Errors
    /// It does not.
    pub fn agree(&mut self, agrees: bool, what: impl Into<String>) -> Result<&mut Self, Undecided> {
        let what = what.into();
        if !agrees {
            return Err(Undecided::Contradiction(what));
        }
        Ok(self.say(format!("Checked: {what}")))
    }

    /// The finding.
    ///
    /// # Errors
    /// None: it ends a judge.
    #[expect(clippy::unnecessary_wraps, reason = "it ends a judge")]
    pub fn decide(
        self,
        verdict: Verdict,
        figure: impl Into<String>,
        why: impl Into<String>,
    ) -> Result<Finding, Undecided> {
        Ok(Finding {
            verdict,
            figure: figure.into(),
            seen: self.seen,
            why: why.into(),
        })
    }
}
