//! What the runs of a benchmark gave, before anything is made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::load::Load;
use super::tool::Tool;

/// What can be measured in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Metric {
    /// The program's hot part by its own clock, in ns.
    TimeNs,
    /// From the tool's start to the program's, in ns.
    StartNs,
    /// A bystander's system call, in ns.
    CallNs,
    /// A bystander's page fault, in ns.
    FaultNs,
    /// What a server did per second.
    PerSecond,
    /// CPU time of the tool alone, in ns.
    OwnCpuNs,
    /// CPU that the tool takes while nothing happens, in percent of one.
    IdleCpuPercent,
    /// How often per second the tool runs and stops again while nothing happens.
    IdleSwitches,
    /// The tool's own highest resident memory, in KiB.
    PeakKib,
    /// Faults of all processes and kinds that memtrace saw.
    Faults,
    /// Records that memtrace lost, of all kinds.
    Lost,
}

/// What one run gave.
pub(super) type Figures = BTreeMap<Metric, f64>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) load: Load,
    /// From 1 on.
    pub(super) round: u32,
    pub(super) tool: Tool,
    pub(super) figures: Figures,
    /// The tool's highest resident memory in each quarter of the run, in KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) resident_kib: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Absent {
    pub(super) tool: Tool,
    /// The remedy, too.
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Unmeasured {
    pub(super) load: Load,
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) tool: Tool,
    pub(super) load: Load,
    pub(super) reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    /// In the order in which they were made.
    pub(super) runs: Vec<Run>,
    /// The tools that are not here.
    pub(super) absent: Vec<Absent>,
    /// The loads for which something is lacking.
    pub(super) unmeasured: Vec<Unmeasured>,
    /// The tools that could not run a load.
    pub(super) failed: Vec<Failure>,
}

impl Results {
    pub(super) fn has_failed(&self, tool: Tool, load: Load) -> bool {
        self.failed
            .iter()
            .any(|failure| (failure.tool, failure.load) == (tool, load))
    }

    /// The runs of a tool with a load, by round; none if one of them failed.
    pub(super) fn of(&self, tool: Tool, load: Load) -> impl Iterator<Item = &Run> {
        let failed = self.has_failed(tool, load);
        self.runs
            .iter()
            .filter(move |run| !failed && (run.tool, run.load) == (tool, load))
    }

    /// A figure of each round.
    pub(super) fn figures(&self, tool: Tool, load: Load, metric: Metric) -> Vec<f64> {
        self.of(tool, load)
            .filter_map(|run| run.figures.get(&metric).copied())
            .collect()
    }

    /// The figures of several tools in those rounds in which all of them have one.
    pub(super) fn together<const N: usize>(
        &self,
        tools: [Tool; N],
        load: Load,
        metric: Metric,
    ) -> Vec<[f64; N]> {
        let by_round = tools.map(|tool| {
            let runs = self.of(tool, load);
            let figures = runs.filter_map(|run| Some((run.round, *run.figures.get(&metric)?)));
            figures.collect::<BTreeMap<_, _>>()
        });
        let Some(first) = by_round.first() else {
            return Vec::new();
        };
        first
            .keys()
            .filter(|round| by_round.iter().all(|figures| figures.contains_key(round)))
            .map(|round| by_round.each_ref().map(|figures| figures[round]))
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use anyhow::Result;

    use super::*;

    /// Results of one load and metric: each tool with its figures, round by round.
    pub(in super::super) fn results(
        load: Load,
        metric: Metric,
        rows: &[(Tool, &[f64])],
    ) -> Results {
        let mut results = Results::default();
        for &(tool, figures) in rows {
            for (round, &figure) in (1..).zip(figures) {
                results.runs.push(Run {
                    load,
                    round,
                    tool,
                    figures: Figures::from([(metric, figure)]),
                    resident_kib: Vec::new(),
                });
            }
        }
        results
    }

    /// Notes that a tool could not run a load.
    pub(in super::super) fn fail(results: &mut Results, tool: Tool, load: Load) {
        results.failed.push(Failure {
            tool,
            load,
            reason: "ended".to_owned(),
        });
    }

    #[test]
    fn rounds_in_which_one_is_missing_are_left_out() {
        let mut some = results(
            Load::Forks,
            Metric::TimeNs,
            &[(Tool::Untraced, &[1.0, 2.0, 3.0]), (Tool::Strace, &[10.0])],
        );
        let pair = [Tool::Strace, Tool::Untraced];
        let together = |some: &Results| some.together(pair, Load::Forks, Metric::TimeNs);
        assert_eq!(together(&some), [[10.0, 1.0]]);
        fail(&mut some, Tool::Strace, Load::Forks);
        assert!(together(&some).is_empty());
    }

    #[test]
    fn results_come_back_from_json() -> Result<()> {
        let mut some = results(
            Load::CowStorm,
            Metric::TimeNs,
            &[(Tool::MemtraceJson, &[1.5])],
        );
        some.runs[0].resident_kib = vec![1, 2, 3, 4];
        fail(&mut some, Tool::TraceCmd, Load::Nginx);
        let text = serde_json::to_string(&some)?;
        assert_eq!(serde_json::from_str::<Results>(&text)?, some);
        assert!(text.contains(r#""figures":{"time-ns":1.5}"#), "{text}");
        Ok(())
    }
}
