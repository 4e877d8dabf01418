//! `memtrace lab`: experiments that decide, on the running kernel, what a course's notes claim.
//!
//! A claim ([`claims`]) names a program ([`programs`]) and a judge. The program runs under trace ([`run`]) and says at
//! its marks which addresses matter; there memtrace looks at it through /proc, too ([`snapshot`]). The judge is a pure
//! function from all of that ([`observed`]) to a verdict and its evidence ([`finding`]); [`report`] and [`explain`] show it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use self::{
    claim::{Claim, Method},
    decided::{AS_EXPECTED, Decided, status_of},
    finding::Undecided,
    observed::Observed,
    report::Report,
    run::{Bench, Outcome},
};
use crate::{
    cli,
    target::{self, Inherited, status},
    trace_loop::event_loop,
};

mod choose;
mod claim;
mod claims;
mod decided;
mod elf;
mod explain;
mod finding;
mod inside;
mod observed;
mod programs;
mod report;
mod run;
mod snapshot;
#[cfg(test)]
mod story;
mod symbols;
mod times;

/// Runs the experiments that are asked for, or lists them. Returns memtrace's exit status.
///
/// # Errors
/// memtrace itself can't work, or an id is none.
pub fn lab(args: &cli::Lab) -> Result<u8> {
    let chosen = choose::choose(&args.claims)?;
    let report = Report::new(args);
    if choose::is_list(&args.claims) {
        report.list(&chosen)?;
        return Ok(AS_EXPECTED);
    }
    if needs_programs(&chosen) {
        target::require_root()?;
    }
    target::end_at_signals(Inherited::at_start()).context("can't listen for signals")?;
    event_loop()?.block_on(decide(&chosen, &report, &args.kernel))
}

async fn decide(chosen: &[&'static Claim], report: &Report, kernel: &cli::Kernel) -> Result<u8> {
    let inherited = Inherited::at_start();
    let mut bench = if needs_programs(chosen) {
        Some(Bench::new(kernel, inherited)?)
    } else {
        None
    };
    // What several claims are about runs once.
    let mut seen: BTreeMap<&str, Result<Box<Observed>, Undecided>> = BTreeMap::new();
    let mut all = Vec::new();
    for (at, &claim) in chosen.iter().enumerate() {
        report.progress(at, chosen.len(), claim);
        let (result, began) = match claim.method {
            Method::Experiment { program, judge } => {
                if !seen.contains_key(program) {
                    let known = programs::find(program)
                        .context("a claim names a program that isn't there")?;
                    let bench = bench.as_mut().context("no program was expected to run")?;
                    let observed = match bench.observe(known).await? {
                        Outcome::Ended(observed) => Ok(observed),
                        Outcome::Stuck(why) => Err(Undecided::NotHere(why)),
                        Outcome::Interrupted(asked) => return Ok(status::by(asked.number)),
                    };
                    seen.insert(program, observed);
                }
                match &seen[program] {
                    Ok(observed) => (
                        observed.complete().and_then(|()| judge(observed)),
                        observed.began,
                    ),
                    Err(why) => (Err(why.clone()), 0),
                }
            }
            Method::Never(why) => (Err(Undecided::because(why)), 0),
        };
        all.push(Decided {
            claim,
            result,
            began,
        });
        report.decided(&all[at])?;
    }
    report.end(&all)?;
    Ok(status_of(&all))
}

/// Whether one of them is decided by a program that runs.
fn needs_programs(chosen: &[&Claim]) -> bool {
    chosen
        .iter()
        .any(|claim| matches!(claim.method, Method::Experiment { .. }))
}
