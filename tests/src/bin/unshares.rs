//! Tasks that share much with their makers, until they do something about it: `unshares process|thread|setns|exec`.
//! Each is compared with its maker before and after.

use std::ffi::{CString, c_int};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail, ensure};
use libc::{
    CLONE_FILES, CLONE_FS, CLONE_IO, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS,
    CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS, CLONE_SIGHAND, CLONE_SYSVSEM,
    CLONE_THREAD, CLONE_VM, SIGCHLD,
};
use nix::errno::Errno;
use nix::unistd::{Pid, gettid, pipe};
use tests::subject::clone::{Work, bits, clone, clone3, have_all_to_share, hear, names, say};
use tests::subject::{compare, process};

/// What a process can share and yet be one of its own.
const PROCESS: c_int = CLONE_FILES | CLONE_FS | CLONE_SYSVSEM | CLONE_IO;

const NAMESPACES: [c_int; 8] = [
    CLONE_NEWNS,
    CLONE_NEWUTS,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWCGROUP,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
];

fn main() -> Result<()> {
    process::begin();
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["process"] => in_process(),
        ["thread"] => in_thread(),
        ["setns"] => setns(),
        ["exec"] => exec(),
        ["answer", input, output] => answer(input.parse()?, output.parse()?),
        _ => bail!("usage: unshares process|thread|setns|exec"),
    }
}

/// unshare(2) of each flag in a process.
fn in_process() -> Result<()> {
    let flags = [CLONE_FILES, CLONE_FS, CLONE_SYSVSEM]
        .into_iter()
        .chain(NAMESPACES)
        .chain([CLONE_FILES | CLONE_FS | CLONE_NEWUTS | CLONE_NEWIPC]);
    for flags in flags {
        in_a_maker(|| {
            watched(&named("unshare", flags), PROCESS | SIGCHLD, None, &|| {
                // The pid namespace has a number only when it has a process.
                unshare(flags) && (flags & CLONE_NEWPID == 0 || clone(SIGCHLD, &|| 0) > 0)
            })
        })?;
    }
    Ok(())
}

/// unshare(2) in a thread of a process.
fn in_thread() -> Result<()> {
    let all = PROCESS | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    for flags in [
        CLONE_FILES,
        CLONE_FS,
        CLONE_SYSVSEM,
        CLONE_NEWNS,
        CLONE_NEWUTS,
        CLONE_NEWNET,
    ] {
        in_a_maker(|| {
            watched(&named("unshare in a thread", flags), all, None, &|| {
                unshare(flags)
            })
        })?;
    }
    Ok(())
}

/// setns(2) into the namespace of a task that has been made with another.
fn setns() -> Result<()> {
    for flag in NAMESPACES {
        in_a_maker(|| {
            let line = Line::new()?;
            let there = clone3(bits(flag), SIGCHLD, &|| line.wait());
            ensure!(
                there > 0,
                "clone3 {:?}: {}",
                names(bits(flag)),
                Errno::last()
            );
            ensure!(line.hear(), "no answer from {there}");
            // Sharing its root directory, a task can go neither into mounts nor among users of another.
            let name = named("setns", flag);
            watched(
                &name,
                CLONE_FILES | SIGCHLD,
                Some(Pid::from_raw(there)),
                &|| {
                    // SAFETY: neither touches memory.
                    unsafe {
                        let task = libc::syscall(libc::SYS_pidfd_open, there, 0);
                        libc::setns(task as c_int, flag) == 0
                    }
                },
            )?;
            ensure!(line.say(), "{}", Errno::last());
            process::wait_success(Pid::from_raw(there))
        })?;
    }
    Ok(())
}

/// exec, which leaves what only tasks of one program can share.
fn exec() -> Result<()> {
    let shared_memory = PROCESS | CLONE_VM | CLONE_SIGHAND;
    for (name, flags, in_a_thread) in [
        ("exec in a process", PROCESS, false),
        ("exec in a process that shares memory", shared_memory, false),
        ("exec in a process's second thread", PROCESS, true),
    ] {
        in_a_maker(|| {
            let line = Line::new()?;
            let words = [
                std::env::current_exe()?.to_string_lossy().into_owned(),
                "answer".to_owned(),
                line.from_maker.as_raw_fd().to_string(),
                line.to_maker.as_raw_fd().to_string(),
            ];
            let words = words
                .map(CString::new)
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?;
            let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
            pointers.push(std::ptr::null());
            let start = || {
                // SAFETY: C strings, and a null at the end.
                unsafe { libc::execv(pointers[0], pointers.as_ptr()) == 0 }
            };
            watched_on(&line, name, flags | SIGCHLD, None, &|| {
                if !in_a_thread {
                    return start();
                }
                let thread = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FILES | CLONE_FS;
                // SAFETY: waits; the exec ends this thread.
                clone(thread, &|| c_int::from(!start())) > 0 && unsafe { libc::pause() == 0 }
            })
        })?;
    }
    Ok(())
}

/// What is left of a task after its exec.
fn answer(input: RawFd, output: RawFd) -> Result<()> {
    ensure!(say(output) && hear(input), "{}", Errno::last());
    Ok(())
}

/// Does it in a process that has one of each kind of object for itself.
fn in_a_maker(work: impl FnOnce() -> Result<()>) -> Result<()> {
    process::in_child(|| {
        have_all_to_share()?;
        work()
    })
}

/// Makes a task that acts, and compares it before and after with its maker, and with `another`.
fn watched(name: &str, flags: c_int, another: Option<Pid>, act: &dyn Fn() -> bool) -> Result<()> {
    watched_on(&Line::new()?, name, flags, another, act)
}

fn watched_on(
    line: &Line,
    name: &str,
    flags: c_int,
    another: Option<Pid>,
    act: &dyn Fn() -> bool,
) -> Result<()> {
    let work: Work = &|| {
        if say(line.to_maker.as_raw_fd()) && hear(line.from_maker.as_raw_fd()) && act() {
            line.wait()
        } else {
            1
        }
    };
    let task = Pid::from_raw(clone(flags, work));
    ensure!(task.as_raw() > 0, "{name}: {}", Errno::last());
    let compare = || {
        ensure!(line.hear(), "{name}: no answer");
        for other in [Some(gettid()), another].into_iter().flatten() {
            compare::compare(name, task, other)?;
        }
        ensure!(line.say(), "{name}: {}", Errno::last());
        Ok(())
    };
    compare()?;
    compare()?;
    if flags & CLONE_THREAD != 0 {
        process::wait_thread(task);
        Ok(())
    } else {
        process::wait_success(task).with_context(|| name.to_owned())
    }
}

fn named(call: &str, flags: c_int) -> String {
    format!("{call} {}", names(bits(flags)).join("|"))
}

fn unshare(flags: c_int) -> bool {
    // SAFETY: touches no memory.
    unsafe { libc::unshare(flags) == 0 }
}

/// A line each way between a task and its maker. It stays open through an exec.
struct Line {
    from_task: OwnedFd,
    to_maker: OwnedFd,
    from_maker: OwnedFd,
    to_task: OwnedFd,
}

impl Line {
    fn new() -> Result<Self> {
        let (from_task, to_maker) = pipe()?;
        let (from_maker, to_task) = pipe()?;
        Ok(Self {
            from_task,
            to_maker,
            from_maker,
            to_task,
        })
    }

    /// In the task: says that it is there, and waits.
    fn wait(&self) -> c_int {
        c_int::from(!(say(self.to_maker.as_raw_fd()) && hear(self.from_maker.as_raw_fd())))
    }

    /// In the maker.
    fn hear(&self) -> bool {
        hear(self.from_task.as_raw_fd())
    }

    fn say(&self) -> bool {
        say(self.to_task.as_raw_fd())
    }
}
