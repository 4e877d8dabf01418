//! Children, and keeping a subject within bounds.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::mem::MaybeUninit;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Pid, alarm, fork, getpid};

use super::report::Usage;

/// Sets a process up: after ten minutes it is ended, whatever it waits for. It needs seconds, but in a guest on a busy
/// machine a hundred times as long.
pub fn begin() {
    alarm::set(600);
}

/// Stays on one CPU, children too. Pages that another CPU has in hand look shared to the kernel, and it then copies
/// where it would take over.
pub fn stay_on_one_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu()?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

/// Forks; the child does `work` and exits, with 99 and a message when it fails.
pub fn child(work: impl FnOnce() -> Result<()>) -> Result<Pid> {
    child_with_code(|| work().map(|()| 0))
}

/// The same of one that exits with the code that `work` gives.
pub fn child_with_code(work: impl FnOnce() -> Result<i32>) -> Result<Pid> {
    // SAFETY: subjects fork while they have one thread only.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            begin();
            let code = work().unwrap_or_else(|error| {
                eprintln!("child: {error:#}");
                99
            });
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
    }
}

/// So many children, made by `work` on each number.
pub fn children(count: usize, work: impl Fn(usize) -> Result<()>) -> Result<Vec<Pid>> {
    (0..count).map(|i| child(|| work(i))).collect()
}

/// Has a child do `work`, and waits for its end, which must be a good one.
pub fn in_child(work: impl FnOnce() -> Result<()>) -> Result<()> {
    wait_success(child(work)?)
}

/// Waits for a child's end: how it ended and what it cost, its own waited-for children included.
pub fn wait_usage(name: &str, pid: Pid) -> Result<(WaitStatus, Usage)> {
    let mut status = 0;
    let mut usage = MaybeUninit::uninit();
    // SAFETY: both pointers are good for the call.
    let ended = unsafe {
        libc::wait4(
            pid.as_raw(),
            &raw mut status,
            libc::__WALL,
            usage.as_mut_ptr(),
        )
    };
    ensure!(
        ended == pid.as_raw(),
        "wait4({pid}): {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: wait4 succeeded and filled it in.
    let usage = unsafe { usage.assume_init() };
    let usage = Usage {
        name: name.to_owned(),
        pid: ended as u32,
        minor: usage.ru_minflt as u64,
        major: usage.ru_majflt as u64,
    };
    Ok((WaitStatus::from_raw(pid, status)?, usage))
}

/// Waits for a child that must end with code 0.
pub fn wait_success(pid: Pid) -> Result<()> {
    let (status, _) = wait_usage("", pid)?;
    ensure!(
        matches!(status, WaitStatus::Exited(_, 0)),
        "child {pid}: {status:?}"
    );
    Ok(())
}

/// What a thread that was joined gave.
pub fn joined<T>(end: std::thread::Result<T>) -> Result<T> {
    end.map_err(|_| anyhow!("a thread panicked"))
}

/// Waits for the end of a thread of this process that nobody joins.
pub fn wait_thread(thread: Pid) {
    // SAFETY: signal 0 only asks whether the thread is there.
    while unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), thread.as_raw(), 0) } == 0 {
        std::thread::yield_now();
    }
}

/// A gate that one process waits at until another opens it.
#[derive(Debug)]
pub struct Gate {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Gate {
    /// A closed gate, for this process and its children.
    pub fn new() -> Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        Ok(Self { reader, writer })
    }

    /// Lets one waiter through.
    pub fn open(&self) -> Result<()> {
        Ok((&self.writer).write_all(&[1])?)
    }

    /// Waits until the gate is opened.
    pub fn wait(&self) -> Result<()> {
        Ok((&self.reader).read_exact(&mut [0])?)
    }
}
