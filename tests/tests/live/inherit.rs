//! PROG starts with what it would start with without memtrace.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use tests::harness::{Memtrace, Run, command, subject};

#[test]
fn by_default() -> Result<()> {
    the_same(|_| {})
}

#[test]
fn ignored_and_blocked_signals() -> Result<()> {
    the_same(|command| {
        before_exec(command, || {
            let signals = [
                Signal::SIGINT,
                Signal::SIGQUIT,
                Signal::SIGPIPE,
                Signal::SIGCHLD,
                Signal::SIGUSR2,
                Signal::SIGHUP,
            ];
            for ignored in signals {
                // SAFETY: no handler of ours is involved.
                unsafe { signal(ignored, SigHandler::SigIgn) }?;
            }
            SigSet::from_iter([
                Signal::SIGUSR1,
                Signal::SIGINT,
                Signal::SIGTERM,
                Signal::SIGCHLD,
            ])
            .thread_block()
        });
    })
}

#[test]
fn the_umask_the_folder_and_the_environment() -> Result<()> {
    the_same(|command| {
        command
            .current_dir("/usr")
            .env("A", "b\nc")
            .env("LD_BIND_NOW", "1")
            .env_remove("HOME");
        before_exec(command, || {
            umask(Mode::from_bits_truncate(0o137));
            Ok(())
        });
    })
}

#[test]
fn limits_niceness_and_processors() -> Result<()> {
    the_same(|command| {
        before_exec(command, || {
            use nix::sys::resource::{Resource, setrlimit};
            setrlimit(Resource::RLIMIT_NOFILE, 100, 200)?;
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            setrlimit(Resource::RLIMIT_STACK, 4 << 20, 16 << 20)?;
            // As if others had used up all of it: before 5.11 whatever is loaded counts, of all of a user's processes.
            setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0)?;
            // SAFETY: a plain system call.
            nix::errno::Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) })?;
            let mut cpus = nix::sched::CpuSet::new();
            cpus.set(0)?;
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus)
        });
    })
}

#[test]
fn open_files() -> Result<()> {
    the_same(|command| {
        before_exec(command, || {
            // SAFETY: numbers that nothing else in the child uses.
            nix::errno::Errno::result(unsafe { libc::dup2(0, 9) })?;
            // SAFETY: as above.
            nix::errno::Errno::result(unsafe { libc::dup2(1, 200) })?;
            // SAFETY: nothing in the child reads standard input any more.
            nix::errno::Errno::result(unsafe { libc::close(0) })?;
            Ok(())
        });
    })
}

#[test]
fn standard_input_and_output() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let text = memtrace.folder().join("text");
    fs::write(&text, "one\ntwo\n")?;
    let mut command = memtrace.command(["cat"]);
    let run = Run::of(command.stdin(Stdio::from(fs::File::open(&text)?)))?;
    assert_eq!(
        (run.code(), run.stdout.as_str(), run.stderr.as_str()),
        (Some(0), "one\ntwo\n", "")
    );
    Ok(())
}

/// `inherit` prints the same traced and untraced, when both are started as `prepare` says.
fn the_same(prepare: impl Fn(&mut Command)) -> Result<()> {
    let inherit = [
        subject("inherit"),
        "an argument".into(),
        String::new().into(),
    ];
    let mut untraced = command(&inherit)?;
    let memtrace = Memtrace::new()?.with_json();
    let mut traced = memtrace.command(&inherit);
    let outputs = [&mut untraced, &mut traced].map(|command| -> Result<String> {
        prepare(command);
        let run = Run::of(command)?;
        assert_eq!(run.code(), Some(0), "{run:?}");
        // The command that was started leads the group: that is memtrace for a traced program.
        Ok(run
            .stdout
            .replace(&format!("group {} ", run.pid), "group of the command "))
    });
    let [untraced, traced] = outputs;
    let (untraced, traced) = (untraced?, traced?);
    assert!(untraced.contains("ignored "), "{untraced}");
    // Only what differs: the whole has the environment in it.
    let only_in = |a: &str, b: &str| -> Vec<String> {
        a.lines()
            .filter(|line| !b.lines().any(|other| other == *line))
            .map(str::to_owned)
            .collect()
    };
    let (more, less) = (only_in(&traced, &untraced), only_in(&untraced, &traced));
    ensure!(
        more.is_empty() && less.is_empty(),
        "traced: {more:#?}\nuntraced: {less:#?}"
    );
    Ok(())
}

fn before_exec(command: &mut Command, act: impl Fn() -> nix::Result<()> + Send + Sync + 'static) {
    // SAFETY: `act` makes only system calls.
    unsafe { command.pre_exec(move || act().map_err(io::Error::from)) };
}
