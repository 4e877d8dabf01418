//! What the cases share.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memtrace_events::End;
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::unistd::Pid;
use serde_json::Value;
use tests::harness::{Memtrace, Run, Running, subject_command, wait_for};

/// memtrace's memory, whatever it traces, in MiB.
pub const MEMORY: u64 = 256;

/// A run of memtrace in a process group with what it traces, of which nothing is left when this goes.
#[derive(Debug)]
pub struct Group(Pid);

impl Group {
    /// That of `running`.
    pub fn of(running: &Running) -> Self {
        Self(running.pid())
    }

    /// Whether a process of it still runs.
    pub fn lives(&self) -> bool {
        killpg(self.0, None) != Err(Errno::ESRCH)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        killpg(self.0, Signal::SIGKILL).ok();
    }
}

/// Starts memtrace as a terminal's shell does: Ctrl-C reaches it, and what it traces, though the cases may run in a shell's
/// background, where SIGINT is ignored.
pub fn start(command: &mut Command) -> Result<Running> {
    let heed = || {
        // SAFETY: no handler is there that could do anything.
        unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
        Ok(())
    };
    // SAFETY: a system call and nothing else.
    unsafe { command.pre_exec(heed) };
    Running::start(command)
}

/// How memtrace ran to its end.
#[derive(Debug)]
pub struct Ended {
    /// Its status and what it said.
    pub run: Run,
    /// How long that took.
    pub took: Duration,
    /// The most memory that it had, in MiB, as far as it was seen.
    pub peak: u64,
}

impl Ended {
    /// It has ended well, and has kept to its memory.
    pub fn well(&self) -> Result<()> {
        ensure!(self.run.code() == Some(0), "{:?}", self.run);
        self.bounded()
    }

    /// It has kept to its memory.
    pub fn bounded(&self) -> Result<()> {
        ensure!(self.peak <= MEMORY, "it had {} MiB", self.peak);
        Ok(())
    }
}

/// Has memtrace trace a subject, given by its name and arguments, to its end, which must be a good one.
pub fn to_its_end<const N: usize>(memtrace: &Memtrace, words: [&str; N]) -> Result<()> {
    let running = Running::start(&mut memtrace.command(subject_command(&words)?))?;
    let _group = Group::of(&running);
    ended(running)?.well()
}

/// Waits for memtrace's end.
pub fn ended(running: Running) -> Result<Ended> {
    ended_within(running, Duration::MAX)
}

/// The same, which must come within that time; if not, memtrace is killed.
pub fn ended_within(running: Running, time: Duration) -> Result<Ended> {
    let (pid, start) = (running.pid(), Instant::now());
    let mut peak = 0;
    wait_for("memtrace's end", || {
        ensure!(
            start.elapsed() <= time,
            "it goes on after {time:?}, with {peak} MiB"
        );
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // The end has none.
        if let Some(size) = field("VmHWM:") {
            let size = size.trim().trim_end_matches(" kB");
            peak = size.parse::<u64>()? / 1024;
        }
        let state = field("State:").context("no state")?;
        Ok(state.trim().starts_with('Z').then_some(()))
    })?;
    let took = start.elapsed();
    Ok(Ended {
        run: running.finish()?,
        took,
        peak,
    })
}

/// Stops memtrace for a while, during which what it traces goes on.
pub fn stop_for(memtrace: Pid, time: Duration) -> Result<()> {
    kill(memtrace, Signal::SIGSTOP)?;
    std::thread::sleep(time);
    Ok(kill(memtrace, Signal::SIGCONT)?)
}

/// Has `each` look at the lines of a trace, which may be a large one and not complete.
pub fn lines(memtrace: &Memtrace, mut each: impl FnMut(&str) -> Result<()>) -> Result<End> {
    let mut reader = BufReader::new(File::open(memtrace.json_file())?);
    let (mut line, mut last) = (String::new(), String::new());
    while reader.read_line(&mut line)? != 0 {
        each(&line)?;
        std::mem::swap(&mut line, &mut last);
        line.clear();
    }
    serde_json::from_str(&last).with_context(|| format!("the last line: {last:.200}"))
}

/// The accounts at the end of a trace.
pub fn end(memtrace: &Memtrace) -> Result<End> {
    lines(memtrace, |_| Ok(()))
}

/// Nothing was lost.
pub fn nothing_lost(end: &End) -> Result<()> {
    ensure!(
        end.lost.values().all(|count| *count == 0),
        "lost: {:?}",
        end.lost
    );
    Ok(())
}

/// A line of a trace, if it has `text` in it.
pub fn parsed(line: &str, text: &str) -> Result<Option<Value>> {
    if !line.contains(text) {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(line)?))
}
