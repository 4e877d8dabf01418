//! PROG's stops, by Ctrl-Z or by itself: memtrace stops with it, as the shell that waits for memtrace expects.

use std::{
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal, kill, raise},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{Pid, getppid},
};
use procfs::process::Process;

use super::{inherit::is_ignored, mask::Mask};

/// The subcommand that the guard is.
const GUARD: &str = "stop-guard";
/// How often the guard looks.
const LOOK: Duration = Duration::from_millis(10);

/// Follows PROG's stops.
pub struct Stops {
    prog: Pid,
    /// Whom to continue: PROG, or its group where that isn't memtrace's.
    whom: Pid,
}

impl Stops {
    /// Of PROG, which has just started, in a session of its own if `is_apart`. From now on Ctrl-Z doesn't stop memtrace itself, but when PROG is stopped by it:
    /// that may do otherwise.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn of(prog: u32, is_apart: bool) -> Result<Self> {
        SigSet::from(Signal::SIGTSTP)
            .thread_block()
            .context("can't listen for signals")?;
        let prog = prog.cast_signed();
        Ok(Self {
            prog: Pid::from_raw(prog),
            whom: Pid::from_raw(if is_apart { -prog } else { prog }),
        })
    }

    /// If PROG has been stopped, stops memtrace, too, by the same signal, until one of them is continued or ends. Then
    /// PROG is continued.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn follow(&self) -> Result<()> {
        let now = |flags| waitid(Id::Pid(self.prog), flags | WaitPidFlag::WNOHANG);
        let Ok(WaitStatus::Stopped(_, by)) = now(WaitPidFlag::WSTOPPED) else {
            return Ok(());
        };
        // Who continues PROG, or ends it, may not know of memtrace.
        let mut guard = Command::new("/proc/self/exe")
            .args([GUARD, &self.prog.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("can't stop with PROG")?;
        stop(by)?;
        guard.kill().context("can't go on with PROG")?;
        guard.wait()?;
        let since = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOWAIT;
        match now(since) {
            // It was memtrace that was continued.
            Ok(WaitStatus::StillAlive) => match kill(self.whom, Signal::SIGCONT) {
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error).context("can't continue PROG"),
            },
            _ => Ok(()),
        }
    }
}

/// Stops memtrace by this signal, or by another where it was started to ignore that. Returns when it has been continued.
fn stop(by: Signal) -> nix::Result<()> {
    let ignored = is_ignored(by as i32);
    let by = if ignored { Signal::SIGSTOP } else { by };
    raise(by)?;
    if by == Signal::SIGTSTP {
        // It is blocked. It may have been pending before, where the terminal has sent it to all of the group.
        let blocked = SigSet::from(by);
        blocked.thread_unblock()?;
        blocked.thread_block()?;
    }
    Ok(())
}

/// Continues memtrace, its parent, when that is stopped and `prog` isn't, for as long as memtrace lets it live.
///
/// # Errors
/// The kernel refuses it.
pub fn guard(prog: u32) -> Result<u8> {
    let memtrace = getppid();
    // What is sent to the group is not for it.
    Mask::ALL.block()?;
    set_pdeathsig(Signal::SIGKILL)?;
    while getppid() == memtrace {
        if !is_stopped(prog.cast_signed()) && is_stopped(memtrace.as_raw()) {
            kill(memtrace, Signal::SIGCONT)?;
        }
        sleep(LOOK);
    }
    Ok(super::status::DONE)
}

/// Whether a process is there, and stopped.
fn is_stopped(pid: i32) -> bool {
    let stat = Process::new(pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state == 'T')
}
