//! Signals at moments at which nobody wants them.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use tests::harness::{AttachTarget, Memtrace, Running, subject, wait_for};

use crate::support::{Group, start};

/// The hooks are loaded, whatever comes meanwhile.
#[test]
fn loading_survives_signals() -> Result<()> {
    let program = || [subject("lives"), "return".into(), "3".into()];
    for (signal, times) in [
        (Signal::SIGSTOP, 1),
        (Signal::SIGWINCH, 20),
        (Signal::SIGCHLD, 20),
        (Signal::SIGURG, 20),
    ] {
        for run in 0..40 {
            let memtrace = Memtrace::new()?.options(["-o", "/dev/null"]);
            let running = Running::start(&mut memtrace.command(program()))?;
            let pid = running.pid();
            // The moments are spread over the time that loading takes.
            sleep(Duration::from_millis(5 + 3 * run));
            for _ in 0..times {
                if signal == Signal::SIGSTOP {
                    kill(pid, signal)?;
                    sleep(Duration::from_millis(20));
                    kill(pid, Signal::SIGCONT)?;
                } else {
                    kill(pid, signal)?;
                    sleep(Duration::from_millis(2));
                }
            }
            let ended = running.finish()?;
            ensure!(ended.code() == Some(3), "{signal}, run {run}: {ended:?}");
        }
    }
    Ok(())
}

/// Ctrl-C a few moments after the start: memtrace ends, and so does PROG.
#[test]
fn an_early_interrupt_ends_all() -> Result<()> {
    for millis in (0..60).map(|step| step * 5) {
        let memtrace = Memtrace::new()?.options(["-o", "/dev/null"]);
        let mut command = memtrace.command(["sleep", "100"]);
        let running = start(&mut command)?;
        let group = Group::of(&running);
        sleep(Duration::from_millis(millis));
        // A terminal sends it to all of the group.
        killpg(running.pid(), Signal::SIGINT)?;
        let run = running.finish()?;
        run.was_ended_by(Signal::SIGINT)
            .with_context(|| format!("after {millis} ms"))?;
        wait_for("PROG's end", || Ok((!group.lives()).then_some(())))?;
    }
    Ok(())
}

#[test]
fn an_early_interrupt_ends_an_attach() -> Result<()> {
    let mut program = AttachTarget::start("idle")?;
    for millis in (0..60).map(|step| step * 5) {
        let memtrace = Memtrace::new()?.options(["-o", "/dev/null"]);
        let running = start(&mut memtrace.attach([program.pid()]))?;
        sleep(Duration::from_millis(millis));
        killpg(running.pid(), Signal::SIGINT)?;
        let run = running.finish()?;
        let is_attached = run.code() == Some(0);
        ensure!(
            is_attached || run.was_ended_by(Signal::SIGINT).is_ok(),
            "after {millis} ms: {run:?}"
        );
    }
    program.work()?;
    program.finish()
}
