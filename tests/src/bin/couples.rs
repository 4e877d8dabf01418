//! Processes that share their memory with another, which forks and execs for both: `couples`.
//!
//! The first process forks "one", which clones "other" into its own memory and ends. "Other" forks "third" and execs.
//! All pages are a file's, so that they are told apart from all else.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, ensure};
use libc::{CLONE_VM, SIGCHLD};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use serde_json::json;
use tests::subject::arch;
use tests::subject::clone::{clone, hear, say, vfork};
use tests::subject::files;
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::note;

/// A line to each process, and one back.
struct Lines([(i32, i32); 4]);

impl Lines {
    fn new() -> Result<Self> {
        let mut lines = [(0, 0); 4];
        for line in &mut lines {
            let mut ends = [0; 2];
            // SAFETY: two numbers to fill in. Not closed at an exec, which doesn't matter.
            Errno::result(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
            *line = (ends[0], ends[1]);
        }
        Ok(Self(lines))
    }

    /// Waits for one's turn: a system call alone.
    fn turn(&self, who: usize) -> bool {
        hear(self.0[who].0)
    }

    /// Tells the first process that it is done.
    fn done(&self) -> bool {
        say(self.0[0].1)
    }

    /// Gives the turn to another and waits until it is done.
    fn let_act(&self, who: usize) -> Result<()> {
        ensure!(
            say(self.0[who].1) && hear(self.0[0].0),
            "{who}: {}",
            Errno::last()
        );
        Ok(())
    }
}

const ONE: usize = 1;
const OTHER: usize = 2;
const THIRD: usize = 3;

fn main() -> Result<()> {
    process::begin();
    if std::env::args().nth(1).as_deref() == Some("end") {
        return Ok(());
    }
    process::stay_on_one_cpu()?;
    set_child_subreaper(true)?;
    let file = files::temporary(100)?;
    let pages = Pages::private_file(&file, 0, 100)?;
    pages.write_all(1);
    let program = CString::new(std::env::current_exe()?.into_os_string().into_vec())?;
    let words = [program.as_ptr(), c"end".as_ptr(), std::ptr::null()];
    // SAFETY: C strings, and a null at the end.
    let exec = || unsafe { libc::execv(words[0], words.as_ptr()) };

    // This leaves nothing of the memory: it is the parent's.
    let held = vfork(&exec);
    ensure!(held > 0, "vfork: {}", Errno::last());
    process::wait_success(Pid::from_raw(held))?;

    let lines = Lines::new()?;
    let write = |which: std::ops::Range<usize>| which.for_each(|i| pages.write(i, 2));
    let one = process::child(|| {
        let work = || {
            lines.turn(OTHER);
            write(0..10);
            lines.done();
            lines.turn(OTHER);
            write(10..20);
            lines.done();
            lines.turn(OTHER);
            // SAFETY: the third process makes system calls, and writes to pages.
            if unsafe { arch::fork() } == 0 {
                lines.turn(THIRD);
                write(30..35);
                lines.done();
                lines.turn(THIRD);
                write(35..40);
                write(0..3);
                lines.done();
                lines.turn(THIRD);
                return 0;
            }
            lines.done();
            lines.turn(OTHER);
            exec()
        };
        let other = clone(CLONE_VM | SIGCHLD, &work);
        ensure!(other > 0, "clone: {}", Errno::last());
        note("other", other)?;
        lines.done();
        lines.turn(ONE);
        // SAFETY: ends the process from here: what is on this stack is the other's, too.
        unsafe { libc::_exit(0) }
    })?;
    ensure!(hear(lines.0[0].0), "no answer");
    lines.let_act(OTHER)?;
    ensure!(say(lines.0[ONE].1), "{}", Errno::last());
    process::wait_success(one)?;
    lines.let_act(OTHER)?;
    write(20..30);
    lines.let_act(OTHER)?;
    lines.let_act(THIRD)?;
    // "Other" execs and ends.
    ensure!(say(lines.0[OTHER].1), "{}", Errno::last());
    let ended = |what: &str| -> Result<Pid> {
        match waitpid(None, None)? {
            WaitStatus::Exited(pid, 0) => Ok(pid),
            status => anyhow::bail!("{what}: {status:?}"),
        }
    };
    let other = ended("the exec")?;
    lines.let_act(THIRD)?;
    ensure!(say(lines.0[THIRD].1), "{}", Errno::last());
    let third = ended("the third").context("waiting")?;
    write(40..50);
    note(
        "couple",
        json!({
            "file": file.path(), "first": getpid().as_raw(), "one": one.as_raw(), "other": other.as_raw(),
            "third": third.as_raw(),
        }),
    )
}
