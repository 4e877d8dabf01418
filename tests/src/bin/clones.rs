//! Tasks made in every way, with what they share as kcmp(2) says: `clones raw|threads`.

use std::ffi::c_int;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context, Result, bail, ensure};
use libc::{
    CLONE_FILES, CLONE_FS, CLONE_IO, CLONE_NEWUTS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD,
    CLONE_VFORK, CLONE_VM, SIGCHLD, SIGURG,
};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid, gettid};
use tests::subject::arch;
use tests::subject::clone::{
    CLONE_CLEAR_SIGHAND, Work, bits, clone, clone3, fork, have_all_to_share, names, vfork,
};
use tests::subject::kcmp::{self, Answers};
use tests::subject::process;
use tests::subject::report::{Fact, Task, report};

fn main() -> Result<()> {
    process::begin();
    match std::env::args().nth(1).as_deref() {
        Some("raw") => raw(),
        Some("threads") => threads(),
        _ => bail!("usage: clones raw|threads"),
    }
}

fn raw() -> Result<()> {
    have_all_to_share()?;

    let alike = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_IO;
    for flags in [
        0,
        CLONE_VM,
        CLONE_FS,
        CLONE_FILES,
        CLONE_VM | CLONE_SIGHAND,
        CLONE_IO,
        CLONE_SYSVSEM,
        CLONE_NEWUTS,
        CLONE_VM | CLONE_VFORK,
        CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
        alike,
        alike | CLONE_THREAD,
    ] {
        let signal = if flags & CLONE_THREAD == 0 {
            SIGCHLD
        } else {
            0
        };
        made("clone", bits(flags), signal, |work| {
            clone(flags | signal, work)
        })?;
    }
    made("clone", 0, 0, |work| clone(0, work))?;

    for (flags, signal) in [
        (0, SIGCHLD),
        (0, SIGURG),
        (bits(CLONE_FS | CLONE_FILES), SIGCHLD),
        (bits(CLONE_IO), 0),
        (CLONE_CLEAR_SIGHAND, SIGCHLD),
    ] {
        made("clone3", flags, signal, |work| clone3(flags, signal, work))?;
    }

    made(arch::FORK, 0, SIGCHLD, fork)?;
    made(arch::VFORK, bits(CLONE_VM | CLONE_VFORK), SIGCHLD, vfork)
}

fn threads() -> Result<()> {
    have_all_to_share()?;
    let maker = gettid();
    for i in 0..4 {
        let thread = std::thread::spawn(move || (gettid(), kcmp::compare(maker)));
        let (tid, answers) = thread.join().ok().context("the thread panicked")?;
        report(&Fact::Task(Task {
            name: format!("thread {i}"),
            call: String::new(),
            flags: None,
            exit_signal: 0,
            pid: getpid().as_raw() as u32,
            child_pid: getpid().as_raw() as u32,
            child_tid: tid.as_raw() as u32,
            shared: kcmp::by_kind(answers)?,
        }))?;
    }
    Ok(())
}

/// Makes a task by `make`, which sends home how it compares with its maker, and reports it.
fn made(
    call: &str,
    flags: u64,
    exit_signal: c_int,
    make: impl FnOnce(Work) -> c_int,
) -> Result<()> {
    let names = names(flags);
    let name = format!("{call} {} signal {exit_signal}", names.join("|"));
    let (mut reader, writer) = std::io::pipe()?;
    let messenger = Messenger::new(&writer);
    // It may run on after this call.
    let work = || messenger.deliver();
    let child = make(&work);
    ensure!(child > 0, "{name}: {}", Errno::last());
    let answers = receive(&mut reader, writer)?;

    let is_thread = flags & bits(CLONE_THREAD) != 0;
    if is_thread {
        process::wait_thread(Pid::from_raw(child));
    } else {
        process::wait_success(Pid::from_raw(child))?;
    }
    report(&Fact::Task(Task {
        name,
        call: call.to_owned(),
        flags: Some(names),
        exit_signal,
        pid: getpid().as_raw() as u32,
        child_pid: if is_thread { getpid().as_raw() } else { child } as u32,
        child_tid: child as u32,
        shared: kcmp::by_kind(answers)?,
    }))
}

/// What a new task sends home: how it compares with its maker.
struct Messenger {
    maker: Pid,
    pipe: RawFd,
}

impl Messenger {
    fn new(writer: &PipeWriter) -> Self {
        Self {
            maker: gettid(),
            pipe: writer.as_raw_fd(),
        }
    }

    /// Runs in the new task, which may share this one's memory: system calls only.
    fn deliver(&self) -> c_int {
        let answers = kcmp::compare(self.maker);
        // SAFETY: the array is good for its length.
        unsafe { libc::write(self.pipe, answers.as_ptr().cast(), answers.len()) };
        0
    }
}

fn receive(reader: &mut PipeReader, writer: PipeWriter) -> Result<Answers> {
    let mut bytes = [0; size_of::<Answers>()];
    reader.read_exact(&mut bytes)?;
    drop(writer);
    Ok(bytes.map(|byte| byte as i8))
}
