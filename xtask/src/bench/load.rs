//! The programs that are measured: what `bench-load` of the package `tests` takes as its argument.

use clap::ValueEnum;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
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
    /// A process on each CPU, a million pages touched together. Under memtrace only.
    MillionFaults,
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
        }
    }

    /// How often it runs unless told otherwise. The goals are about the slow-down of one, which must be told from the
    /// noise of a shared machine.
    pub(super) fn rounds(self) -> u32 {
        if self == Self::CowStorm { 15 } else { 5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_command_lines_use_the_same_names() {
        for load in Load::value_variants() {
            let value = load.to_possible_value();
            assert_eq!(
                value.map(|value| value.get_name().to_owned()).as_deref(),
                Some(load.name())
            );
        }
    }
}
