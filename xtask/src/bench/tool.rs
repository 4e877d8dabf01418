//! The tools that watch the program: their command lines, and which of them are here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::load::Load;
use crate::command::outside_cargo;

/// Where the parts of a benchmark are.
pub(super) struct Places {
    /// Cargo's folder with memtrace and bench-load.
    pub(super) release: PathBuf,
    /// What the tools write goes here.
    pub(super) scratch: PathBuf,
    /// Another build of memtrace, to be compared with.
    pub(super) other: Option<PathBuf>,
}

impl Places {
    /// The file that the tool writes its record to.
    pub(super) fn output(&self) -> PathBuf {
        self.scratch.join("record")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Untraced,
    MemtraceJson,
    MemtraceText,
    MemtraceSummary,
    OtherJson,
    OtherSummary,
    PerfRecord,
    TraceCmd,
    Bpftrace,
    PerfTrace,
    Strace,
}

/// Counts every page fault of the machine, in the kernel.
const BPFTRACE: &str = "tracepoint:exceptions:page_fault_user, \
                        tracepoint:exceptions:page_fault_kernel { @[probe] = count(); }";

impl Tool {
    pub(super) const ALL: [Self; 11] = [
        Self::Untraced,
        Self::MemtraceJson,
        Self::MemtraceText,
        Self::MemtraceSummary,
        Self::OtherJson,
        Self::OtherSummary,
        Self::PerfRecord,
        Self::TraceCmd,
        Self::Bpftrace,
        Self::PerfTrace,
        Self::Strace,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::MemtraceJson => "memtrace --format json",
            Self::MemtraceText => "memtrace --format text",
            Self::MemtraceSummary => "memtrace --summary",
            Self::OtherJson => "the other, as JSON",
            Self::OtherSummary => "the other, --summary",
            Self::PerfRecord => "perf record",
            Self::TraceCmd => "trace-cmd record",
            Self::Bpftrace => "bpftrace, counting",
            Self::PerfTrace => "perf trace -F all",
            Self::Strace => "strace -f",
        }
    }

    pub(super) fn is_memtrace(self) -> bool {
        matches!(
            self,
            Self::MemtraceJson | Self::MemtraceText | Self::MemtraceSummary
        )
    }

    /// Whether it is the build of memtrace that is compared with.
    pub(super) fn is_other(self) -> bool {
        matches!(self, Self::OtherJson | Self::OtherSummary)
    }

    /// Whether the tool is measured with this program.
    pub(super) fn takes(self, load: Load) -> bool {
        load != Load::MillionFaults || self == Self::Untraced || self.is_memtrace()
    }

    /// The tool's program; else why there is none, and the remedy.
    pub(super) fn find(self, places: &Places) -> Result<PathBuf, String> {
        let (program, package) = match self {
            Self::OtherJson | Self::OtherSummary => {
                let none = || "not asked for: --against PROGRAM".to_owned();
                return places.other.clone().ok_or_else(none);
            }
            Self::Untraced => return Ok(places.release.join("bench-load")),
            Self::MemtraceJson | Self::MemtraceText | Self::MemtraceSummary => {
                return Ok(places.release.join("memtrace"));
            }
            Self::PerfRecord | Self::PerfTrace => ("perf", "linux-perf"),
            Self::TraceCmd => ("trace-cmd", "trace-cmd"),
            Self::Bpftrace => ("bpftrace", "bpftrace"),
            Self::Strace => ("strace", "strace"),
        };
        which::which(program).map_err(|_| format!("not installed: `apt-get install {package}`"))
    }

    /// The command line that runs `load` under this tool, all it records going to a file.
    pub(super) fn command(self, load: Load, places: &Places) -> Result<Command, String> {
        let mut command = outside_cargo(self.find(places)?);
        let output = places.output();
        let program = [places.release.join("bench-load"), load.name().into()];
        match self {
            Self::Untraced => {
                command.arg(load.name());
                return Ok(command);
            }
            Self::MemtraceJson | Self::OtherJson => command.args(["run", "--format", "json", "-o"]),
            Self::MemtraceText => command.args(["run", "--format", "text", "-o"]),
            Self::MemtraceSummary | Self::OtherSummary => command.args(["run", "--summary", "-o"]),
            Self::PerfRecord => {
                command.args(["record", "-e", "page-faults", "-c", "1", "-d", "-o"])
            }
            Self::TraceCmd => command.args(["record", "-e", "exceptions", "-o"]),
            Self::PerfTrace => command.args(["trace", "-F", "all", "-o"]),
            Self::Strace => command.args(["-f", "-o"]),
            Self::Bpftrace => {
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
}

fn joined(program: &Path, argument: &Path) -> OsString {
    let mut line = program.as_os_str().to_owned();
    line.push(" ");
    line.push(argument);
    line
}
