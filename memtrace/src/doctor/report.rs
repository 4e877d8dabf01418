//! What `memtrace doctor` prints, on stdout.

use std::io::{Write, stdout};

use anstyle::AnsiColor;
use anyhow::{Context as _, Result};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use super::{
    WORKS, exit_status,
    findings::Findings,
    rows::{ROOT, Row, SUDO, State, rows},
    verdict::{Lack, Verdict, verdict},
};
use crate::output::{self, Escaped, ReportFormat};

/// The version of the JSON form.
const SCHEMA: u32 = 1;
/// Columns of the last column, and of the sentences.
const WIDTH: usize = 80;

/// Prints what was found, and what it comes to.
///
/// # Errors
/// It can't be written.
pub fn report(findings: &Findings, format: ReportFormat) -> Result<()> {
    let rows = rows(findings);
    let verdict = verdict(findings, &rows);
    let text = match format {
        ReportFormat::Json => json(findings, &rows, &verdict)?,
        ReportFormat::Text => text(&rows, &verdict, output::colour_wanted(&stdout())),
    };
    stdout()
        .write_all(text.as_bytes())
        .context("can't write to stdout")
}

/// All of it for programs; `SCHEMA.md` beside this file describes it.
#[derive(Serialize)]
struct Whole<'a> {
    schema: u32,
    version: &'static str,
    kernel: &'a str,
    arch: &'a str,
    works: bool,
    rows: &'a [Row],
    can: &'a [&'static str],
    cannot: &'a [Lack],
}

pub(super) fn json(findings: &Findings, rows: &[Row], verdict: &Verdict) -> Result<String> {
    let whole = Whole {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        kernel: &findings.release,
        arch: &findings.arch,
        works: exit_status(findings) == WORKS,
        rows,
        can: &verdict.can,
        cannot: &verdict.cannot,
    };
    Ok(output::to_json(&whole)? + "\n")
}

pub(super) fn text(rows: &[Row], verdict: &Verdict, colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for row in rows {
        let mut found = wrapped(&row.found);
        for (what, words) in [("costs", &row.costs), ("remedy", &row.remedy)] {
            // Without root it is the same for nearly all, and said once.
            let again = row.remedy.as_deref() == Some(SUDO) && row.name != ROOT;
            if let Some(words) = words.as_ref().filter(|_| !again) {
                found += "\n";
                found += &wrapped(&format!("{what}: {words}"));
            }
        }
        table.add_row([row.state.name(), row.name, &found]);
    }
    let mut text = String::new();
    for line in table.lines() {
        text += &painted(line.trim_end(), colour);
        text += "\n";
    }
    if !verdict.can.is_empty() {
        text += "\nmemtrace can show here\n";
        for what in &verdict.can {
            text += &item(what);
        }
    }
    if !verdict.cannot.is_empty() {
        text += "\nIt can't show here\n";
        let mut rest = verdict.cannot.as_slice();
        while let Some(first) = rest.first() {
            let same = rest
                .iter()
                .take_while(|lack| lack.because == first.because)
                .count();
            for lack in &rest[..same] {
                text += &item(lack.what);
            }
            text += &indented(&format!("because {}", first.because), "    ");
            rest = &rest[same..];
        }
    }
    text
}

/// A line of the table, coloured the word that it begins with if it begins a row.
fn painted(line: &str, colour: bool) -> String {
    // The table's own padding.
    let line = line.strip_prefix(' ').unwrap_or(line);
    let style = |state: State| match state {
        State::Ok => AnsiColor::Green.on_default(),
        State::Lacks => AnsiColor::Red.on_default().bold(),
        State::Unknown => AnsiColor::Yellow.on_default(),
    };
    let state = [State::Ok, State::Lacks, State::Unknown]
        .into_iter()
        .find(|state| line.starts_with(state.name()));
    match state {
        Some(state) if colour => {
            let (style, name) = (style(state), state.name());
            format!("{style}{name}{style:#}{}", &line[name.len()..])
        }
        _ => line.to_owned(),
    }
}

fn wrapped(words: &str) -> String {
    textwrap::fill(&Escaped(words).to_string(), WIDTH)
}

fn item(words: &str) -> String {
    let options = textwrap::Options::new(WIDTH + 20)
        .initial_indent("  - ")
        .subsequent_indent("    ");
    textwrap::fill(&Escaped(words).to_string(), options) + "\n"
}

fn indented(words: &str, indent: &str) -> String {
    let options = textwrap::Options::new(WIDTH + 20)
        .initial_indent(indent)
        .subsequent_indent(indent);
    textwrap::fill(&Escaped(words).to_string(), options) + "\n"
}
