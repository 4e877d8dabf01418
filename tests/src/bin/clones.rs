//! Tasks made in every way, with what they share as kcmp(2) says: `clones raw|threads`.

use std::ffi::c_int;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::process::exit;

use anyhow::{Context, Result, ensure};
use libc::{
    CLONE_FILES, CLONE_FS, CLONE_IO, CLONE_NEWUTS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD,
    CLONE_VFORK, CLONE_VM, SIGCHLD, SIGURG,
};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid, gettid};
use tests::subject::kcmp::{self, Answers};
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::{Fact, Task, report};

/// Only clone3 takes it. libc's own constant is cut off at 32 bits.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;

const NAMES: [(u64, &str); 10] = [
    (bits(CLONE_VM), "CLONE_VM"),
    (bits(CLONE_FS), "CLONE_FS"),
    (bits(CLONE_FILES), "CLONE_FILES"),
    (bits(CLONE_SIGHAND), "CLONE_SIGHAND"),
    (bits(CLONE_VFORK), "CLONE_VFORK"),
    (bits(CLONE_THREAD), "CLONE_THREAD"),
    (bits(CLONE_SYSVSEM), "CLONE_SYSVSEM"),
    (bits(CLONE_NEWUTS), "CLONE_NEWUTS"),
    (bits(CLONE_IO), "CLONE_IO"),
    (CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"),
];

/// clone's flags as clone3 takes them: the highest is no sign.
const fn bits(flags: c_int) -> u64 {
    flags as u32 as u64
}

fn main() -> Result<()> {
    process::begin();
    match std::env::args().nth(1).as_deref() {
        Some("raw") => raw(),
        Some("threads") => threads(),
        _ => {
            eprintln!("usage: clones raw|threads");
            exit(2);
        }
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
        made("clone", bits(flags), signal, |messenger| {
            clone(flags | signal, messenger)
        })?;
    }
    made("clone", 0, 0, |messenger| clone(0, messenger))?;

    for (flags, signal) in [
        (0, SIGCHLD),
        (0, SIGURG),
        (bits(CLONE_FS | CLONE_FILES), SIGCHLD),
        (bits(CLONE_IO), 0),
        (CLONE_CLEAR_SIGHAND, SIGCHLD),
    ] {
        made("clone3", flags, signal, |messenger| {
            clone3(flags, signal, messenger)
        })?;
    }

    made("fork", 0, SIGCHLD, fork)?;
    made("vfork", bits(CLONE_VM | CLONE_VFORK), SIGCHLD, vfork)
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
            pid: getpid().as_raw(),
            child_pid: getpid().as_raw(),
            child_tid: tid.as_raw(),
            shared: kcmp::by_name(answers)?,
        }))?;
    }
    Ok(())
}

/// Gives this task an I/O context and a semaphore undo list: two tasks that both have none would compare as the same.
fn have_all_to_share() -> Result<()> {
    const WHO_PROCESS: c_int = 1;
    const BEST_EFFORT: c_int = 2 << 13;
    // SAFETY: touches no memory.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT | 4) };
    ensure!(set == 0, "ioprio_set: {}", Errno::last());
    let (_reader, writer) = std::io::pipe()?;
    let child = clone(CLONE_SYSVSEM | SIGCHLD, &Messenger::new(&writer));
    process::wait_success(Pid::from_raw(child))
}

/// Makes a task by `make`, which runs [`Messenger::deliver`] in it, and reports it.
fn made(
    call: &str,
    flags: u64,
    exit_signal: c_int,
    make: impl FnOnce(&Messenger) -> c_int,
) -> Result<()> {
    let names: Vec<_> = NAMES
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let name = format!("{call} {} signal {exit_signal}", names.join("|"));
    let (mut reader, writer) = std::io::pipe()?;
    let child = make(&Messenger::new(&writer));
    ensure!(child > 0, "{name}: {}", Errno::last());
    let answers = receive(&mut reader, writer)?;

    let is_thread = flags & bits(CLONE_THREAD) != 0;
    if is_thread {
        // SAFETY: signal 0 only asks whether the thread is there.
        while unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), child, 0) } == 0 {
            std::thread::yield_now();
        }
    } else {
        process::wait_success(Pid::from_raw(child))?;
    }
    report(&Fact::Task(Task {
        name,
        call: call.to_owned(),
        flags: Some(names),
        exit_signal,
        pid: getpid().as_raw(),
        child_pid: if is_thread { getpid().as_raw() } else { child },
        child_tid: child,
        shared: kcmp::by_name(answers)?,
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
    fn deliver(&self) {
        let answers = kcmp::compare(self.maker);
        // SAFETY: the array is good for its length.
        unsafe { libc::write(self.pipe, answers.as_ptr().cast(), answers.len()) };
    }
}

fn receive(reader: &mut PipeReader, writer: PipeWriter) -> Result<Answers> {
    let mut bytes = [0; size_of::<Answers>()];
    reader.read_exact(&mut bytes)?;
    drop(writer);
    Ok(bytes.map(|byte| byte as i8))
}

extern "C" fn run(messenger: *mut libc::c_void) -> c_int {
    // SAFETY: made by `clone` or `vfork` below from a messenger that outlives the task's use of it.
    unsafe { &*messenger.cast::<Messenger>() }.deliver();
    0
}

fn clone(flags: c_int, messenger: &Messenger) -> c_int {
    let Ok(stack) = Pages::private(16) else {
        return -1;
    };
    let top = stack.addr(15) as *mut libc::c_void;
    // SAFETY: the stack is the new task's alone and stays mapped; `run` makes only system calls.
    unsafe { libc::clone(run, top, flags, (&raw const *messenger).cast_mut().cast()) }
}

fn clone3(flags: u64, exit_signal: c_int, messenger: &Messenger) -> c_int {
    // SAFETY: clone_args is plain numbers, for which zero says "not given".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = exit_signal as u64;
    // SAFETY: without CLONE_VM the child has memory of its own, as after fork.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    in_parent(child, messenger)
}

fn fork(messenger: &Messenger) -> c_int {
    // SAFETY: one thread; the child makes only system calls.
    in_parent(unsafe { libc::syscall(libc::SYS_fork) }, messenger)
}

/// In the child, delivers and exits; in the parent, gives the child's id.
fn in_parent(child: libc::c_long, messenger: &Messenger) -> c_int {
    if child == 0 {
        messenger.deliver();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    }
    child as c_int
}

/// The child runs on the parent's stack while the parent waits, so it must not return from here: hence assembly.
fn vfork(messenger: &Messenger) -> c_int {
    let child: c_int;
    // SAFETY: what the child pushes lies below the parent's stack pointer; registers are each task's own.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test eax, eax",
            "jnz 2f",
            "mov rdi, r12",
            "call {run}",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "2:",
            run = sym run,
            exit = const libc::SYS_exit,
            in("r12") &raw const *messenger,
            inlateout("eax") libc::SYS_vfork as c_int => child,
            clobber_abi("C"),
        );
    }
    child
}
