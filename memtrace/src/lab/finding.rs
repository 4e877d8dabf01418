//! What an experiment can find about a claim.

use serde::Serialize;

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

/// A verdict, and what it rests on.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// The one figure that decides it, for the table: a few words.
    pub figure: String,
    /// What was observed, in order: sentences and the events themselves.
    pub seen: Vec<Observation>,
    /// Why that confirms, refutes or qualifies the claim.
    pub why: String,
}

/// A piece of evidence.
#[derive(Clone, Debug)]
pub enum Observation {
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
    seen: Vec<Observation>,
}

impl Evidence {
    /// Adds a sentence.
    pub fn say(&mut self, text: impl Into<String>) -> &mut Self {
        self.seen.push(Observation::Text(text.into()));
        self
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Event) -> &mut Self {
        self.seen.push(Observation::Event(Box::new(event.clone())));
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
