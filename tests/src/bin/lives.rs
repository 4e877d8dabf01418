//! How processes begin anew and end: `lives exits|exec FILE|exec-in-thread|sibling|forks COUNT|return CODE [ARGS...]`.

use std::ffi::CString;
use std::process::exit;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{execv, getpid, gettid, pause};
use tests::subject::ARGUMENTS;
use tests::subject::clone::clone;
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::{Exit, Fact, Usage, note, report};

const USAGE: &str =
    "usage: lives exits|exec FILE|exec-in-thread|sibling|forks COUNT|return CODE [ARGS...]";

fn main() -> Result<()> {
    process::begin();
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["exits"] => exits(),
        ["exec", file] => exec(file),
        ["exec-in-thread"] => exec_in_thread(),
        ["sibling"] => sibling(),
        ["forks", count] => forks(count.parse().context(USAGE)?),
        ["return", code, ..] => exit(code.parse().context(USAGE)?),
        _ => bail!("{USAGE}"),
    }
}

fn exits() -> Result<()> {
    for code in [0, 1, 7, 255] {
        ended(&format!("exit with {code}"), || Ok(code))?;
    }
    for signal in [
        Signal::SIGKILL,
        Signal::SIGTERM,
        Signal::SIGSEGV,
        Signal::SIGABRT,
        Signal::SIGPIPE,
    ] {
        ended(&format!("end by {signal}"), || {
            // SAFETY: nobody holds a handler.
            unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) }.ok();
            raise(signal)?;
            Ok(0)
        })?;
    }
    ended("exit with a thread left", || {
        std::thread::spawn(pause);
        Ok(3)
    })
}

/// Has a child do `work`, and reports its end.
fn ended(name: &str, work: impl FnOnce() -> Result<i32>) -> Result<()> {
    let child = process::child_with_code(work)?;
    let (status, usage) = process::wait_usage(name, child)?;
    let (code, signal) = match status {
        WaitStatus::Exited(_, code) => (Some(code as u32), None),
        WaitStatus::Signaled(_, signal, _) => (None, Some(signal as u32)),
        _ => (None, None),
    };
    report(&Fact::Exit(Exit {
        name: name.to_owned(),
        pid: child.as_raw() as u32,
        code,
        signal,
    }))?;
    report(&Fact::Usage(usage))
}

/// Has a child run `file` with arguments of many sorts.
fn exec(file: &str) -> Result<()> {
    ended("exec", || replace(file, &ARGUMENTS))
}

/// Has a child exec in a thread that isn't its first, which takes over the first one's id and ends all others. One of them
/// has ended by itself before.
fn exec_in_thread() -> Result<()> {
    ended("exec in a thread", || {
        let pages = Pages::private(50)?;
        pages.write_all(1);
        let ends = process::joined(std::thread::spawn(gettid).join())?;
        note("ends", ends.as_raw())?;
        std::thread::spawn(|| {
            loop {
                pause();
            }
        });
        std::thread::spawn(|| {
            let pages = Pages::private(50).ok();
            pages.inspect(|pages| pages.write_all(1));
            let this = std::env::current_exe().unwrap_or_default();
            replace(&this.to_string_lossy(), &["lives", "return", "6"])
        });
        // The exec ends this thread.
        loop {
            pause();
        }
    })
}

/// Has a child make a task that is its sibling, and asks for another signal than the child's own at its end.
fn sibling() -> Result<()> {
    let maker = process::child(|| {
        let sibling = clone(libc::CLONE_PARENT | libc::SIGUSR1, &|| {
            kin().map_or(1, |()| 0)
        });
        ensure!(sibling > 0, "clone: {}", Errno::last());
        Ok(())
    })?;
    note("maker", maker.as_raw())?;
    // Both are this process's.
    for _ in 0..2 {
        let ended = wait()?;
        ensure!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
    }
    Ok(())
}

/// Reports this process, its parent, and the signal that this one gets at the end, as the kernel has them.
fn kin() -> Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, numbers) = stat.rsplit_once(") ").context("no name")?;
    let numbers: Vec<_> = numbers.split(' ').collect();
    // From the third field on (proc_pid_stat(5)).
    let field = |number: usize| -> Result<i32> {
        Ok(numbers.get(number - 3).context("too short")?.parse()?)
    };
    let kin = serde_json::json!([getpid().as_raw(), field(4)?, field(38)?]);
    note("sibling", kin)
}

fn replace(file: &str, args: &[&str]) -> Result<i32> {
    let args = args
        .iter()
        .map(|arg| CString::new(*arg))
        .collect::<Result<Vec<_>, _>>()?;
    execv(&CString::new(file)?, &args).with_context(|| format!("cannot exec {file}"))?;
    Ok(0)
}

/// So many children one after another, which end at once.
fn forks(count: usize) -> Result<()> {
    (0..count).try_for_each(|_| process::in_child(|| Ok(())))?;
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    note("pid", getpid().as_raw())?;
    report(&Fact::Usage(Usage {
        name: "children".to_owned(),
        pid: 0,
        minor: children.minor_page_faults() as u64,
        major: children.major_page_faults() as u64,
    }))
}
