//! What memtrace can show here, and what not, in words.

use serde::Serialize;

use super::{
    findings::{Findings, Tried},
    rows::{Row, State, WITH_FENTRY, prefers_tracepoints},
};

/// What it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What memtrace can show.
    pub can: Vec<&'static str>,
    /// What it can't.
    pub cannot: Vec<Lack>,
}

/// Something that memtrace can't show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// What.
    pub what: &'static str,
    /// Why not.
    pub because: String,
}

const FAULTS: &str =
    "page faults: which copied a page and which only reused it, with the frames before and after";
const TASKS: &str = "tasks: what each fork, clone, exec and exit shares, copies and leaves";
const MEMORY: &str =
    "memory: each mapping, and at the end what became of the pages that forks left shared";
const RUNNING: &str = "the same of programs that run already (attach)";
const LAB: &str = "the experiments of the lab";
const CHAINS: &str = "the kernel functions that a clone comes through, in the lab";

/// Decides from what was found, and its rows.
pub fn verdict(findings: &Findings, rows: &[Row]) -> Verdict {
    let mut verdict = Verdict {
        can: Vec::new(),
        cannot: Vec::new(),
    };
    if !findings.job.works() {
        let all = [FAULTS, TASKS, MEMORY, RUNNING, LAB];
        let because = first_cause(rows);
        verdict.cannot.extend(all.map(|what| Lack {
            what,
            because: because.clone(),
        }));
        return verdict;
    }
    verdict.can.extend([FAULTS, TASKS, MEMORY]);
    let proc_fits = findings.pids.shown == Some(findings.pids.own);
    let shown = matches!(findings.symbols, Tried::Works(shown) if shown > 0);
    for (what, works, row) in [
        (RUNNING, proc_fits, "pid-namespace"),
        (LAB, proc_fits, "pid-namespace"),
        (CHAINS, proc_fits && shown, "kallsyms"),
        if prefers_tracepoints(findings) {
            (WITH_FENTRY, false, "preemption")
        } else {
            (WITH_FENTRY, findings.fentry.works(), "fentry")
        },
    ] {
        if works {
            verdict.can.push(what);
        } else {
            let because = rows
                .iter()
                .find(|one| one.name == row)
                .map(|row| row.found.clone())
                .unwrap_or_default();
            verdict.cannot.push(Lack { what, because });
        }
    }
    verdict
}

/// The first thing that the main job needs and isn't there; the main job's own row is the last.
fn first_cause(rows: &[Row]) -> String {
    rows.iter()
        .find(|row| row.needed && row.state == State::Lacks)
        .map(|row| row.found.clone())
        .unwrap_or_default()
}
