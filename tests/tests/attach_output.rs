//! What `memtrace attach` writes, and where: as `memtrace run` does.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use tests::harness::{Attached, Attended, Memtrace, Run};

#[test]
fn only_some_events() -> Result<()> {
    let program = Attended::start("forks")?;
    let options = ["--only", "clone,exit", "--duration", "1s"];
    let memtrace = Memtrace::new()?.options(options).with_json();
    let run = Run::of(&mut memtrace.attach([program.pid()]))?;
    let trace = memtrace.read(run)?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    let types: BTreeSet<_> = trace
        .events
        .iter()
        .filter_map(|event| event.line["type"].as_str())
        .collect();
    assert_eq!(types, ["clone", "exit"].into());
    // The accounts are of all that happened all the same.
    let copies: u64 = trace.end.forks.iter().map(|fork| fork.by_child).sum();
    ensure!(
        copies as usize >= 5 * (trace.end.forks.len() - 1),
        "{copies} copies"
    );
    ends(program)
}

#[test]
fn a_summary() -> Result<()> {
    let program = Attended::start("forks")?;
    let memtrace = Memtrace::new()?.options(["--summary", "--duration", "1s"]);
    let run = Run::of(&mut memtrace.attach([program.pid()]))?;
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
    let run = Run::of(&mut memtrace.attach([program.pid()]))?;
    let trace = memtrace.read(run)?;
    ensure!(trace.events.is_empty(), "{} events", trace.events.len());
    ensure!(!trace.end.forks.is_empty(), "no account");
    ends(program)
}

#[test]
fn text_into_a_file() -> Result<()> {
    let program = Attended::start("forks")?;
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join("trace.txt");
    let output = file.to_str().context("a folder's name")?.to_owned();
    let memtrace = memtrace.options(["--duration", "1s", "-o", &output]);
    let run = Run::of(&mut memtrace.attach([program.pid()]))?;
    assert_eq!(
        (run.code(), run.stdout.as_str(), run.stderr.as_str()),
        (Some(0), "", "")
    );
    let text = fs::read_to_string(&file)?;
    ensure!(!text.contains('\u{1b}'), "colour in a file");
    for wanted in ["cow-copy", "fork #", "exit"] {
        ensure!(text.contains(wanted), "no {wanted}");
    }
    ends(program)
}

#[test]
fn two_at_once_on_one_program() -> Result<()> {
    let program = Attended::start("forks")?;
    let one = Attached::to(Memtrace::new()?, &[program.pid()])?;
    let other = Attached::to(Memtrace::new()?, &[program.pid()])?;
    let mut program = program;
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

fn ends(mut program: Attended) -> Result<()> {
    program.work()?;
    program.finish()
}
