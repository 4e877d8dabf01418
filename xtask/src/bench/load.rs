//! What is measured: the loads that `bench-load` of the package `tests` takes as its argument, and servers.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How often each load is run with each tool that a goal is about.
pub(super) const ROUNDS: u32 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Load {
    /// Nothing: how long after the tool's start the program's own comes.
    Start,
    /// 20,000 pages touched; a fork; the child writes all, then the parent.
    CowStorm,
    /// 50,000 pages touched.
    FirstTouch,
    /// 1,000 forks.
    Forks,
    /// 1,000 spawns of /bin/true.
    Spawns,
    /// 20,000 rounds of mmap, munmap and brk.
    Mappings,
    /// A process on each CPU, a million pages touched together. Also memtrace's memory by time, and its own CPU time.
    MillionFaults,
    /// A process that isn't traced, while the tool watches another one, which sleeps: its system calls and faults.
    Bystander,
    /// What the tool itself does while it watches a process that sleeps.
    Idle,
    /// A database under `pgbench -C -S -c 4`, so with a fork for each transaction: transactions per second.
    Postgres,
    /// Redis under redis-benchmark while it saves in the background: requests per second.
    Redis,
    /// nginx under wrk, or under ab where there is no wrk: requests per second.
    Nginx,
}

/// How a load is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The tool starts it.
    Traced,
    /// It runs beside a tool that watches a process that sleeps.
    Beside,
    /// The tool attaches to it, then a client puts it under load.
    Server,
}

impl Load {
    /// As on the command lines of xtask and of bench-load.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::CowStorm => "cow-storm",
            Self::FirstTouch => "first-touch",
            Self::Forks => "forks",
            Self::Spawns => "spawns",
            Self::Mappings => "mappings",
            Self::MillionFaults => "million-faults",
            Self::Bystander => "bystander",
            Self::Idle => "idle",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nginx => "nginx",
        }
    }

    /// Rounds that are shown apart, and come on top.
    pub(super) fn rounds_apart(self) -> u32 {
        // The first start: nothing is warm yet.
        u32::from(self == Self::Start)
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Bystander | Self::Idle => Kind::Beside,
            Self::Postgres | Self::Redis | Self::Nginx => Kind::Server,
            _ => Kind::Traced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_command_lines_and_files_use_the_same_names() {
        for load in Load::value_variants() {
            let value = load.to_possible_value();
            assert_eq!(
                value.map(|value| value.get_name().to_owned()).as_deref(),
                Some(load.name())
            );
            assert_eq!(
                serde_json::to_value(load).ok(),
                Some(serde_json::Value::from(load.name()))
            );
        }
    }
}
