//! What happens to memtrace doesn't happen to PROG, and what is meant for PROG reaches it.

use std::fs;

use anyhow::{Context, Result, ensure};
use memtrace_events::Events;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tests::harness::{Memtrace, Running, subject, wait_for};

use crate::hooks::Hooks;

#[test]
fn memtrace_is_killed_and_the_program_goes_on() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let (running, file) = memtrace.start_patient()?;
    let memtrace_itself = running.pid();
    let pid = memtrace.note("ready")?.context("no note")?;
    let program = Pid::from_raw(pid.as_i64().context("a process id")? as i32);

    let hooks = Hooks::of(memtrace_itself)?;
    kill(memtrace_itself, Signal::SIGKILL)?;
    let run = running.finish()?;
    assert_eq!(run.code(), None, "{run:?}");

    fs::write(&file, "")?;
    wait_for("the program's end", || memtrace.note("done"))?;
    wait_for("the program to leave", || {
        Ok(kill(program, None).is_err().then_some(()))
    })?;
    hooks.are_gone()
}

#[test]
fn nothing_stays_after_an_ordinary_end() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let (running, file) = memtrace.start_patient()?;
    let hooks = Hooks::of(running.pid())?;
    fs::write(&file, "")?;
    assert_eq!(running.finish()?.code(), Some(0));
    hooks.are_gone()
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

#[test]
fn a_signal_that_prog_sends_to_its_group_is_not_for_memtrace() -> Result<()> {
    // By itself, and by a child that is gone at once.
    let script = "trap '' TERM HUP; kill -TERM 0; env kill -HUP 0; \
                  for i in $(seq 1 50); do /bin/true; done; exit 5";
    let trace = Memtrace::new()?.trace(["sh", "-c", script])?;
    assert_eq!(trace.run.code(), Some(5), "{:?}", trace.run);
    ensure!(trace.execs().count() >= 50, "the trace ended before PROG");
    trace.check_accounts()
}

#[test]
fn a_program_that_ends_its_group_is_traced_to_its_end() -> Result<()> {
    let trace = Memtrace::new()?.trace(["sh", "-c", "/bin/true; kill -TERM 0"])?;
    assert_eq!(trace.run.code(), Some(143), "{:?}", trace.run);
    let (_, exit) = trace.exits().last().context("no exit")?;
    assert_eq!((exit.code, exit.signal), (None, Some(15)));
    trace.check_accounts()
}

#[test]
fn a_signal_to_memtrace_ends_the_trace_and_the_program_goes_on() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let (running, file) = memtrace.start_patient()?;
    kill(running.pid(), Signal::SIGTERM)?;
    let run = running.finish()?;
    assert_eq!(run.code(), Some(143), "{run:?}");
    fs::write(&file, "")?;
    wait_for("the program's end", || memtrace.note("done"))?;
    Ok(())
}
