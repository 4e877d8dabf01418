//! A tool that attaches to processes that run already.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;

use super::end;
use super::owned::{Owned, pause, until};
use super::results::Figures;
use super::tool::{Places, Tool};
use super::usage::{Activity, Usage, with_descendants};
use crate::command::outside_cargo;

/// Most tools don't say when they have begun. This is several times what the slowest here needs.
const SETTLING: Duration = Duration::from_millis(1500);
/// memtrace does say it. The verifier of a slow machine takes its time.
const BEGINNING: Duration = Duration::from_mins(1);

/// Hooks all system calls of the machine, and does nothing there.
const BPFTRACE_EMPTY: &str =
    "tracepoint:raw_syscalls:sys_enter { } tracepoint:raw_syscalls:sys_exit { }";

/// What of a process is watched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Itself,
    /// Its descendants, too.
    Tree,
}

/// The tool while it watches.
pub(super) struct Watcher {
    tool: Tool,
    process: Owned,
    usage: Usage,
    record: PathBuf,
}

impl Watcher {
    /// Starts the tool, and waits until it watches. Untraced there is none.
    pub(super) fn start(
        tool: Tool,
        pid: u32,
        scope: Scope,
        places: &Places,
    ) -> Result<Option<Self>> {
        if tool.is_untraced() {
            return Ok(None);
        }
        let record = places.record();
        // What is left of the run before would look like a beginning.
        if let Err(error) = fs::remove_file(&record)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", record.display()));
        }
        let mut command = command(tool, pid, scope, places)?;
        let process = Owned::start(&mut command, &places.scratch, "tool")?;
        let usage = Usage::of(process.pid())?;
        let this = Self {
            tool,
            process,
            usage,
            record,
        };
        if tool.leaves_an_end() {
            until("memtrace's begin", BEGINNING, || {
                this.check()?;
                let length = fs::metadata(&this.record).map_or(0, |file| file.len());
                Ok((length > 0).then_some(()))
            })?;
        }
        pause(SETTLING)?;
        this.check()?;
        Ok(Some(this))
    }

    /// Fails if the tool has ended on its own.
    fn check(&self) -> Result<()> {
        if self.process.has_ended()? {
            bail!("it ended at once: {}", self.process.last_words());
        }
        Ok(())
    }

    /// What it does on its own in that time.
    pub(super) fn activity(&self, time: Duration) -> Result<Figures> {
        let before = Activity::of(self.process.pid())?;
        pause(time)?;
        self.check()?;
        Ok(Activity::of(self.process.pid())?.since(before))
    }

    /// Ends it, and notes what it used.
    pub(super) fn end(mut self, figures: &mut Figures) -> Result<()> {
        self.check()?;
        self.usage.look();
        let ended = self.process.end(Signal::SIGINT);
        self.usage.note(figures);
        // A peer that doesn't end is ended with this: what was to be measured is measured.
        if self.tool.leaves_an_end() {
            let status = ended?;
            if !status.success() {
                bail!("{status}: {}", self.process.last_words());
            }
            end::note(&self.record, figures)?;
        }
        Ok(())
    }
}

/// The command line that has the tool watch that process, all it records going to a file.
fn command(tool: Tool, pid: u32, scope: Scope, places: &Places) -> Result<Command> {
    let program = tool.find(places).map_err(|reason| anyhow!(reason))?;
    let mut command = outside_cargo(program);
    let record = places.record();
    match tool {
        Tool::MemtraceJson | Tool::OtherJson | Tool::MemtraceSummary | Tool::OtherSummary => {
            command.args(["attach", "--format", "json"]);
            if matches!(tool, Tool::MemtraceSummary | Tool::OtherSummary) {
                command.arg("--summary");
            }
            if scope == Scope::Tree {
                command.arg("--tree");
            }
            command.arg("-o").arg(record).arg(pid.to_string());
        }
        Tool::PerfRecord => {
            command
                .args(["record", "-e", "page-faults", "-c", "1", "-d", "-o"])
                .arg(record)
                .args(["-p", &pids(pid, scope)?]);
        }
        Tool::PerfTrace => {
            command
                .args(["trace", "-o"])
                .arg(record)
                .args(["-p", &pids(pid, scope)?]);
        }
        Tool::Strace => {
            command
                .args(["-f", "-o"])
                .arg(record)
                .args(["-p", &pids(pid, scope)?]);
        }
        Tool::BpftraceEmpty => {
            command.args(["-e", BPFTRACE_EMPTY, "-o"]).arg(record);
        }
        _ => bail!("{} is not measured so", tool.name()),
    }
    Ok(command)
}

/// The processes as perf and strace take them. What they start later is watched by itself.
fn pids(pid: u32, scope: Scope) -> Result<String> {
    let pids = match scope {
        Scope::Itself => vec![pid],
        Scope::Tree => with_descendants(pid)?,
    };
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    Ok(pids.join(","))
}
