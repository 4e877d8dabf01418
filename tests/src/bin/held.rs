//! Parents that a vfork holds: `held`. Each child sleeps first, so that the parent is held for as long at least.

use std::ffi::{CString, c_int};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use libc::{CLONE_VFORK, CLONE_VM, SIGCHLD};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, pipe};
use serde_json::json;
use tests::subject::clone::{Work, clone, fork, hear, say, vfork};
use tests::subject::process;
use tests::subject::report::note;
use tests::subject::witness::now;

const SLEEP: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    process::begin();
    if std::env::args().nth(1).as_deref() == Some("end") {
        return Ok(());
    }
    let words = [
        std::env::current_exe()?.to_string_lossy().into_owned(),
        "end".to_owned(),
    ];
    let words = words
        .map(CString::new)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let pointers = [words[0].as_ptr(), words[1].as_ptr(), std::ptr::null()];

    let exec: Work = &|| {
        sleep();
        // SAFETY: C strings, and a null at the end.
        unsafe { libc::execv(pointers[0], pointers.as_ptr()) }
    };
    let exit: Work = &|| {
        sleep();
        0
    };
    made("vfork, then exec", "exec", || vfork(exec))?;
    made("vfork, then exit", "exit", || vfork(exit))?;
    made("clone that holds, then exec", "exec", || {
        clone(CLONE_VFORK | SIGCHLD, exec)
    })?;
    made("clone that holds, then exit", "exit", || {
        clone(CLONE_VFORK | SIGCHLD, exit)
    })?;
    let alike = CLONE_VFORK | CLONE_VM | SIGCHLD;
    made("clone in the same memory, then exec", "exec", || {
        clone(alike, exec)
    })?;
    made("fork, which doesn't hold", "", || fork(exit))?;
    killed()
}

/// Waits by a system call alone.
fn sleep() {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: SLEEP.subsec_nanos().into(),
    };
    // SAFETY: reads `time`.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

fn made(name: &str, let_go: &str, make: impl FnOnce() -> c_int) -> Result<()> {
    let from = now()?;
    let child = make();
    let took = now()? - from;
    ensure!(child > 0, "{name}: {}", Errno::last());
    process::wait_success(Pid::from_raw(child))?;
    held(name, getpid(), child, let_go, took)
}

/// A parent that is killed while it is held.
fn killed() -> Result<()> {
    set_child_subreaper(true)?;
    let (from_child, to_us) = pipe()?;
    let (from_us, to_child) = pipe()?;
    let from = now()?;
    let parent = process::child(|| {
        vfork(&|| {
            sleep();
            c_int::from(!(say(to_us.as_raw_fd()) && hear(from_us.as_raw_fd())))
        });
        Ok(())
    })?;
    ensure!(hear(from_child.as_raw_fd()), "the child isn't there");
    kill(parent, Signal::SIGKILL)?;
    let status = waitpid(parent, None)?;
    ensure!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
        "{status:?}"
    );
    ensure!(say(to_child.as_raw_fd()), "{}", Errno::last());
    let WaitStatus::Exited(child, 0) = waitpid(None, None)? else {
        anyhow::bail!("the child didn't end well");
    };
    held(
        "vfork, then killed",
        parent,
        child.as_raw(),
        "signal",
        now()? - from,
    )
}

/// The call took at most as long as `took` says.
fn held(name: &str, parent: Pid, child: i32, let_go: &str, took: u64) -> Result<()> {
    note(
        name,
        json!({
            "parent": parent.as_raw(), "child": child, "let_go": let_go, "slept": SLEEP.as_nanos() as u64,
            "took": took,
        }),
    )
}
