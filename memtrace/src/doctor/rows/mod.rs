//! A row for each check.

use serde::Serialize;

use super::findings::Findings;

mod bpf;
mod memory;
mod system;

pub use bpf::{WITH_FENTRY, prefers_tracepoints};

/// A check, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The check's name.
    pub name: &'static str,
    /// What came of it.
    pub state: State,
    /// Whether memtrace can't do its main job without it.
    pub needed: bool,
    /// What was found.
    pub found: String,
    /// What its lack costs.
    pub costs: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is there.
    Ok,
    /// It isn't.
    Lacks,
    /// It couldn't be tried.
    Unknown,
}

impl State {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Lacks => "lacks",
            Self::Unknown => "unknown",
        }
    }
}

/// The check for root.
pub const ROOT: &str = "root";
/// What to do without root.
pub const SUDO: &str = "run it with sudo";
/// The rows of trials that need several things.
const TRY_SEVERAL: [&str; 2] = ["direct-map", "main-job"];
/// What the lack of something needed costs.
const ALL: &str = "nothing can be traced";

impl Row {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            needed: false,
            found: found.into(),
            costs: None,
            remedy: None,
        }
    }

    fn lacks(
        name: &'static str,
        found: impl Into<String>,
        costs: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Lacks,
            costs: Some(costs.into()),
            remedy: Some(remedy.into()),
            ..Self::ok(name, found)
        }
    }

    fn unknown(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            state: State::Unknown,
            remedy: Some(remedy.to_owned()),
            ..Self::ok(name, found)
        }
    }

    /// Of a trial that needs root, and wasn't made without.
    fn untried(name: &'static str) -> Self {
        Self::unknown(name, "not tried: needs root", SUDO)
    }

    /// The main job needs it.
    fn needed(self) -> Self {
        Self {
            needed: true,
            ..self
        }
    }
}

/// All rows, the main job's at the end.
pub fn rows(findings: &Findings) -> Vec<Row> {
    let mut rows = vec![
        system::kernel(findings).needed(),
        system::root(findings).needed(),
        system::capabilities(findings),
        system::lockdown(findings),
        bpf::btf(findings).needed(),
        bpf::bpf(findings).needed(),
        bpf::ring_buffer(findings).needed(),
        bpf::memlock(findings),
        bpf::tracepoints(findings),
        bpf::fentry(findings),
        bpf::preemption(findings),
        bpf::timer(findings).needed(),
        memory::kernel_reads(findings).needed(),
        memory::frames(findings).needed(),
        memory::direct_map(findings).needed(),
        system::kallsyms(findings),
        system::pid_namespace(findings),
        system::cpus(findings),
        system::terminal(findings),
        memory::main_job(findings).needed(),
    ];
    refer(&mut rows);
    rows
}

/// The last rows try several things at once. What an earlier row has said of one of them they don't say again.
fn refer(rows: &mut [Row]) {
    for at in 1..rows.len() {
        let (before, rest) = rows.split_at_mut(at);
        let row = &mut rest[0];
        if !TRY_SEVERAL.contains(&row.name) {
            continue;
        }
        let first = before
            .iter()
            .find(|first| first.state == State::Lacks && row.found.contains(&first.found));
        if let Some(first) = first {
            let see = format!("see {}", first.name);
            row.found = row.found.replace(&first.found, &see);
            row.remedy = Some(see);
        }
    }
}

/// Several in a sentence.
fn list<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    words.join(", ")
}
