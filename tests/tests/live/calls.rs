//! System calls on the address space beside the usual ones, and those that fail to make a task or to run a program.

use anyhow::{Context, Result, ensure};
use memtrace_events::{EventKind, Events, FaultKind, Region};
use serde_json::{Value, json};
use tests::harness::{Trace, without};

#[test]
fn calls_that_change_mappings_in_less_usual_ways() -> Result<()> {
    let trace = Trace::run(["calls", "mappings"])?;
    // What a kernel doesn't have fails, too.
    ensure!(trace.check_calls()? >= 5, "failing calls in the report");
    Ok(())
}

#[test]
fn what_process_madvise_drops_is_charged_to_it() -> Result<()> {
    let trace = Trace::run(["calls", "dropped"])?;
    let dropped = trace.note("dropped")?;
    // Before 6.13 a process could not have what it has dropped by this call.
    let pages = if dropped[1] == true { 3 } else { 0 };
    ensure!((dropped[0] == 3 * 4096) == (pages == 3), "{dropped}");
    assert_eq!(trace.fork(1)?.given_up.munmap, pages);

    let advised = trace.note("advised")?;
    let lines = trace.events.iter().map(|event| json!(event));
    let told: Vec<Value> = lines
        .filter(|line| line["call"] == "process_madvise" && line["process"] == advised["child"])
        .filter(|line| line["advice"] == "MADV_COLD")
        .map(|line| json!([line["addr"], line["len"]]))
        .collect();
    assert_eq!(advised["ret"], 3 * 4096);
    assert_eq!(json!(told), advised["ranges"]);
    Ok(())
}

#[test]
fn clones_and_execs_that_fail() -> Result<()> {
    let trace = Trace::run(["calls", "failed"])?;
    assert_eq!(trace.check_calls()?, 6);
    Ok(())
}

/// The event of this type of a process; there must be one.
fn only(trace: &Trace, pid: &Value, kind: &str) -> Result<Value> {
    let mut events = trace
        .events
        .iter()
        .filter(|event| event.what.name() == kind && event.pid == *pid);
    let event = events
        .next()
        .with_context(|| format!("no {kind} of {pid}"))?;
    ensure!(events.next().is_none(), "two of {kind} of {pid}");
    Ok(json!(event))
}

#[test]
fn tasks_that_are_refused_execs_that_are_fatal_and_core_dumps() -> Result<()> {
    let trace = Trace::run(["calls", "died"])?;
    let refused = trace.note("refused")?;
    let failed = only(&trace, &refused[0], "failed")?;
    ensure!(
        failed["ret"] == -refused[1].as_i64().context("an errno")?,
        "{failed}"
    );

    let lost = trace.note("lost")?;
    let failed = only(&trace, &lost["pid"], "failed")?;
    ensure!(
        failed["fatal"] == true && failed["exe"] == lost["what"],
        "{failed}"
    );
    let mut execs = trace.execs().filter(|(event, _)| event.pid == lost["pid"]);
    ensure!(execs.next().is_none(), "an exec that failed");

    for name in ["lost", "dumped", "not dumped"] {
        let death = trace.note(name)?;
        let exit = only(&trace, &death["pid"], "exit")?;
        ensure!(exit["signal"] == death["signal"], "{exit}");
        ensure!((exit["core"] == true) == (death["core"] == true), "{exit}");
    }
    Ok(())
}

/// A 64-bit program that makes 32-bit calls.
#[test]
fn calls_of_the_32_bit_interface() -> Result<()> {
    let trace = Trace::run(["compat", "calls"])?;
    if without(&trace, "32-bit calls") {
        return Ok(());
    }
    trace.check_calls()?;
    let forked = trace.note("forked")?;
    let mut clones = trace.clones();
    let (event, clone) = clones
        .find(|(_, clone)| clone.child_pid == *forked)
        .context("no clone")?;
    assert_eq!((&*clone.call, event.abi.as_deref()), ("fork", Some("i386")));
    let mut returns = trace.cloned();
    ensure!(
        returns.any(|(_, cloned)| cloned.child_pid == *forked),
        "no return"
    );
    // What the parent has unmapped by such a call while the child had it, too.
    let fork = clone.fork.context("no number of the fork")?;
    assert_eq!(trace.fork(fork)?.given_up.munmap, 4);
    Ok(())
}

/// A 32-bit program. The numbers of some of its calls are those of others on a 64-bit kernel.
#[test]
fn a_32_bit_program() -> Result<()> {
    let trace = Trace::run(["compat", "program"])?;
    if without(&trace, "32-bit programs") {
        return Ok(());
    }
    let (exec, _) = trace.execs().last().context("no exec")?;
    let told: Vec<_> = trace
        .events
        .iter()
        .filter(|event| event.ts > exec.ts && event.abi.is_some())
        .map(|event| {
            let line = json!(event);
            let what = match &event.what {
                EventKind::Brk(brk) => json!(brk.new.0 - brk.old.0),
                EventKind::Clone(clone) => json!(clone.call),
                _ => json!([line["addr"], line["len"]]),
            };
            json!([line["type"], what])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["brk", 0]),
            json!(["brk", 0x4000]),
            json!(["mmap", ["0x50000000", 0x10000]]),
            json!(["clone", "fork"]),
            json!(["munmap", ["0x50008000", 0x8000]]),
        ]
    );
    assert_eq!(trace.fork(1)?.by_child, 4, "pages that the child wrote");
    // Its data may be executed, like all that it may read.
    let (_, data) = trace
        .faults()
        .find(|(_, fault)| fault.addr.0 == 0x0805_8000)
        .context("no fault in the data")?;
    assert_eq!((data.kind, data.region), (FaultKind::FileCow, Region::Data));
    Ok(())
}
