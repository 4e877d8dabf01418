//! What `memtrace attach` writes, and where: as `memtrace run` does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memtrace_events::Events;
use nix::sys::signal::{Signal, kill};
use tests::harness::{AttachTarget, Attached, Memtrace, Run, Running};

#[test]
fn only_some_events() -> Result<()> {
    let mut program = AttachTarget::start("forks")?;
    let memtrace = Memtrace::new()?
        .options(["--only", "clone,exit"])
        .with_json();
    let running = Running::start(&mut memtrace.attach([program.pid()]))?;
    let run = until(running, &mut program, &memtrace.json_file(), "\"exit\"")?;
    let trace = memtrace.read(run)?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    let types: BTreeSet<_> = trace.events.iter().map(|event| event.what.name()).collect();
    assert_eq!(types, ["clone", "exit"].into());
    // The accounts are of all that happened all the same.
    let copies: u64 = trace.end.forks.iter().map(|fork| fork.by_child).sum();
    ensure!(
        copies as usize >= 5 * (trace.end.forks.len() - 1),
        "{copies} copies"
    );
    program.work_and_finish()
}

#[test]
fn a_summary() -> Result<()> {
    let mut program = AttachTarget::start("forks")?;
    let summary = |memtrace: &Memtrace, program: &mut AttachTarget| {
        let running = Running::start(&mut memtrace.attach([program.pid()]))?;
        let stderr = running.stderr();
        until(running, program, &stderr, "is gone")
    };
    // Before its end a summary says nothing; but the hooks say who comes and goes.
    let memtrace = Memtrace::new()?.options(["--summary", "--verbose"]);
    let run = summary(&memtrace, &mut program)?;
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), ""), "{run:?}");
    let row = run
        .stderr
        .lines()
        .find(|line| line.trim_start().starts_with('#'));
    let row = row.with_context(|| format!("no row of a fork: {}", run.stderr))?;
    ensure!(row.contains(&format!("[{}]", program.pid())), "{row}");
    ensure!(
        !run.stderr.contains("cow-copy "),
        "an event: {}",
        run.stderr
    );

    let memtrace = memtrace.with_json();
    let run = summary(&memtrace, &mut program)?;
    let trace = memtrace.read(run)?;
    ensure!(trace.events.is_empty(), "{} events", trace.events.len());
    ensure!(!trace.end.forks.is_empty(), "no account");
    program.work_and_finish()
}

#[test]
fn text_into_a_file() -> Result<()> {
    let mut program = AttachTarget::start("forks")?;
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join("trace.txt");
    let output = file.to_str().context("a folder's name")?.to_owned();
    let memtrace = memtrace.options(["-o", &output]);
    let running = Running::start(&mut memtrace.attach([program.pid()]))?;
    let run = until(running, &mut program, &file, "exit")?;
    assert_eq!(
        (run.code(), run.stdout.as_str(), run.stderr.as_str()),
        (Some(0), "", "")
    );
    let text = fs::read_to_string(&file)?;
    ensure!(!text.contains('\u{1b}'), "colour in a file");
    for wanted in ["cow-copy", "fork #", "exit"] {
        ensure!(text.contains(wanted), "no {wanted}");
    }
    program.work_and_finish()
}

#[test]
fn two_at_once_on_one_program() -> Result<()> {
    let mut program = AttachTarget::start("forks")?;
    let one = Attached::to_busy(Memtrace::new()?, &mut program)?;
    let other = Attached::to_busy(Memtrace::new()?, &mut program)?;
    program.work()?;
    let traces = [one.interrupt()?, other.interrupt()?];
    // What the later one has seen, the earlier one has, too.
    let born = |i: usize| -> Vec<_> {
        traces[i]
            .clones()
            .map(|(_, clone)| clone.child_pid)
            .collect()
    };
    ensure!(
        born(1).len() > 1 && born(0).ends_with(&born(1)),
        "{:?}, {:?}",
        born(0),
        born(1)
    );
    program.finish()
}

/// After a second without an event memtrace sleeps, until the hooks wake it. Whether it has come to that is no matter here.
#[test]
fn what_comes_after_a_rest_is_written_at_once() -> Result<()> {
    let mut program = AttachTarget::start("idle")?;
    let memtrace = Memtrace::new()?.with_json();
    let mut running = Running::start(&mut memtrace.attach([program.pid()]))?;
    let file = memtrace.json_file();
    let has = |what: &str| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        Ok(text.contains(what).then_some(()))
    };
    running.until("the snapshot", || has("\"task\""))?;
    sleep(Duration::from_millis(1500));
    program.work()?;
    running.until("a copy", || has("\"cow-copy\""))?;
    kill(running.pid(), Signal::SIGINT)?;
    let run = running.finish()?;
    let trace = memtrace.read(run)?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    trace.check_accounts()?;
    program.finish()
}

/// Has the program work until memtrace, which is attached to it, has written `what` into a file. Then ends memtrace as Ctrl-C
/// does.
fn until(
    mut memtrace: Running,
    program: &mut AttachTarget,
    file: &Path,
    what: &str,
) -> Result<Run> {
    memtrace.until(what, || {
        program.more()?;
        let text = fs::read_to_string(file).unwrap_or_default();
        Ok(text.contains(what).then_some(()))
    })?;
    kill(memtrace.pid(), Signal::SIGINT)?;
    memtrace.finish()
}
