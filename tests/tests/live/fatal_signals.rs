//! Signals that end a process which isn't prepared for them: what is traced may send each to its group, which is memtrace's,
//! too, and anyone may end memtrace by one.

use std::fs;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};
use libc::c_int;
use memtrace_events::Events;
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use tests::harness::{Memtrace, Run, command, subject, wait_for, within};

/// All that a process can block.
const FATAL: [(&str, c_int); 26] = [
    ("SIGHUP", libc::SIGHUP),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGILL", libc::SIGILL),
    ("SIGTRAP", libc::SIGTRAP),
    ("SIGABRT", libc::SIGABRT),
    ("SIGBUS", libc::SIGBUS),
    ("SIGFPE", libc::SIGFPE),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGSEGV", libc::SIGSEGV),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGPIPE", libc::SIGPIPE),
    ("SIGALRM", libc::SIGALRM),
    ("SIGTERM", libc::SIGTERM),
    ("SIGSTKFLT", libc::SIGSTKFLT),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGPROF", libc::SIGPROF),
    ("SIGIO", libc::SIGIO),
    ("SIGPWR", libc::SIGPWR),
    ("SIGSYS", libc::SIGSYS),
    ("the C library's first", 32),
    ("the C library's second", 33),
    ("SIGRTMIN", 34),
    ("SIGRTMAX", 64),
];

#[test]
fn what_prog_sends_to_its_group() -> Result<()> {
    for (name, number) in FATAL {
        to_group("kill", number).context(name)?;
    }
    Ok(())
}

#[test]
fn what_the_kernel_sends_to_the_group_for_a_file_of_progs() -> Result<()> {
    for (name, number) in [
        ("SIGIO", 0),
        ("SIGUSR1", libc::SIGUSR1),
        ("SIGTERM", libc::SIGTERM),
        ("SIGRTMIN", 34),
    ] {
        to_group("file", number).context(name)?;
    }
    Ok(())
}

#[test]
fn what_the_kernel_has_no_room_to_tell_the_sender_of() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let mut command = memtrace.command([subject("to-group"), "kill".into(), "34".into()]);
    let limit = || Ok(setrlimit(Resource::RLIMIT_SIGPENDING, 0, 0)?);
    // SAFETY: it makes a system call.
    unsafe { command.pre_exec(limit) };
    whole(&memtrace, Run::of(&mut command)?)
}

#[test]
fn what_an_attached_process_sends() -> Result<()> {
    // The process leads the group that memtrace is started in. The signal has been read before the next is sent.
    const SCRIPT: &str = r#"
        trap : USR1
        "$@" $$ &
        until [ -s "$TRACE" ]; do sleep 0.01; done
        kill -USR1 0
        while grep -q 'ShdPnd:.*[1-9a-f]' /proc/$!/status; do sleep 0.01; done
        kill -INT $!
        wait $!"#;
    let memtrace = Memtrace::new()?.with_json();
    let shell = command(["sh", "-c", SCRIPT, "sh"])?;
    let mut command = within(shell, &memtrace.attach([0; 0]));
    let run = Run::of(command.env("TRACE", memtrace.json_file()))?;
    assert_eq!(run.code(), Some(0), "{run:?}");
    memtrace.read(run).map(drop)
}

#[test]
fn what_a_stranger_sends_ends_the_trace_in_order() -> Result<()> {
    for number in [libc::SIGUSR1, libc::SIGSEGV, libc::SIGIO, 32, 34] {
        let memtrace = Memtrace::new()?.with_json();
        let (running, file) = memtrace.start_patient()?;
        // SAFETY: a plain system call.
        Errno::result(unsafe { libc::kill(running.pid().as_raw(), number) })?;
        let run = running.finish()?;
        assert_eq!(run.code(), Some(128 + number), "{run:?}");
        memtrace.read(run)?;
        fs::write(&file, "")?;
        wait_for("the program's end", || memtrace.note("done"))?;
    }
    Ok(())
}

/// PROG has its group get a signal.
fn to_group(how: &str, number: c_int) -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let number = number.to_string();
    let run = memtrace.run([subject("to-group"), how.into(), number.into()])?;
    whole(&memtrace, run)
}

/// PROG has been traced to its end.
fn whole(memtrace: &Memtrace, run: Run) -> Result<()> {
    assert_eq!(run.code(), Some(7), "{run:?}");
    let trace = memtrace.read(run)?;
    let (_, exit) = trace.exits().last().context("no exit")?;
    assert_eq!(exit.code, Some(7));
    trace.check_accounts()
}
