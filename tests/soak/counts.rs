//! The kernel's count is right, whatever was lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memtrace_events::End;
use tests::harness::{Memtrace, Running, subject};
use tests::subject::report::Fact;

use crate::support::{Group, end, ended, nothing_lost, stop_for, to_its_end};

const RUNS: usize = 10;

/// Eight processes that fork all the time, a small buffer, and a memtrace that stands still for two seconds.
fn forks(options: &[&str]) -> Result<()> {
    for run in 0..RUNS {
        let memtrace = Memtrace::new()?
            .options(["--buffer", "1M"])
            .options(options)
            .with_json();
        let command = [subject("load"), "forks".into(), "8".into(), "300".into()];
        let mut running = Running::start(&mut memtrace.command(command))?;
        let group = Group::of(&running);
        running.until("the load", || memtrace.note("ready"))?;
        stop_for(running.pid(), Duration::from_secs(2))?;
        ended(running)?.well()?;
        drop(group);
        let end = end(&memtrace)?;
        eprintln!("run {run}: lost {:?}", end.lost);
        same_as_rusage(&memtrace, &end).with_context(|| format!("run {run}"))?;
    }
    Ok(())
}

/// All but the first process are those that it has waited for.
fn same_as_rusage(memtrace: &Memtrace, end: &End) -> Result<()> {
    let first = memtrace.note("pid")?.context("no process id")?;
    let of_first: u64 = end
        .processes
        .iter()
        .filter(|process| first == process.pid)
        .map(|process| process.min_flt + process.maj_flt)
        .sum();
    ensure!(of_first > 0, "no account of the first process");
    let told = end.total.min_flt + end.total.maj_flt - of_first;
    let facts = memtrace.facts()?;
    let counted = facts.iter().find_map(|fact| match fact {
        Fact::Usage(usage) => Some(usage.minor + usage.major),
        _ => None,
    });
    ensure!(
        Some(told) == counted,
        "{told} faults, rusage has {counted:?}"
    );
    Ok(())
}

#[test]
fn the_kernels_count_holds_with_a_summary() -> Result<()> {
    forks(&["--summary"])
}

#[test]
fn the_kernels_count_holds_with_all_events() -> Result<()> {
    forks(&[])
}

/// Nobody stands still, and the buffer is as usual.
#[test]
fn a_summary_loses_nothing() -> Result<()> {
    let memtrace = Memtrace::new()?.options(["--summary"]).with_json();
    to_its_end(&memtrace, ["load", "forks", "16", "200"])?;
    let end = end(&memtrace)?;
    nothing_lost(&end)?;
    same_as_rusage(&memtrace, &end)
}
