//! The tools that watch: which there are, which of them are here, and what each is measured with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::load::{Kind, Load};

/// In so many rounds the tools run that are only shown beside: the fewest of which a median has an interval.
const SHOWN_ROUNDS: u32 = super::statistics::FEWEST as u32;

/// Where the parts of a benchmark are.
pub(super) struct Places {
    /// Cargo's folder with memtrace and bench-load.
    pub(super) release: PathBuf,
    /// What the tools and servers write goes here.
    pub(super) scratch: PathBuf,
    /// Another build of memtrace, to be compared with.
    pub(super) other: Option<PathBuf>,
}

impl Places {
    /// The file that the tool writes its record to.
    pub(super) fn record(&self) -> PathBuf {
        self.scratch.join("record")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tool {
    Untraced,
    /// The same once more: how far it is from the first is the machine's noise.
    UntracedAgain,
    MemtraceJson,
    MemtraceText,
    MemtraceSummary,
    OtherJson,
    OtherSummary,
    PerfRecord,
    TraceCmd,
    /// Counts page faults.
    Bpftrace,
    /// Does nothing at each system call.
    BpftraceEmpty,
    PerfTrace,
    Strace,
}

impl Tool {
    pub(super) const ALL: [Self; 13] = [
        Self::Untraced,
        Self::UntracedAgain,
        Self::MemtraceJson,
        Self::MemtraceText,
        Self::MemtraceSummary,
        Self::OtherJson,
        Self::OtherSummary,
        Self::PerfRecord,
        Self::TraceCmd,
        Self::Bpftrace,
        Self::BpftraceEmpty,
        Self::PerfTrace,
        Self::Strace,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::UntracedAgain => "untraced again",
            Self::MemtraceJson => "memtrace, JSON",
            Self::MemtraceText => "memtrace, text",
            Self::MemtraceSummary => "memtrace --summary",
            Self::OtherJson => "the other, JSON",
            Self::OtherSummary => "the other, --summary",
            Self::PerfRecord => "perf record",
            Self::TraceCmd => "trace-cmd record",
            Self::Bpftrace => "bpftrace, counting",
            Self::BpftraceEmpty => "bpftrace, empty",
            Self::PerfTrace => "perf trace",
            Self::Strace => "strace",
        }
    }

    /// Whether it is the build of memtrace that the goals are about.
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

    pub(super) fn is_untraced(self) -> bool {
        matches!(self, Self::Untraced | Self::UntracedAgain)
    }

    /// Whether it leaves a JSON object at its end that says what was lost. A summary is JSON here, too.
    pub(super) fn leaves_an_end(self) -> bool {
        matches!(
            self,
            Self::MemtraceJson | Self::MemtraceSummary | Self::OtherJson | Self::OtherSummary
        )
    }

    /// Whether the tool is measured with this load.
    pub(super) fn takes(self, load: Load) -> bool {
        match (load, load.kind()) {
            (Load::Idle, _) => matches!(
                self,
                Self::MemtraceJson | Self::OtherJson | Self::PerfTrace | Self::Strace
            ),
            (Load::Bystander, _) => {
                self.is_untraced() || self == Self::BpftraceEmpty || self.takes(Load::Idle)
            }
            (Load::MillionFaults, _) | (_, Kind::Server) => {
                self.is_untraced() || self.leaves_an_end() || self == Self::PerfRecord
            }
            (Load::Start, _) => !matches!(self, Self::UntracedAgain | Self::BpftraceEmpty),
            _ => self != Self::BpftraceEmpty,
        }
    }

    /// In how many of the rounds it is measured.
    pub(super) fn rounds(self, rounds: u32) -> u32 {
        if self.is_untraced() || self.leaves_an_end() || self == Self::PerfRecord {
            rounds
        } else {
            rounds.min(SHOWN_ROUNDS)
        }
    }

    /// The tool's program; else why there is none, and the remedy.
    pub(super) fn find(self, places: &Places) -> Result<PathBuf, String> {
        let (program, package) = match self {
            Self::OtherJson | Self::OtherSummary => {
                let none = || "not asked for: --against".to_owned();
                return places.other.clone().ok_or_else(none);
            }
            Self::Untraced | Self::UntracedAgain => return Ok(places.release.join("bench-load")),
            Self::MemtraceJson | Self::MemtraceText | Self::MemtraceSummary => {
                return Ok(places.release.join("memtrace"));
            }
            Self::PerfRecord | Self::PerfTrace => ("perf", "linux-perf"),
            Self::TraceCmd => ("trace-cmd", "trace-cmd"),
            Self::Bpftrace | Self::BpftraceEmpty => ("bpftrace", "bpftrace"),
            Self::Strace => ("strace", "strace"),
        };
        which::which(program).map_err(|_| not_installed(package))
    }
}

/// Says what to install. The names are Debian's.
pub(super) fn not_installed(package: &str) -> String {
    format!("not installed: `apt-get install {package}`")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_load_is_measured_with_memtrace_and_with_nothing() {
        for &load in Load::value_variants() {
            assert!(Tool::MemtraceJson.takes(load), "{}", load.name());
            let noise = Tool::UntracedAgain.takes(load);
            let apart = matches!(load, Load::Idle | Load::Start);
            assert_eq!(noise, !apart, "{}", load.name());
        }
    }

    #[test]
    fn tools_that_are_only_shown_run_in_few_rounds() {
        assert_eq!(Tool::PerfRecord.rounds(15), 15);
        assert_eq!(Tool::Strace.rounds(15), 6);
        assert_eq!(Tool::Strace.rounds(2), 2);
    }
}
