//! Signals while memtrace starts: they end it, or do nothing, whenever they come.

use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memtrace_ebpf::control::{PROBE_CALL, PROBE_MAGIC};
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::unistd::Pid;
use tests::harness::{Memtrace, Running, subject, wait_for};

/// Times from memtrace's start, through the loading of the hooks, up to when PROG runs.
const MOMENTS: [u64; 12] = [5, 10, 20, 30, 40, 60, 80, 100, 130, 160, 200, 300];

#[test]
fn ctrl_c_at_any_moment() -> Result<()> {
    for moment in MOMENTS {
        let memtrace = Memtrace::new()?;
        let waiting = memtrace.folder().join("never there");
        let mut command = memtrace.command([subject("patient"), waiting.into()]);
        let default = || {
            // SAFETY: no handler is involved. The tests may be in a shell's background, where it is ignored.
            unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
            Ok(())
        };
        // SAFETY: it makes a system call.
        unsafe { command.pre_exec(default) };
        let running = Running::start(&mut command)?;
        sleep(Duration::from_millis(moment));
        killpg(running.pid(), Signal::SIGINT)?;
        let run = running.finish()?;
        run.was_ended_by(Signal::SIGINT)
            .with_context(|| format!("after {moment} ms"))?;
        if let Some(pid) = memtrace.note("ready")? {
            let prog = Pid::from_raw(pid.as_i64().context("a process id")? as i32);
            wait_for("PROG's end", || Ok(kill(prog, None).is_err().then_some(())))?;
        }
    }
    Ok(())
}

#[test]
fn a_signal_to_end_before_anything_is_traced() -> Result<()> {
    for moment in MOMENTS {
        let memtrace = Memtrace::new()?;
        let file = memtrace.folder().join("go on");
        let running = Running::start(&mut memtrace.command([subject("patient"), file.into()]))?;
        sleep(Duration::from_millis(moment));
        kill(running.pid(), Signal::SIGTERM)?;
        let run = running.finish()?;
        run.was_ended_by(Signal::SIGTERM)
            .with_context(|| format!("after {moment} ms"))?;
        // PROG goes on, if it was there.
        if let Some(pid) = memtrace.note("ready")? {
            kill(
                Pid::from_raw(pid.as_i64().context("a process id")? as i32),
                Signal::SIGKILL,
            )?;
        }
    }
    Ok(())
}

#[test]
fn others_look_for_the_direct_map_at_the_same_time() -> Result<()> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // What another memtrace asks its own hook, with frames that are nobody's.
        for first in [1000, 1 << 20] {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: getpid(2) has no arguments and no effect.
                    unsafe { libc::syscall(PROBE_CALL as libc::c_long, PROBE_MAGIC, first, 0) };
                }
            });
        }
        let runs = (0..12).try_for_each(|_| {
            let run = Memtrace::new()?.with_json().run(["sh", "-c", "exit 3"])?;
            ensure!(run.code() == Some(3) && run.stderr.is_empty(), "{run:?}");
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        runs
    })
}

#[test]
fn a_stop_and_others_that_mean_nothing() -> Result<()> {
    for moment in MOMENTS {
        let running = Running::start(&mut Memtrace::new()?.command(["sh", "-c", "exit 3"]))?;
        sleep(Duration::from_millis(moment));
        // It may have ended.
        for (signal, pause) in [
            (Signal::SIGWINCH, 0),
            (Signal::SIGURG, 0),
            (Signal::SIGCHLD, 0),
            (Signal::SIGSTOP, 20),
            (Signal::SIGCONT, 5),
            (Signal::SIGSTOP, 5),
            (Signal::SIGCONT, 0),
        ] {
            kill(running.pid(), signal).ok();
            sleep(Duration::from_millis(pause));
        }
        let run = running.finish()?;
        assert_eq!(run.code(), Some(3), "after {moment} ms: {run:?}");
    }
    Ok(())
}
