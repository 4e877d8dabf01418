//! Threads at whose ends the kernel clears a word of theirs (`CLONE_CHILD_CLEARTID`), each in a page that a fork has left shared.
//! Another process uses the address space to the last, so that what became of the pages can be seen.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use nix::unistd::{Pid, gettid, pause};
use serde_json::json;
use tests::subject::clone::{clone, hear};
use tests::subject::memory::{Pages, frame_of};
use tests::subject::process::{self, Gate};
use tests::subject::report::note;

const THREADS: usize = 4;

fn main() -> Result<()> {
    process::begin();
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let (end, mut ends) = std::io::pipe()?;
    // What the processes tell each other: the threads' ids, then that of the process that stays.
    let told = Pages::shared(1)?;
    // SAFETY: within the page, which is zero at first and never unmapped.
    let told: &'static [AtomicI32] =
        unsafe { std::slice::from_raw_parts(told.page(0).as_ptr().cast(), THREADS + 1) };
    let pages = Pages::private(THREADS)?;
    pages.write_all(1);
    let program = process::child(|| {
        for (i, told) in told[..THREADS].iter().enumerate() {
            let word = pages.addr(i);
            std::thread::spawn(move || thread(word, told));
        }
        while told[..THREADS]
            .iter()
            .any(|tid| tid.load(Ordering::Acquire) == 0)
        {
            std::thread::yield_now();
        }
        process::child_with_code(|| Ok(i32::from(!hear(end.as_raw_fd()))))?;
        let stays = clone(libc::CLONE_VM | libc::SIGCHLD, &|| {
            i32::from(!hear(end.as_raw_fd()))
        });
        told[THREADS].store(stays, Ordering::Release);
        ready.open()?;
        go.wait()?;
        // From here, as the process that stays uses what is on this stack.
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    })?;
    ready.wait()?;
    let stays = Pid::from_raw(told[THREADS].load(Ordering::Acquire));
    let frames = || -> Result<Vec<Option<u64>>> {
        (0..THREADS)
            .map(|i| frame_of(stays, pages.addr(i)))
            .collect()
    };
    let before = frames()?;
    go.open()?;
    process::wait_success(program)?;
    let after = frames()?;
    for (i, told) in told[..THREADS].iter().enumerate() {
        let facts = json!({
            "tid": told.load(Ordering::Acquire),
            "addr": pages.addr(i),
            "before": before[i],
            "after": after[i],
        });
        note(&format!("thread {i}"), facts).context("report")?;
    }
    // To the two that wait for the end.
    ends.write_all(&[1; 2]).context("pipe")
}

/// Has the kernel clear this word at the thread's end, which is the process's, and tells the thread's id.
fn thread(word: u64, told: &AtomicI32) {
    // SAFETY: the kernel alone uses the word. Nobody joins the thread.
    unsafe { libc::syscall(libc::SYS_set_tid_address, word) };
    told.store(gettid().as_raw(), Ordering::Release);
    loop {
        pause();
    }
}
