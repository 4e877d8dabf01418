//! What happens to memtrace doesn't happen to PROG, and what is meant for PROG reaches it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tests::harness::{Memtrace, Running, subject, wait_for};

#[test]
fn memtrace_is_killed_and_the_program_goes_on() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let file = memtrace.folder().join("go on");
    let mut running =
        Running::start(&mut memtrace.command([subject("patient"), file.clone().into()]))?;
    let memtrace_itself = running.pid();
    let pid = running.until("the program's start", || memtrace.note("ready"))?;
    let program = Pid::from_raw(pid.as_i64().context("a process id")? as i32);

    let hooks = programs_of(memtrace_itself)?;
    ensure!(
        !hooks.is_empty(),
        "memtrace holds no BPF program while it traces"
    );
    ensure!(
        hooks.is_subset(&loaded()?),
        "{hooks:?} should be in the kernel"
    );

    kill(memtrace_itself, Signal::SIGKILL)?;
    let run = running.finish()?;
    assert_eq!(run.code(), None, "{run:?}");

    fs::write(&file, "")?;
    wait_for("the program's end", || memtrace.note("done"))?;
    wait_for("the program to leave", || {
        Ok(kill(program, None).is_err().then_some(()))
    })?;
    // The kernel lets go of them a little later.
    wait_for("the kernel to drop memtrace's programs", || {
        Ok(hooks.is_disjoint(&loaded()?).then_some(()))
    })
}

#[test]
fn nothing_stays_after_an_ordinary_end() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let file = memtrace.folder().join("go on");
    let mut running =
        Running::start(&mut memtrace.command([subject("patient"), file.clone().into()]))?;
    running.until("the program's start", || memtrace.note("ready"))?;
    let hooks = programs_of(running.pid())?;
    ensure!(
        !hooks.is_empty(),
        "memtrace holds no BPF program while it traces"
    );
    fs::write(&file, "")?;
    assert_eq!(running.finish()?.code(), Some(0));
    wait_for("the kernel to drop memtrace's programs", || {
        Ok(hooks.is_disjoint(&loaded()?).then_some(()))
    })
}

#[test]
fn an_interrupt_reaches_the_program_once() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let mut running = Running::start(&mut memtrace.command([subject("interrupted")]))?;
    running.until("the program's start", || memtrace.note("ready"))?;
    killpg(running.pid(), Signal::SIGINT)?;
    let trace = memtrace.read(running.finish()?)?;
    assert_eq!(trace.run.code(), Some(42), "{:?}", trace.run);
    assert_eq!(trace.note("interrupts")?, 1);
    trace.check_accounts()
}

#[test]
fn an_interrupt_that_ends_the_program_still_gives_the_summary() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let waiting = memtrace.folder().join("never there");
    let mut running = Running::start(&mut memtrace.command([subject("patient"), waiting.into()]))?;
    running.until("the program's start", || memtrace.note("ready"))?;
    killpg(running.pid(), Signal::SIGINT)?;
    let run = running.finish()?;
    assert_eq!(run.code(), Some(130), "{run:?}");
    // What memtrace always says last.
    let undisturbed = Memtrace::new()?.options(["--summary"]).run(["true"])?;
    let last = undisturbed.stderr.lines().last().context("no summary")?;
    ensure!(
        run.stderr.lines().last() == Some(last),
        "{last:?} expected at the end of {}",
        run.stderr
    );
    Ok(())
}

/// The ids of all BPF programs in the kernel.
fn loaded() -> Result<BTreeSet<u32>> {
    aya::programs::loaded_programs()
        .map(|program| Ok(program?.id()))
        .collect()
}

/// The ids of the BPF programs that a process holds.
fn programs_of(pid: Pid) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        for id in text
            .lines()
            .filter_map(|line| line.strip_prefix("prog_id:"))
        {
            ids.insert(id.trim().parse()?);
        }
    }
    Ok(ids)
}
