//! Programs that run on their own, and memtrace that is attached to them.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;
use tempfile::TempDir;

use super::memtrace::{Memtrace, facts, note, subject_command};
use super::run::{Run, Running, command};
use super::trace::Trace;
use crate::subject::fifo::{GO_ON, MORE};
use crate::subject::report::{Fact, REPORT};

/// A run of a subject that nobody traces from the start, and that waits for what a test says.
#[derive(Debug)]
pub struct AttachTarget {
    running: Running,
    fifo: File,
    folder: TempDir,
}

impl AttachTarget {
    /// Starts the subject `attach-target` in that mode, and waits until it is ready.
    pub fn start(mode: &str) -> Result<Self> {
        Self::of(["attach-target", mode])
    }

    /// Starts a subject that takes FIFO as its last argument, and waits until it is ready.
    pub fn of<const N: usize>(words: [&str; N]) -> Result<Self> {
        let folder = TempDir::new()?;
        let fifo = folder.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut command = command(subject_command(&words)?)?;
        command.arg(&fifo);
        command.env(REPORT, folder.path().join("report"));
        let running = Running::start(&mut command)?;
        // For reading, too: so it doesn't wait for the subject here.
        let fifo = File::options().read(true).write(true).open(&fifo)?;
        let mut this = Self {
            running,
            fifo,
            folder,
        };
        this.until("ready")?;
        Ok(this)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.pid().as_raw() as u32
    }

    /// Waits for the note `name`.
    pub fn until(&mut self, name: &str) -> Result<Value> {
        let report = self.folder.path().join("report");
        self.running.until(name, || {
            if report.exists() {
                note(&report, name)
            } else {
                Ok(None)
            }
        })
    }

    /// Lets it go on.
    pub fn go_on(&mut self) -> Result<()> {
        Ok(self.fifo.write_all(&[GO_ON])?)
    }

    /// Has it do what it does once more, unless it was asked to and has not begun yet: so it neither rests nor runs ahead.
    pub fn more(&mut self) -> Result<()> {
        let mut waiting = 0;
        // SAFETY: the kernel fills in a number.
        let asked = unsafe { libc::ioctl(self.fifo.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
        Errno::result(asked)?;
        if waiting == 0 {
            self.fifo.write_all(&[MORE])?;
        }
        Ok(())
    }

    /// Lets it go on, and waits until it has done what it does.
    pub fn work(&mut self) -> Result<()> {
        self.go_on()?;
        self.until("done")?;
        Ok(())
    }

    /// The same, and then to its end.
    pub fn work_and_finish(mut self) -> Result<()> {
        self.work()?;
        self.finish()
    }

    /// What it has reported so far.
    pub fn facts(&self) -> Result<Vec<Fact>> {
        facts(&self.folder.path().join("report"))
    }

    /// Lets it go on to its end, which must be a good one.
    pub fn finish(mut self) -> Result<()> {
        self.go_on()?;
        let run = self.running.finish()?;
        ensure!(run.code() == Some(0), "{run:?}");
        Ok(())
    }
}

/// memtrace, attached to processes.
#[derive(Debug)]
pub struct Attached {
    memtrace: Memtrace,
    running: Running,
}

impl Attached {
    /// Attaches memtrace, which writes JSON, and waits until it has told of each of the processes.
    pub fn to(memtrace: Memtrace, pids: &[u32]) -> Result<Self> {
        Self::while_doing(memtrace, pids, || Ok(()))
    }

    /// The same to a program that works meanwhile.
    pub fn to_busy(memtrace: Memtrace, program: &mut AttachTarget) -> Result<Self> {
        Self::while_doing(memtrace, &[program.pid()], || program.more())
    }

    fn while_doing(
        memtrace: Memtrace,
        pids: &[u32],
        mut act: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let memtrace = memtrace.with_json();
        let mut running = Running::start(&mut memtrace.attach(pids))?;
        let file = memtrace.json_file();
        running.until("the snapshot", || {
            act()?;
            let text = fs::read_to_string(&file).unwrap_or_default();
            let is_task = |line: &Value| line["type"] == "task";
            let seen: Vec<_> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .filter(is_task)
                .filter_map(|line| line["tid"].as_i64())
                .collect();
            let are_all = pids.iter().all(|&pid| seen.contains(&pid.into()));
            Ok(are_all.then_some(()))
        })?;
        Ok(Self { memtrace, running })
    }

    /// memtrace's own process.
    pub fn pid(&self) -> Pid {
        self.running.pid()
    }

    /// Ends it as Ctrl-C does.
    pub fn interrupt(self) -> Result<Trace> {
        kill(self.pid(), Signal::SIGINT)?;
        self.finish()
    }

    /// The same once the program has done what it does, with what that reports.
    pub fn interrupt_after(self, program: &mut AttachTarget) -> Result<Trace> {
        program.work()?;
        let trace = self.interrupt()?;
        Ok(Trace {
            facts: program.facts()?,
            ..trace
        })
    }

    /// Waits until it ends by itself.
    pub fn finish(self) -> Result<Trace> {
        let run = self.running.finish()?;
        ensure!(run.code() == Some(0), "{run:?}");
        let trace = self.memtrace.read(run)?;
        trace.check_sharing()?;
        trace.check_snapshot()?;
        Ok(trace)
    }

    /// Kills it.
    pub fn kill(self) -> Result<Run> {
        kill(self.pid(), Signal::SIGKILL)?;
        self.running.finish().context("memtrace doesn't die")
    }
}
