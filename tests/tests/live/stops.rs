//! PROG is stopped, and so is memtrace, as the shell that waits for it expects. Whoever continues one continues both.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tests::harness::{Memtrace, Running, wait_for};

#[test]
fn prog_stops_itself() -> Result<()> {
    for signal in [Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN] {
        let stopped = Stopped::by(signal)?;
        assert_eq!(stopped.signal, signal);
        // As a shell's fg does.
        killpg(stopped.memtrace.pid(), Signal::SIGCONT)?;
        assert_eq!(stopped.memtrace.finish()?.code(), Some(7), "{signal}");
    }
    Ok(())
}

#[test]
fn memtrace_alone_is_continued() -> Result<()> {
    let stopped = Stopped::by(Signal::SIGSTOP)?;
    kill(stopped.memtrace.pid(), Signal::SIGCONT)?;
    assert_eq!(stopped.memtrace.finish()?.code(), Some(7));
    Ok(())
}

#[test]
fn prog_alone_is_continued() -> Result<()> {
    let stopped = Stopped::by(Signal::SIGSTOP)?;
    kill(stopped.prog, Signal::SIGCONT)?;
    assert_eq!(stopped.memtrace.finish()?.code(), Some(7));
    Ok(())
}

#[test]
fn prog_is_ended() -> Result<()> {
    let stopped = Stopped::by(Signal::SIGTSTP)?;
    kill(stopped.prog, Signal::SIGKILL)?;
    assert_eq!(stopped.memtrace.finish()?.code(), Some(137));
    Ok(())
}

#[test]
fn a_stop_that_prog_ignores_is_none() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let ready = memtrace.folder().join("ready");
    let script = format!(
        "trap '' TSTP; touch {0}; while [ -e {0} ]; do sleep 0.01; done; exit 7",
        ready.display()
    );
    let mut running = Running::start(&mut memtrace.command(["sh", "-c", &script]))?;
    running.until("PROG's start", || Ok(ready.exists().then_some(())))?;
    // As the terminal does at Ctrl-Z.
    killpg(running.pid(), Signal::SIGTSTP)?;
    fs::remove_file(&ready)?;
    assert_eq!(running.finish()?.code(), Some(7));
    Ok(())
}

/// A memtrace that has stopped with PROG, which exits with 7 when it is continued.
struct Stopped {
    memtrace: Running,
    prog: Pid,
    /// What stopped memtrace.
    signal: Signal,
    _folder: Memtrace,
}

impl Stopped {
    fn by(signal: Signal) -> Result<Self> {
        let memtrace = Memtrace::new()?;
        let note = memtrace.folder().join("pid");
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("echo $$ > {}; kill -{name} $$; exit 7", note.display());
        let running = Running::start(&mut memtrace.command(["sh", "-c", &script]))?;
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        let signal = wait_for("memtrace to stop", || {
            Ok(match waitid(Id::Pid(running.pid()), flags)? {
                WaitStatus::Stopped(_, signal) => Some(signal),
                _ => None,
            })
        })?;
        let prog = fs::read_to_string(&note)?.trim().parse();
        Ok(Self {
            memtrace: running,
            prog: Pid::from_raw(prog.context("PROG's id")?),
            signal,
            _folder: memtrace,
        })
    }
}
