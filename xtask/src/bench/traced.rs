//! A program that a tool starts and watches.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::time::{ClockId, clock_gettime};

use super::end;
use super::load::Load;
use super::owned::Owned;
use super::results::{Figures, Metric};
use super::tool::{Places, Tool};
use super::usage::Usage;
use crate::command::outside_cargo;

/// A run that takes longer is ended and counts as failed.
const LIMIT: Duration = Duration::from_mins(3);

/// Counts every page fault of the machine, in the kernel.
const BPFTRACE: &str = "tracepoint:exceptions:page_fault_user, \
                        tracepoint:exceptions:page_fault_kernel { @[probe] = count(); }";

/// Runs the load once; also gives the tool's highest resident memory in each quarter of the run.
pub(super) fn measure(tool: Tool, load: Load, places: &Places) -> Result<(Figures, Vec<u64>)> {
    let mut command = command(tool, load, places).map_err(|reason| anyhow!(reason))?;
    let start = monotonic()?;
    let child = Owned::start(&mut command, &places.scratch, "tool")?;
    let mut usage = Usage::of(child.pid())?;
    let printed = child.printed(LIMIT, || usage.look())?;
    let ns: u64 = printed
        .lines()
        .find_map(|line| line.trim().parse().ok())
        .context("the program did not run")?;

    let mut figures = Figures::new();
    if load == Load::Start {
        figures.insert(Metric::StartNs, u64::saturating_sub(ns, start) as f64);
    } else {
        figures.insert(Metric::TimeNs, ns as f64);
    }
    if tool.is_untraced() {
        return Ok((figures, Vec::new()));
    }
    usage.note(&mut figures);
    if tool.leaves_an_end() {
        end::note(&places.record(), &mut figures)?;
    }
    let by_time = load == Load::MillionFaults;
    let resident = if by_time {
        usage.quarters()
    } else {
        Vec::new()
    };
    Ok((figures, resident))
}

/// The clock that bench-load reads too, in ns.
fn monotonic() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// The command line that runs `load` under this tool, all it records going to a file.
fn command(tool: Tool, load: Load, places: &Places) -> Result<Command, String> {
    let mut command = outside_cargo(tool.find(places)?);
    let output = places.record();
    let program = [places.release.join("bench-load"), load.name().into()];
    match tool {
        Tool::Untraced | Tool::UntracedAgain => {
            command.arg(load.name());
            return Ok(command);
        }
        Tool::MemtraceJson | Tool::OtherJson => command.args(["run", "--format", "json", "-o"]),
        Tool::MemtraceText => command.args(["run", "--format", "text", "-o"]),
        Tool::MemtraceSummary | Tool::OtherSummary => {
            command.args(["run", "--summary", "--format", "json", "-o"])
        }
        Tool::PerfRecord => command.args(["record", "-e", "page-faults", "-c", "1", "-d", "-o"]),
        Tool::TraceCmd => command.args(["record", "-e", "exceptions", "-o"]),
        Tool::PerfTrace => command.args(["trace", "-F", "all", "-o"]),
        Tool::Strace => command.args(["-f", "-o"]),
        Tool::Bpftrace | Tool::BpftraceEmpty => {
            // It takes the program as one string.
            let [path, argument] = &program;
            command
                .args(["-e", BPFTRACE, "-c"])
                .arg(joined(path, argument));
            command.arg("-o").arg(&output);
            return Ok(command);
        }
    };
    command.arg(output).arg("--").args(program);
    Ok(command)
}

fn joined(program: &Path, argument: &Path) -> OsString {
    let mut line = program.as_os_str().to_owned();
    line.push(" ");
    line.push(argument);
    line
}
