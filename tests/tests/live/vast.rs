//! More memory than is surveyed in one go: `vast`.

use std::collections::BTreeSet;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use memtrace_events::{By, Events, FaultKind};
use serde::Deserialize;
use tests::harness::{AttachTarget, Attached, Memtrace, Trace, proc};
use tests::subject::memory::PAGE;

/// What the child wrote.
#[derive(Deserialize)]
struct Written {
    pid: u32,
    addr: u64,
    pages: u64,
}

/// Pages by which the kernel's own count may be behind, for each CPU (`percpu_counter_batch` in `lib/percpu_counter.c`).
const BEHIND: u64 = 64;

#[test]
fn a_fork_of_too_much_memory_says_what_is_left_out() -> Result<()> {
    let trace = Trace::run(["vast"])?;
    let private = trace.note("private")?.as_u64().context("a number")?;
    let written = written(&trace)?;
    let account = trace.fork(1)?;
    ensure!(account.child == written.pid, "{account:?}");
    let (_, clone) = trace
        .clones()
        .find(|(_, clone)| clone.fork == Some(1))
        .context("the fork's clone")?;
    let copied = clone.copied.as_ref().context("what it copied")?;
    let rest = copied.not_surveyed.context("all is surveyed")?;
    ensure!(rest.from.0 <= written.addr, "{rest:?}");
    if let Some(pages) = rest.pages {
        let behind = BEHIND * available_parallelism()?.get() as u64;
        let sum = copied.pages + pages;
        ensure!(
            sum.abs_diff(private) <= behind,
            "{sum} of {private} pages: {copied:?}"
        );
    }

    // What is left out is told by its faults, each with the fork to blame.
    for page in 0..written.pages {
        let addr = written.addr + page * PAGE as u64;
        let fault = trace
            .faults()
            .find(|(event, fault)| event.pid == written.pid && fault.addr.0 & !0xfff == addr);
        let (event, fault) = fault.with_context(|| format!("no fault at {addr:#x}"))?;
        let fork = fault.cause.as_ref().and_then(|cause| cause.fork.as_ref());
        ensure!(
            fault.kind == FaultKind::CowCopy && fork.is_some_and(|fork| fork.number == 1),
            "{event:?}"
        );
    }
    ensure!(
        account.by_child >= written.pages && account.pages >= copied.pages + written.pages,
        "{account:?}"
    );
    ensure!(account.not_surveyed.is_some(), "{account:?}");
    Ok(())
}

#[test]
fn a_survey_in_parts_is_what_proc_says() -> Result<()> {
    let mut program = AttachTarget::of(["vast"])?;
    let memtrace = Attached::to(Memtrace::new()?, &[program.pid()])?;
    let mappings = proc::mappings(program.pid())?;
    program.work()?;
    let mut trace = memtrace.interrupt()?;
    trace.facts = program.facts()?;
    let there = trace.mmaps().filter(|(_, mmap)| mmap.by == By::Attach);
    let told: BTreeSet<_> = there
        .map(|(_, mmap)| (mmap.addr.0, mmap.len, mmap.resident, mmap.private))
        .collect();
    let is: BTreeSet<_> = mappings
        .iter()
        .map(|of| (of.addr, of.len, Some(of.resident), Some(of.anonymous)))
        .collect();
    let differ: Vec<_> = told.symmetric_difference(&is).collect();
    ensure!(differ.is_empty(), "told or there: {differ:?}");
    let written = written(&trace)?;
    let account = trace.fork(1)?;
    ensure!(
        account.child == written.pid && account.by_child >= written.pages,
        "{account:?}"
    );
    program.finish()
}

fn written(trace: &Trace) -> Result<Written> {
    Ok(serde_json::from_value(trace.note("written")?.clone())?)
}
