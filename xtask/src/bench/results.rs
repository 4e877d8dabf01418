//! What the runs of a benchmark gave, and whether memtrace's goals are met.

use std::collections::BTreeMap;

use anyhow::Error;

use super::load::Load;
use super::measure::Measured;
use super::tool::Tool;

/// memtrace's own goals.
const START_MS: f64 = 200.0;
const PEAK_MIB: f64 = 256.0;
const SUMMARY_RATIO: f64 = 1.25;
const MILLION: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Results {
    /// In the order of the rounds.
    pub(super) runs: BTreeMap<(Tool, Load), Vec<Measured>>,
    /// The tools that are not installed, and the remedy.
    pub(super) absent: Vec<(Tool, String)>,
    /// Why a tool could not run a load.
    pub(super) failed: BTreeMap<(Tool, Load), String>,
}

impl Results {
    pub(super) fn add(&mut self, tool: Tool, load: Load, measured: Measured) {
        self.runs.entry((tool, load)).or_default().push(measured);
    }

    pub(super) fn absent(&mut self, tool: Tool, reason: String) {
        self.absent.push((tool, reason));
    }

    pub(super) fn fail(&mut self, tool: Tool, load: Load, reason: &Error) {
        self.failed.insert((tool, load), format!("{reason:#}"));
    }

    pub(super) fn has_failed(&self, tool: Tool, load: Load) -> bool {
        self.failed.contains_key(&(tool, load))
    }

    /// How many of memtrace's goals this run misses. What was not measured is not counted.
    pub(super) fn missed_goals(&self) -> usize {
        self.goals().iter().filter(|goal| !goal.met).count()
    }

    /// The median of the hot part, in ms; none if a run failed.
    pub(super) fn median_ms(&self, tool: Tool, load: Load) -> Option<f64> {
        if self.has_failed(tool, load) {
            return None;
        }
        let runs = self.runs.get(&(tool, load))?;
        median(runs.iter().map(|run| run.ns as f64 / 1e6).collect())
    }

    /// How many times slower than untraced.
    pub(super) fn ratio(&self, tool: Tool, load: Load) -> Option<f64> {
        Some(self.median_ms(tool, load)? / self.median_ms(Tool::Untraced, load)?)
    }

    /// How far apart the untraced runs lie, in percent of their median: how noisy the machine is.
    pub(super) fn spread(&self, load: Load) -> Option<f64> {
        let runs = self.runs.get(&(Tool::Untraced, load))?;
        let slowest = runs.iter().map(|run| run.ns).max()?;
        let fastest = runs.iter().map(|run| run.ns).min()?;
        Some((slowest - fastest) as f64 / 1e4 / self.median_ms(Tool::Untraced, load)?)
    }

    /// The highest resident memory in any run of this tool, in MiB.
    pub(super) fn peak_mib(&self, tool: Tool) -> Option<f64> {
        self.all_runs(tool)
            .map(|run| run.peak_kib)
            .max()
            .map(|kib| kib as f64 / 1024.0)
    }

    /// How many records a tool lost in all its runs, if it says so.
    pub(super) fn lost(&self, tool: Tool) -> Option<u64> {
        let ends: Vec<_> = self.all_runs(tool).filter_map(|run| run.end).collect();
        (!ends.is_empty()).then(|| ends.iter().map(|end| end.lost).sum())
    }

    pub(super) fn all_runs(&self, tool: Tool) -> impl Iterator<Item = &Measured> {
        let of_this = self.runs.iter().filter(move |((of, _), _)| *of == tool);
        of_this.flat_map(|(_, runs)| runs)
    }

    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let json = self.ratio(Tool::MemtraceJson, Load::CowStorm);
        if let (Some(json), Some(perf)) = (json, self.ratio(Tool::PerfRecord, Load::CowStorm)) {
            goals.push(Goal::new(
                json <= perf,
                format!("cow-storm as JSON {json:.2}, perf record {perf:.2}: no more than it"),
            ));
        }
        if let Some(summary) = self.ratio(Tool::MemtraceSummary, Load::CowStorm) {
            goals.push(Goal::new(
                summary <= SUMMARY_RATIO,
                format!("cow-storm with --summary {summary:.2}: at most {SUMMARY_RATIO}"),
            ));
        }
        let million = self.runs.get(&(Tool::MemtraceJson, Load::MillionFaults));
        for end in million.into_iter().flatten().filter_map(|run| run.end) {
            goals.push(Goal::new(
                end.lost == 0 && end.faults >= MILLION,
                format!(
                    "million-faults: {} faults seen, {} records lost: none",
                    end.faults, end.lost
                ),
            ));
        }
        for tool in Tool::ALL.into_iter().filter(|tool| tool.is_memtrace()) {
            let name = tool.name();
            if let Some(start) = self.median_ms(tool, Load::Start) {
                goals.push(Goal::new(
                    start <= START_MS,
                    format!("{name}: the program starts after {start:.0} ms: at most {START_MS}"),
                ));
            }
            if let Some(peak) = self.peak_mib(tool) {
                goals.push(Goal::new(
                    peak < PEAK_MIB,
                    format!("{name}: {peak:.1} MiB at its highest: below {PEAK_MIB}"),
                ));
            }
            for ((_, load), reason) in self.failed.iter().filter(|((of, _), _)| *of == tool) {
                goals.push(Goal::new(
                    false,
                    format!("{name}: {}: {reason}", load.name()),
                ));
            }
        }
        goals
    }
}

pub(super) struct Goal {
    pub(super) met: bool,
    pub(super) what: String,
}

impl Goal {
    fn new(met: bool, what: String) -> Self {
        Self { met, what }
    }
}

/// The middle one, or the mean of the middle two.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    if figures.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*figures.get(middle - 1)?, upper))
}

#[cfg(test)]
mod tests {
    use super::super::measure::End;
    use super::*;

    fn measured(ms: u64) -> Measured {
        Measured {
            ns: ms * 1_000_000,
            peak_kib: 2048,
            end: None,
        }
    }

    fn results(rows: &[(Tool, Load, &[u64])]) -> Results {
        let mut results = Results::default();
        for &(tool, load, runs) in rows {
            for &ms in runs {
                results.add(tool, load, measured(ms));
            }
        }
        results
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn ratios_are_those_of_medians() {
        let results = results(&[
            (Tool::Untraced, Load::Forks, &[100, 90, 500]),
            (Tool::Strace, Load::Forks, &[300, 200, 10]),
        ]);
        assert_eq!(results.ratio(Tool::Strace, Load::Forks), Some(2.0));
        assert_eq!(results.ratio(Tool::Strace, Load::Spawns), None);
    }

    #[test]
    fn a_failed_run_leaves_no_figure() {
        let mut results = results(&[
            (Tool::Untraced, Load::Forks, &[100]),
            (Tool::Strace, Load::Forks, &[300]),
        ]);
        results.fail(Tool::Strace, Load::Forks, &Error::msg("ended"));
        assert_eq!(results.ratio(Tool::Strace, Load::Forks), None);
    }

    #[test]
    fn goals_can_be_missed() {
        let rows = |json| {
            results(&[
                (Tool::Untraced, Load::CowStorm, &[100]),
                (Tool::PerfRecord, Load::CowStorm, &[150]),
                (Tool::MemtraceJson, Load::CowStorm, &[json]),
            ])
        };
        assert_eq!(rows(150).missed_goals(), 0);
        assert_eq!(rows(151).missed_goals(), 1);

        let mut million = Results::default();
        for (lost, faults) in [(0, MILLION), (1, MILLION), (0, MILLION - 1)] {
            let end = Some(End { lost, faults });
            let run = Measured { end, ..measured(1) };
            million.add(Tool::MemtraceJson, Load::MillionFaults, run);
        }
        assert_eq!(million.missed_goals(), 2);

        let mut broken = Results::default();
        broken.fail(Tool::MemtraceText, Load::Start, &Error::msg("no root"));
        assert_eq!(broken.missed_goals(), 1);
    }
}
