//! The figures that are made of the runs: compared with untraced in the same round, with an interval.

use serde::Serialize;

use super::load::{Kind, Load};
use super::results::{Metric, Results};
use super::statistics::{Estimate, Interval, estimate, median, of_median};
use super::tool::Tool;

const NS_PER_MS: f64 = 1e6;
const NS_PER_S: f64 = 1e9;

/// What is told of a tool and a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Figure {
    /// Times as slow as untraced.
    Slowdown,
    /// How long the program waits for the tool, in ms; without the first run.
    StartMs,
    /// What a bystander's system call takes longer, in ns.
    CallAddedNs,
    /// The same of its page fault, in percent.
    FaultAddedPercent,
    /// In percent of one CPU.
    IdleCpuPercent,
    /// Switches per second.
    IdleSwitches,
    /// What a server does per second, as a part of untraced.
    Throughput,
    /// The tool's own CPU time for a million faults, in s; its start's is taken off.
    OwnCpuS,
}

impl Figure {
    /// What is told of that load.
    pub(super) fn of(load: Load) -> &'static [Self] {
        match (load, load.kind()) {
            (Load::Start, _) => &[Self::StartMs],
            (Load::MillionFaults, _) => &[Self::Slowdown, Self::OwnCpuS],
            (Load::Bystander, _) => &[Self::CallAddedNs, Self::FaultAddedPercent],
            (Load::Idle, _) => &[Self::IdleCpuPercent, Self::IdleSwitches],
            (_, Kind::Server) => &[Self::Throughput],
            _ => &[Self::Slowdown],
        }
    }

    /// A column's title.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Slowdown => "times untraced",
            Self::StartMs => "start, ms",
            Self::CallAddedNs => "call, ns more",
            Self::FaultAddedPercent => "fault, % more",
            Self::IdleCpuPercent => "CPU, %",
            Self::IdleSwitches => "switches/s",
            Self::Throughput => "of untraced",
            Self::OwnCpuS => "own CPU, s",
        }
    }

    /// Digits behind the point.
    pub(super) fn digits(self) -> usize {
        match self {
            Self::Slowdown | Self::Throughput | Self::OwnCpuS => 2,
            Self::IdleCpuPercent => 3,
            Self::FaultAddedPercent | Self::IdleSwitches => 1,
            Self::StartMs | Self::CallAddedNs => 0,
        }
    }

    /// As it is printed.
    pub(super) fn show(self, figure: f64) -> String {
        let text = format!("{figure:.*}", self.digits());
        // A negative figure that rounds to nothing is nothing.
        match text.strip_prefix('-') {
            Some(zero) if !zero.contains(|c: char| ('1'..='9').contains(&c)) => zero.to_owned(),
            _ => text,
        }
    }

    /// The same of an interval.
    pub(super) fn show_interval(self, interval: Option<Interval>) -> String {
        interval.map_or("-".to_owned(), |interval| {
            format!(
                "{} to {}",
                self.show(interval.low),
                self.show(interval.high)
            )
        })
    }

    pub(super) fn estimate(self, results: &Results, tool: Tool, load: Load) -> Option<Estimate> {
        let beside = |metric, compare: fn(f64, f64) -> f64| {
            let pairs = results.together([tool, Tool::Untraced], load, metric);
            of_median(
                &pairs
                    .iter()
                    .map(|&[own, base]| compare(own, base))
                    .collect::<Vec<_>>(),
            )
        };
        let alone = |metric, scale: f64| {
            let figures = results.figures(tool, load, metric);
            of_median(
                &figures
                    .iter()
                    .map(|figure| figure / scale)
                    .collect::<Vec<_>>(),
            )
        };
        match self {
            Self::Slowdown => beside(Metric::TimeNs, |own, base| own / base),
            Self::Throughput => beside(Metric::PerSecond, |own, base| own / base),
            Self::CallAddedNs => beside(Metric::CallNs, |own, base| own - base),
            Self::FaultAddedPercent => {
                beside(Metric::FaultNs, |own, base| (own / base - 1.0) * 100.0)
            }
            Self::IdleCpuPercent => alone(Metric::IdleCpuPercent, 1.0),
            Self::IdleSwitches => alone(Metric::IdleSwitches, 1.0),
            Self::StartMs => {
                let later = results.of(tool, load).filter(|run| run.round > 1);
                let ns = later.filter_map(|run| run.figures.get(&Metric::StartNs));
                of_median(&ns.map(|ns| ns / NS_PER_MS).collect::<Vec<_>>())
            }
            Self::OwnCpuS => {
                let start = median(&results.figures(tool, Load::Start, Metric::OwnCpuNs))?;
                let all = results.figures(tool, load, Metric::OwnCpuNs);
                of_median(
                    &all.iter()
                        .map(|ns| (ns - start) / NS_PER_S)
                        .collect::<Vec<_>>(),
                )
            }
        }
    }
}

/// What a round tells first of a load, for a comparison of two tools.
fn compared(load: Load) -> &'static [Metric] {
    match load {
        Load::Start => &[Metric::StartNs],
        Load::Bystander => &[Metric::CallNs, Metric::FaultNs],
        Load::Idle => &[Metric::IdleCpuPercent],
        _ if load.kind() == Kind::Server => &[Metric::PerSecond],
        _ => &[Metric::TimeNs],
    }
}

/// Two tools in the same rounds: by what factor the first's figures are higher.
pub(super) fn ratios(
    results: &Results,
    tools: [Tool; 2],
    load: Load,
) -> Vec<(Metric, Option<Estimate>)> {
    let ratio = |metric| {
        let pairs = results.together(tools, load, metric);
        of_median(&pairs.iter().map(|[a, b]| a / b).collect::<Vec<_>>())
    };
    compared(load)
        .iter()
        .map(|&metric| (metric, ratio(metric)))
        .collect()
}

/// What the first tool adds to the time untraced, less `share` of what the second adds: below nothing where the first is so
/// much cheaper. (Their quotient has no bounds where the second adds next to nothing.)
pub(super) fn added_beyond(
    results: &Results,
    tools: [Tool; 2],
    load: Load,
    share: f64,
) -> Option<Estimate> {
    let [own, peer] = tools;
    let rounds = results.together([own, peer, Tool::Untraced], load, Metric::TimeNs);
    estimate(&rounds, |rounds| {
        let added = |pick: fn(&[f64; 3]) -> f64| {
            let ratios: Vec<_> = rounds.iter().map(|round| pick(round) / round[2]).collect();
            Some(median(&ratios)? - 1.0)
        };
        Some(added(|round| round[0])? - share * added(|round| round[1])?)
    })
}

/// The first run's start, in ms: nothing is warm yet.
pub(super) fn first_start_ms(results: &Results, tool: Tool) -> Option<f64> {
    let first = results.of(tool, Load::Start).find(|run| run.round == 1)?;
    Some(first.figures.get(&Metric::StartNs)? / NS_PER_MS)
}

/// The highest resident memory of a tool in any run, in MiB.
pub(super) fn peak_mib(results: &Results, tool: Tool) -> Option<f64> {
    let runs = results.runs.iter().filter(|run| run.tool == tool);
    let peaks = runs.filter_map(|run| run.figures.get(&Metric::PeakKib));
    peaks
        .copied()
        .max_by(f64::total_cmp)
        .map(|kib| kib / 1024.0)
}

/// How many records a tool has lost with this load, in all rounds.
pub(super) fn lost(results: &Results, tool: Tool, load: Load) -> Option<f64> {
    let lost = results.figures(tool, load, Metric::Lost);
    (!lost.is_empty()).then(|| lost.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{fail, results};
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        // The machine is twice as slow from round to round, the tool always costs a half: the ratio of medians would be 1.5,
        // too, but with an interval from 0.4 to 6.
        let base: Vec<f64> = (0..7).map(|i| f64::from(1 << i)).collect();
        let own: Vec<f64> = base.iter().map(|ns| ns * 1.5).collect();
        let mut some = results(
            Load::Forks,
            Metric::TimeNs,
            &[(Tool::Untraced, &base), (Tool::Strace, &own)],
        );
        let ratio = |some: &Results| Figure::Slowdown.estimate(some, Tool::Strace, Load::Forks);
        let sure = Interval {
            low: 1.5,
            high: 1.5,
        };
        assert_eq!(ratio(&some).and_then(|ratio| ratio.interval), Some(sure));
        fail(&mut some, Tool::Strace, Load::Forks);
        assert_eq!(ratio(&some), None);
    }

    #[test]
    fn a_bystander_pays_in_ns() {
        let some = results(
            Load::Bystander,
            Metric::CallNs,
            &[
                (Tool::Untraced, &[190.0, 200.0]),
                (Tool::Strace, &[290.0, 310.0]),
            ],
        );
        let added = Figure::CallAddedNs.estimate(&some, Tool::Strace, Load::Bystander);
        assert_eq!(added.map(|added| added.median), Some(105.0));
    }

    #[test]
    fn the_first_start_is_apart() {
        let some = results(
            Load::Start,
            Metric::StartNs,
            &[(Tool::MemtraceJson, &[200e6, 50e6, 52e6, 54e6])],
        );
        let tool = Tool::MemtraceJson;
        let later = Figure::StartMs.estimate(&some, tool, Load::Start);
        assert_eq!(later.map(|ms| ms.median), Some(52.0));
        assert_eq!(first_start_ms(&some, tool), Some(200.0));
    }

    #[test]
    fn the_starts_cpu_time_is_taken_off() {
        let tool = Tool::MemtraceJson;
        let mut some = results(Load::Start, Metric::OwnCpuNs, &[(tool, &[1e8])]);
        let million = results(Load::MillionFaults, Metric::OwnCpuNs, &[(tool, &[6e8])]);
        some.runs.extend(million.runs);
        let own = Figure::OwnCpuS.estimate(&some, tool, Load::MillionFaults);
        assert_eq!(own.map(|own| own.median), Some(0.5));
    }

    #[test]
    fn shares_of_what_a_peer_adds() {
        let some = |own: f64| {
            results(
                Load::CowStorm,
                Metric::TimeNs,
                &[
                    (Tool::Untraced, &[100.0; 6]),
                    (Tool::PerfRecord, &[140.0; 6]),
                    (Tool::MemtraceJson, &[own; 6]),
                ],
            )
        };
        let tools = [Tool::MemtraceJson, Tool::PerfRecord];
        let beyond = |own| added_beyond(&some(own), tools, Load::CowStorm, 0.5);
        assert!(beyond(115.0).is_some_and(|e| e.interval.is_some_and(|i| i.high < 0.0)));
        assert!(beyond(130.0).is_some_and(|e| e.interval.is_some_and(|i| i.low > 0.0)));
    }

    #[test]
    fn figures_are_shown() {
        assert_eq!(Figure::Slowdown.show(1.2), "1.20");
        assert_eq!(Figure::CallAddedNs.show(-0.2), "0");
        assert_eq!(Figure::CallAddedNs.show(-7.0), "-7");
        let interval = Some(Interval {
            low: 0.9,
            high: 1.1,
        });
        assert_eq!(Figure::Throughput.show_interval(interval), "0.90 to 1.10");
        assert_eq!(Figure::Throughput.show_interval(None), "-");
    }
}
