//! What `memtrace lab` prints: its progress on stderr, the table, the explanations or JSON on stdout.

use std::io::{IsTerminal as _, Write, stderr, stdout};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use serde_json::json;

use super::{
    claim::{Claim, Method},
    decided::Decided,
    explain::explain,
    finding::{Observation, Undecided, Verdict},
    programs,
};
use crate::{
    cli::Lab,
    output::{self, ReportFormat},
};

/// What stands in place of a verdict.
const UNDECIDED: &str = "not decidable here";

/// Prints as results come.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Report {
    format: ReportFormat,
    explain: bool,
    source: bool,
    /// Whether the progress is one line that is written over.
    terminal: bool,
    colour: bool,
}

impl Report {
    /// For what the command line asks.
    pub fn new(args: &Lab) -> Self {
        Self {
            format: args.format,
            explain: args.explain,
            source: args.source,
            terminal: stderr().is_terminal(),
            colour: output::colour_wanted(&stdout()),
        }
    }

    /// Prints which claims there are.
    ///
    /// # Errors
    /// It can't be written.
    pub fn list(&self, chosen: &[&Claim]) -> Result<()> {
        if self.format == ReportFormat::Json {
            return chosen.iter().try_for_each(|claim| {
                print(&json!({"id": claim.id, "claim": claim.short, "book": claim.book}))
            });
        }
        let mut table = new_table();
        table.set_header(["id", "claim"]);
        for claim in chosen {
            table.add_row([claim.id, claim.short]);
        }
        print_table(&table)
    }

    /// Says on stderr what runs now.
    pub fn progress(&self, at: usize, of: usize, claim: &Claim) {
        let (clear, end) = if self.terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        // Where not even this can be written the result still can.
        let _ = write!(
            stderr(),
            "{clear}[{:2}/{of}] {}: {}{end}",
            at + 1,
            claim.id,
            claim.short
        );
        let _ = stderr().flush();
    }

    /// Prints a result that needn't wait for the others.
    ///
    /// # Errors
    /// It can't be written.
    pub fn decided(&self, one: &Decided) -> Result<()> {
        if self.format == ReportFormat::Json {
            return print(&json(one)?);
        }
        if !self.explain {
            return Ok(());
        }
        self.clear();
        print(&explain(one, self.colour))?;
        if self.source
            && let Method::Experiment { program, .. } = one.claim.method
            && let Some(program) = programs::find(program)
        {
            print(&format_args!(
                "The program, {}.c:\n\n{}",
                program.name, program.source
            ))?;
        }
        Ok(())
    }

    /// Prints the table, and the total.
    ///
    /// # Errors
    /// It can't be written.
    pub fn end(&self, all: &[Decided]) -> Result<()> {
        self.clear();
        if self.format == ReportFormat::Json {
            return Ok(());
        }
        if !self.explain {
            let mut table = new_table();
            table.set_header(["id", "claim", "verdict", "what decides it"]);
            for one in all {
                let (verdict, figure) = row(one);
                table.add_row([one.claim.id, one.claim.short, &verdict, &figure]);
            }
            print_table(&table)?;
            print(&"")?;
        }
        print(&total(all))
    }

    /// Takes the line of the progress away.
    fn clear(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
            let _ = stderr().flush();
        }
    }
}

/// The verdict and the figure of a row.
fn row(one: &Decided) -> (String, String) {
    match &one.result {
        Ok(finding) if one.differs() => (
            format!("{} (!)", finding.verdict.name()),
            format!("{}; expected: {}", finding.figure, one.expected()),
        ),
        Ok(finding) => (finding.verdict.name().to_owned(), finding.figure.clone()),
        Err(Undecided::NotHere(why)) => (UNDECIDED.to_owned(), why.clone()),
        Err(Undecided::Contradiction(what)) => (
            "CONTRADICTION".to_owned(),
            format!("this does not hold: {what}"),
        ),
    }
}

/// How many of each.
fn total(all: &[Decided]) -> String {
    use std::fmt::Write as _;
    let count = |wanted: &dyn Fn(&Decided) -> bool| all.iter().filter(|one| wanted(one)).count();
    let of = |name: &str| {
        count(&|one| {
            one.result
                .as_ref()
                .is_ok_and(|finding| finding.verdict.name() == name)
        })
    };
    let mut words = format!(
        "{} claim{}: {} confirmed, {} qualified, {} refuted, {} not decidable here",
        all.len(),
        if all.len() == 1 { "" } else { "s" },
        of("confirmed"),
        of("qualified"),
        of("refuted"),
        count(&|one| matches!(one.result, Err(Undecided::NotHere(_)))),
    );
    let contradictions = count(&|one| matches!(one.result, Err(Undecided::Contradiction(_))));
    if contradictions > 0 {
        // Writing to a String doesn't fail.
        let _ = write!(
            words,
            ", {contradictions} where memtrace and another source disagree"
        );
    }
    let _ = match count(&Decided::differs) {
        0 => write!(words, ". None differs from a current Linux."),
        differ => write!(words, ". {differ} not as on a current Linux: marked (!)."),
    };
    words
}

/// A result for programs; `SCHEMA.md` beside this file describes it.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    claim: &'a str,
    verdict: Option<Verdict>,
    expected: &'a [Verdict],
    differs: bool,
    figure: Option<&'a str>,
    why: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    contradiction: Option<&'a str>,
    book: &'a str,
    experiment: &'a str,
    evidence: Vec<serde_json::Value>,
    read: &'a [&'a str],
}

fn json(one: &Decided) -> Result<String> {
    let claim = one.claim;
    let mut row = Row {
        id: claim.id,
        claim: claim.short,
        verdict: None,
        expected: claim.expected,
        differs: one.differs(),
        figure: None,
        why: "",
        contradiction: None,
        book: claim.book,
        experiment: claim.experiment,
        evidence: Vec::new(),
        read: claim.read,
    };
    match &one.result {
        Ok(finding) => {
            row.verdict = Some(finding.verdict);
            row.figure = Some(&finding.figure);
            row.why = &finding.why;
            let evidence = finding.seen.iter().map(|seen| match seen {
                Observation::Text(text) => Ok(json!(text)),
                Observation::Event(event) => output::as_json(event),
            });
            row.evidence = evidence.collect::<serde_json::Result<_>>()?;
        }
        Err(Undecided::NotHere(why)) => row.why = why,
        Err(Undecided::Contradiction(what)) => {
            row.why = "memtrace's events and another source do not agree";
            row.contradiction = Some(what);
        }
    }
    Ok(output::to_json(&row)?)
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn print_table(table: &Table) -> Result<()> {
    table.lines().try_for_each(|line| print(&line.trim()))
}

fn print(what: &dyn std::fmt::Display) -> Result<()> {
    writeln!(stdout(), "{what}").context("can't write to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::finding::{Evidence, Finding};

    static CLAIM: Claim = Claim {
        id: "F0",
        short: "a claim",
        book: "The book.",
        experiment: "The experiment.",
        expected: &[Verdict::Qualified],
        read: &["mm/memory.c: do_wp_page - copies"],
        method: Method::Never("It is made up."),
    };

    fn decided(verdict: Verdict) -> Decided {
        let mut evidence = Evidence::default();
        evidence.say("A sentence.");
        with(evidence.decide(verdict, "1 of 3", "It is so."))
    }

    fn with(result: Result<Finding, Undecided>) -> Decided {
        Decided {
            claim: &CLAIM,
            result,
            began: 0,
        }
    }

    fn contradiction() -> Decided {
        with(Err(Undecided::Contradiction("both are 1".to_owned())))
    }

    #[test]
    fn every_field_is_described() {
        let described = include_str!("SCHEMA.md");
        let rows = [
            decided(Verdict::Refuted),
            with(Err(Undecided::because("no KSM"))),
            contradiction(),
        ];
        let mut met = std::collections::BTreeSet::new();
        for row in &rows {
            let json: serde_json::Value =
                serde_json::from_str(&json(row).expect("JSON")).expect("JSON");
            for (name, _) in json.as_object().expect("an object") {
                assert!(described.contains(&format!("\n| `{name}` |")), "{name}");
                met.insert(name.clone());
            }
        }
        assert_eq!(described.matches("\n| `").count(), met.len());
    }

    #[test]
    fn a_difference_is_marked_and_a_contradiction_is_loud() {
        assert_eq!(
            row(&decided(Verdict::Qualified)),
            ("qualified".into(), "1 of 3".into())
        );
        let (verdict, figure) = row(&decided(Verdict::Refuted));
        assert_eq!(
            (verdict.as_str(), figure.as_str()),
            ("refuted (!)", "1 of 3; expected: qualified")
        );
        let (verdict, figure) = row(&contradiction());
        assert!(verdict == "CONTRADICTION" && figure.contains("both are 1"));
    }

    #[test]
    fn the_total_counts_each() {
        let all = [
            decided(Verdict::Qualified),
            decided(Verdict::Refuted),
            with(Err(Undecided::because("no KSM"))),
        ];
        let words = total(&all);
        for part in [
            "3 claims",
            "0 confirmed",
            "1 qualified",
            "1 refuted",
            "1 not decidable",
            "1 not as on a current Linux",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(total(&all[..1]).contains("None differs from"));
        assert!(total(&[contradiction()]).contains("1 where memtrace and another source disagree"));
    }

    #[test]
    fn the_exit_status_tells_the_worst() {
        use crate::lab::decided::status_of;
        let same = || decided(Verdict::Qualified);
        assert_eq!(status_of(&[same()]), 0);
        assert_eq!(
            status_of(&[same(), with(Err(Undecided::because("no KSM")))]),
            2
        );
        assert_eq!(status_of(&[contradiction()]), 2);
        assert_eq!(status_of(&[contradiction(), decided(Verdict::Refuted)]), 1);
    }

    #[test]
    fn an_explanation_says_all_of_it() {
        let text = explain(&decided(Verdict::Refuted), false);
        for part in [
            "F0: a claim",
            "The book.",
            "A sentence.",
            "refuted (1 of 3). It is so.",
            "should give: qualified",
            "do_wp_page",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(explain(&contradiction(), false).contains("both are 1"));
    }
}
