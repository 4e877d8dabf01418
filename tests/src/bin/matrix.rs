//! A task made with every flag of clone(2) that speaks of sharing, each on its own, and compared with its maker:
//! `matrix bare|full`. With "full", each maker has an I/O context and a semaphore undo list first.

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use anyhow::{Result, bail, ensure};
use libc::{
    CLONE_FILES, CLONE_FS, CLONE_IO, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS,
    CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS, CLONE_SIGHAND, CLONE_SYSVSEM,
    CLONE_THREAD, CLONE_UNTRACED, CLONE_VFORK, CLONE_VM, SIGCHLD,
};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid, gettid, pipe};
use tests::subject::arch;
use tests::subject::clone::{
    CLONE_CLEAR_SIGHAND, Work, bits, clone, clone3, fork, have_all_to_share, hear, names, say,
    vfork,
};
use tests::subject::kcmp::{self, Answers};
use tests::subject::report::{Fact, Task, report};
use tests::subject::witness::now;
use tests::subject::{compare, process};

/// Nearly all that can be shared.
const ALIKE: c_int = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_IO;

/// Every flag on its own, with what the kernel wants beside it; then many.
const CLONES: [c_int; 20] = [
    0,
    CLONE_VM,
    CLONE_FS,
    CLONE_FILES,
    CLONE_VM | CLONE_SIGHAND,
    CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
    CLONE_SYSVSEM,
    CLONE_IO,
    CLONE_VFORK,
    CLONE_VM | CLONE_VFORK,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    CLONE_NEWIPC,
    CLONE_NEWPID,
    CLONE_NEWNET,
    CLONE_NEWCGROUP,
    CLONE_NEWUSER,
    CLONE_UNTRACED,
    ALIKE,
    ALIKE | CLONE_THREAD,
];

/// What only clone3 takes.
const CLONE3S: [u64; 3] = [0, CLONE_CLEAR_SIGHAND, bits(CLONE_NEWTIME)];

fn main() -> Result<()> {
    process::begin();
    let full = match std::env::args().nth(1).as_deref() {
        Some("bare") => false,
        Some("full") => true,
        _ => bail!("usage: matrix bare|full"),
    };
    for flags in CLONES {
        in_a_maker(full, || {
            made("clone", bits(flags), |signal, work| {
                clone(flags | signal, work)
            })
        })?;
    }
    for flags in CLONE3S {
        in_a_maker(full, || {
            made("clone3", flags, |signal, work| clone3(flags, signal, work))
        })?;
    }
    in_a_maker(full, || made(arch::FORK, 0, |_, work| fork(work)))?;
    in_a_maker(full, || {
        made(arch::VFORK, bits(CLONE_VM | CLONE_VFORK), |_, work| {
            vfork(work)
        })
    })
}

/// Does it in a process of its own: what a clone gives the maker, another must not find there.
fn in_a_maker(full: bool, work: impl FnOnce() -> Result<()>) -> Result<()> {
    process::in_child(|| {
        if full {
            have_all_to_share()?;
        }
        work()
    })
}

/// What a task says that its maker can't ask: the maker is held until the task ends.
#[derive(Clone, Copy)]
struct Answer {
    answers: Answers,
    at: u64,
}

/// Makes a task, compares it, and reports both.
fn made(call: &str, flags: u64, make: impl FnOnce(c_int, Work) -> c_int) -> Result<()> {
    let names = names(flags);
    let name = format!("{call} {}", names.join("|"));
    let is_thread = flags & bits(CLONE_THREAD) != 0;
    let is_held = flags & bits(CLONE_VFORK) != 0;
    let exit_signal = if is_thread { 0 } else { SIGCHLD };
    let maker = gettid();
    let (from_task, to_maker) = pipe()?;
    let (from_maker, to_task) = pipe()?;
    let (input, output) = (from_maker.as_raw_fd(), to_maker.as_raw_fd());

    // It runs on after the call that makes the task.
    let work = || {
        let answer = Answer {
            answers: kcmp::compare(maker),
            at: now().unwrap_or(0),
        };
        // SAFETY: the answer is plain bytes on this stack.
        unsafe { libc::write(output, (&raw const answer).cast(), size_of_val(&answer)) };
        c_int::from(!is_held && !hear(input))
    };
    let child = make(exit_signal, &work);
    ensure!(child > 0, "{name}: {}", Errno::last());
    let child = Pid::from_raw(child);

    let mut answer = Answer {
        answers: Answers::default(),
        at: 0,
    };
    // SAFETY: as many plain bytes as the task has written.
    let read = unsafe {
        libc::read(
            from_task.as_raw_fd(),
            (&raw mut answer).cast(),
            size_of_val(&answer),
        )
    };
    ensure!(read as usize == size_of_val(&answer), "{name}: no answer");
    if is_held {
        compare::told(&name, maker, child, answer.answers, answer.at)?;
    } else {
        compare::compare(&name, maker, child)?;
        ensure!(say(to_task.as_raw_fd()), "{name}: {}", Errno::last());
    }
    if is_thread {
        process::wait_thread(child);
    } else {
        process::wait_success(child)?;
    }
    report(&Fact::Task(Task {
        name,
        call: call.to_owned(),
        flags: Some(names),
        exit_signal,
        pid: std::process::id(),
        child_pid: if is_thread { getpid() } else { child }.as_raw() as u32,
        child_tid: child.as_raw() as u32,
        shared: std::collections::BTreeMap::new(),
    }))
}
