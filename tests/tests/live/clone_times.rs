//! How long a clone took, who was back first, and how long a vfork held the parent.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use memtrace_events::{Cloned, Event, Events, First};
use tests::harness::Trace;
use tests::subject::report::Fact;

#[test]
fn a_vfork_holds_the_parent_until_exec_exit_or_a_kill() -> Result<()> {
    let trace = Trace::run(["held"])?;
    let mut told = 0;
    for fact in &trace.facts {
        let Fact::Note(name, note) = fact else {
            continue;
        };
        let number = |field: &str| note[field].as_u64().context("a number");
        let (event, cloned) = returned(&trace, number("child")? as u32)?;
        let line = || format!("{name}: {event:?}");
        ensure!(u64::from(event.pid) == number("parent")?, line());
        ensure!(cloned.dur <= number("took")?, line());
        if note["let_go"] == "" {
            ensure!(cloned.held.is_none() && cloned.let_go.is_none(), line());
        } else {
            let held = cloned.held.with_context(line)?;
            ensure!(held >= number("slept")?, line());
            ensure!(cloned.dur >= held, line());
            ensure!(
                serde_json::to_value(cloned.let_go)? == note["let_go"],
                line()
            );
            ensure!(cloned.first == Some(First::Child), line());
        }
        told += 1;
    }
    assert_eq!(told, 7);
    Ok(())
}

#[test]
fn every_clone_returns_and_takes_time() -> Result<()> {
    for words in [
        ["clones", "raw", ""],
        ["clones", "threads", ""],
        ["lives", "forks", "20"],
    ] {
        let trace = Trace::run(words)?;
        let mut returns: BTreeMap<_, _> = trace
            .cloned()
            .map(|(event, cloned)| (cloned.child_tid, (event, cloned)))
            .collect();
        for (event, clone) in trace.clones() {
            let (back, cloned) = returns
                .remove(&clone.child_tid)
                .with_context(|| format!("it doesn't return: {event:?}"))?;
            let context = || format!("{event:?} and {back:?}");
            ensure!(back.tid == event.tid && back.ts >= event.ts, context());
            ensure!(cloned.fork == clone.fork, context());
            ensure!(cloned.first.is_some(), context());
            let is_held = clone.flags.iter().any(|flag| &**flag == "CLONE_VFORK");
            ensure!(cloned.held.is_some() == is_held, context());
        }
        ensure!(returns.is_empty(), "of no clone: {returns:?}");
    }
    Ok(())
}

fn returned(trace: &Trace, child: u32) -> Result<(&Event, &Cloned)> {
    let mut returns = trace
        .cloned()
        .filter(|(_, cloned)| cloned.child_pid == child);
    returns
        .next()
        .with_context(|| format!("no return of the clone of {child}"))
}
