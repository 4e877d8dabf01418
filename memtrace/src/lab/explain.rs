//! A result in plain words.

use std::fmt::Write as _;

use super::{
    claim::Method,
    decided::Decided,
    finding::{Observation, Undecided},
};
use crate::output;

/// Columns of the text. Events have lines as long as they need.
const WIDTH: usize = 100;

/// What the book says, what was done, what was seen, why that decides it, and what to read.
pub fn explain(one: &Decided, colour: bool) -> String {
    let claim = one.claim;
    let mut text = format!("{}: {}\n", claim.id, claim.short);
    section(&mut text, "The book", claim.book);
    match claim.method {
        Method::Experiment { .. } => section(&mut text, "The experiment", claim.experiment),
        Method::Never(_) => {}
    }
    match &one.result {
        Ok(finding) => {
            text += "\nWhat was seen\n";
            for seen in &finding.seen {
                match seen {
                    Observation::Text(words) => text += &wrapped(words),
                    Observation::Event(event) => {
                        // Writing to a String doesn't fail.
                        let _ = writeln!(text, "    {}", output::as_text(event, one.began, colour));
                    }
                }
            }
            let mut verdict = format!(
                "{} ({}). {}",
                finding.verdict.name(),
                finding.figure,
                finding.why
            );
            if one.differs() {
                verdict = format!(
                    "{verdict} A Linux of today should give: {}.",
                    one.expected()
                );
            }
            section(&mut text, "The verdict", &verdict);
        }
        Err(Undecided::NotHere(why)) => section(&mut text, "Not decidable here", why),
        Err(Undecided::Contradiction(what)) => section(
            &mut text,
            "A contradiction",
            &format!(
                "memtrace's events and another source do not agree, so there is no verdict. This does not hold: {what}."
            ),
        ),
    }
    if !claim.read.is_empty() {
        text += "\nTo read\n";
        for line in claim.read {
            text += &wrapped(line);
        }
    }
    text
}

fn section(text: &mut String, title: &str, words: &str) {
    // Writing to a String doesn't fail.
    let _ = write!(text, "\n{title}\n{}", wrapped(words));
}

fn wrapped(words: &str) -> String {
    let options = textwrap::Options::new(WIDTH)
        .initial_indent("  ")
        .subsequent_indent("  ");
    textwrap::fill(words, options) + "\n"
}
