//! memtrace's goals, and whether they are met. Noise decides nothing.

use serde::Serialize;

use super::figure::{Figure, added_beyond, lost, peak_mib, ratios};
use super::load::Load;
use super::results::{Metric, Results};
use super::statistics::Estimate;
use super::tool::Tool;

/// The figures of memtrace that are goals.
const LIMITS: [(Load, Tool, Figure, Bound); 19] = {
    use Bound::{Below, Most};
    use Load::{
        Bystander, CowStorm, FirstTouch, Forks, Idle, Mappings, MillionFaults, Nginx, Postgres,
        Redis, Spawns, Start,
    };
    use Tool::{MemtraceJson as Json, MemtraceSummary as Summary};
    const JSON_THROUGHPUT: Bound = Bound::Least(0.85);
    const SUMMARY_THROUGHPUT: Bound = Bound::Least(0.95);
    [
        (Start, Json, Figure::StartMs, Below(60.0)),
        (Start, Summary, Figure::StartMs, Below(60.0)),
        (CowStorm, Json, Figure::Slowdown, Most(1.20)),
        (CowStorm, Summary, Figure::Slowdown, Most(1.13)),
        (FirstTouch, Json, Figure::Slowdown, Most(1.15)),
        (Forks, Json, Figure::Slowdown, Most(1.15)),
        (Spawns, Json, Figure::Slowdown, Most(1.15)),
        (Mappings, Json, Figure::Slowdown, Most(1.15)),
        (MillionFaults, Json, Figure::Slowdown, Most(1.30)),
        (MillionFaults, Summary, Figure::Slowdown, Most(1.15)),
        (Bystander, Json, Figure::CallAddedNs, Most(100.0)),
        (Bystander, Json, Figure::FaultAddedPercent, Most(5.0)),
        (Idle, Json, Figure::IdleCpuPercent, Below(0.1)),
        (Postgres, Json, Figure::Throughput, JSON_THROUGHPUT),
        (Postgres, Summary, Figure::Throughput, SUMMARY_THROUGHPUT),
        (Redis, Json, Figure::Throughput, JSON_THROUGHPUT),
        (Redis, Summary, Figure::Throughput, SUMMARY_THROUGHPUT),
        (Nginx, Json, Figure::Throughput, JSON_THROUGHPUT),
        (Nginx, Summary, Figure::Throughput, SUMMARY_THROUGHPUT),
    ]
};

/// Where memtrace is to be cheaper than perf record in the same rounds.
const CHEAPER_THAN_PERF: [(Load, Tool); 6] = [
    (Load::FirstTouch, Tool::MemtraceJson),
    (Load::Forks, Tool::MemtraceJson),
    (Load::Spawns, Tool::MemtraceJson),
    (Load::Mappings, Tool::MemtraceJson),
    (Load::MillionFaults, Tool::MemtraceJson),
    (Load::MillionFaults, Tool::MemtraceSummary),
];

/// What memtrace may add to the COW storm, as a part of what perf record adds.
const PART_OF_PERF: f64 = 0.6;
const PEAK_MIB: f64 = 256.0;
const MILLION: f64 = 1e6;

#[derive(Clone, Copy, PartialEq)]
enum Bound {
    Most(f64),
    Below(f64),
    Least(f64),
}

impl Bound {
    /// The bound, and the words before it.
    fn parts(self) -> (&'static str, f64) {
        match self {
            Self::Most(bound) => ("at most", bound),
            Self::Below(bound) => ("below", bound),
            Self::Least(bound) => ("at least", bound),
        }
    }

    fn holds(self, figure: f64) -> bool {
        match self {
            Self::Most(bound) => figure <= bound,
            Self::Below(bound) => figure < bound,
            Self::Least(bound) => figure >= bound,
        }
    }

    /// Met or missed only if the whole interval is on that side.
    fn judge(self, estimate: &Estimate) -> Verdict {
        let Some(interval) = estimate.interval else {
            return Verdict::Undecided;
        };
        match (self.holds(interval.low), self.holds(interval.high)) {
            (true, true) => Verdict::Met,
            (false, false) => Verdict::Missed,
            _ => Verdict::Undecided,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    Met,
    Missed,
    /// The interval holds the bound, or there are too few rounds for an interval.
    Undecided,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Undecided => "undecided",
        }
    }

    fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Goal {
    pub(super) verdict: Verdict,
    pub(super) what: String,
}

impl Goal {
    fn new(verdict: Verdict, what: String) -> Self {
        Self { verdict, what }
    }
}

/// All goals about what was measured. What was not is no goal.
pub(super) fn judge(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (load, tool, figure, bound) in LIMITS {
        if let Some(estimate) = figure.estimate(results, tool, load) {
            let (words, limit) = bound.parts();
            goals.push(Goal::new(
                bound.judge(&estimate),
                format!(
                    "{}, {}: {}: {words} {}",
                    load.name(),
                    tool.name(),
                    told(figure, &estimate),
                    shown(limit)
                ),
            ));
        }
    }
    goals.extend(beside_perf(results));
    goals.extend(none_lost(results));
    goals.extend(memory_and_failures(results));
    goals
}

/// A figure with its interval and unit.
fn told(figure: Figure, estimate: &Estimate) -> String {
    let median = figure.show(estimate.median);
    let interval = interval(figure, estimate);
    format!("{median} {} ({interval})", unit(figure))
}

fn interval(figure: Figure, estimate: &Estimate) -> String {
    match estimate.interval {
        None => "no interval".to_owned(),
        some => figure.show_interval(some),
    }
}

fn unit(figure: Figure) -> &'static str {
    match figure {
        Figure::Slowdown => "times as slow",
        Figure::Throughput => "of the throughput",
        Figure::StartMs => "ms to the program's start",
        Figure::CallAddedNs => "ns more a call",
        Figure::FaultAddedPercent => "% more a fault",
        Figure::IdleCpuPercent => "% of a CPU",
        Figure::IdleSwitches => "switches a second",
        Figure::OwnCpuS => "s of its own CPU time",
    }
}

/// A bound as it was set, but a ratio with two digits.
fn shown(limit: f64) -> String {
    if (0.5..10.0).contains(&limit) && limit.fract() != 0.0 {
        format!("{limit:.2}")
    } else {
        limit.to_string()
    }
}

fn beside_perf(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    let pair = [Tool::MemtraceJson, Tool::PerfRecord];
    if let Some(beyond) = added_beyond(results, pair, Load::CowStorm, PART_OF_PERF) {
        let slowdown = |tool| Figure::Slowdown.estimate(results, tool, Load::CowStorm);
        let added = |tool| slowdown(tool).map_or(0.0, |e| (e.median - 1.0) * 100.0);
        let [own, perf] = pair.map(added);
        goals.push(Goal::new(
            Bound::Most(0.0).judge(&beyond),
            format!(
                "cow-storm, {} adds {own:.0} %, {} {perf:.0} %: at most {PART_OF_PERF} of it",
                pair[0].name(),
                pair[1].name()
            ),
        ));
    }
    for (load, tool) in CHEAPER_THAN_PERF {
        for (_, ratio) in ratios(results, [tool, Tool::PerfRecord], load) {
            goals.extend(ratio.map(|ratio| {
                let times = Figure::Slowdown;
                Goal::new(
                    Bound::Below(1.0).judge(&ratio),
                    format!(
                        "{}, {}: {} ({}) of perf record's time: below it",
                        load.name(),
                        tool.name(),
                        times.show(ratio.median),
                        interval(times, &ratio)
                    ),
                )
            }));
        }
    }
    goals
}

/// These are counts: one round is enough.
fn none_lost(results: &Results) -> Vec<Goal> {
    let load = Load::MillionFaults;
    let tools = [Tool::MemtraceJson, Tool::MemtraceSummary];
    let goal = |tool: Tool| {
        let lost = lost(results, tool, load)?;
        let seen = results.figures(tool, load, Metric::Faults);
        let fewest = seen.into_iter().min_by(f64::total_cmp)?;
        Some(Goal::new(
            Verdict::of(lost == 0.0 && fewest >= MILLION),
            format!(
                "{}, {}: {fewest} faults seen at the least, {lost} records lost: none",
                load.name(),
                tool.name()
            ),
        ))
    };
    tools.into_iter().filter_map(goal).collect()
}

fn memory_and_failures(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for tool in Tool::ALL.into_iter().filter(|tool| tool.is_memtrace()) {
        if let Some(peak) = peak_mib(results, tool) {
            goals.push(Goal::new(
                Verdict::of(peak < PEAK_MIB),
                format!(
                    "{}: {peak:.1} MiB at its highest: below {PEAK_MIB}",
                    tool.name()
                ),
            ));
        }
        for failure in results.failed.iter().filter(|failure| failure.tool == tool) {
            goals.push(Goal::new(
                Verdict::Missed,
                format!(
                    "{}, {}: {}",
                    failure.load.name(),
                    tool.name(),
                    failure.reason
                ),
            ));
        }
    }
    goals
}

/// How many goals are missed.
pub(super) fn missed(goals: &[Goal]) -> usize {
    goals
        .iter()
        .filter(|goal| goal.verdict == Verdict::Missed)
        .count()
}

#[cfg(test)]
mod tests {
    use super::super::results::Figures;
    use super::super::results::tests::{fail, results};
    use super::super::statistics::Interval;
    use super::*;

    fn estimate(low: f64, high: f64) -> Estimate {
        Estimate {
            median: f64::midpoint(low, high),
            interval: Some(Interval { low, high }),
            rounds: 15,
        }
    }

    #[test]
    fn the_interval_decides() {
        let most = Bound::Most(1.2);
        assert_eq!(most.judge(&estimate(1.1, 1.2)), Verdict::Met);
        assert_eq!(most.judge(&estimate(1.1, 1.21)), Verdict::Undecided);
        assert_eq!(most.judge(&estimate(1.21, 1.3)), Verdict::Missed);
        assert_eq!(
            Bound::Below(1.2).judge(&estimate(1.1, 1.2)),
            Verdict::Undecided
        );
        let least = Bound::Least(0.95);
        assert_eq!(least.judge(&estimate(0.95, 1.0)), Verdict::Met);
        assert_eq!(least.judge(&estimate(0.94, 1.0)), Verdict::Undecided);
        assert_eq!(least.judge(&estimate(0.8, 0.94)), Verdict::Missed);
    }

    #[test]
    fn few_rounds_decide_nothing() {
        let few = Estimate {
            interval: None,
            ..estimate(9.0, 9.0)
        };
        assert_eq!(Bound::Most(1.2).judge(&few), Verdict::Undecided);
    }

    fn verdicts(results: &Results, start: &str) -> Vec<Verdict> {
        let goals = judge(results);
        let of_it = goals.iter().filter(|goal| goal.what.starts_with(start));
        of_it.map(|goal| goal.verdict).collect()
    }

    #[test]
    fn the_cow_storm_has_a_bound_and_a_part_of_perfs() {
        let storm = |json: f64| {
            let rows: [(Tool, &[f64]); 3] = [
                (Tool::Untraced, &[100.0; 15]),
                (Tool::PerfRecord, &[130.0; 15]),
                (Tool::MemtraceJson, &[json; 15]),
            ];
            verdicts(
                &results(Load::CowStorm, Metric::TimeNs, &rows),
                "cow-storm, memtrace, JSON",
            )
        };
        assert_eq!(storm(117.0), [Verdict::Met, Verdict::Met]);
        assert_eq!(storm(119.0), [Verdict::Met, Verdict::Missed]);
        assert_eq!(storm(121.0), [Verdict::Missed, Verdict::Missed]);
    }

    #[test]
    fn noise_is_no_verdict() {
        let noisy: Vec<f64> = (0..15).map(|i| 80.0 + f64::from(i * 5)).collect();
        let some = results(
            Load::FirstTouch,
            Metric::TimeNs,
            &[(Tool::Untraced, &[100.0; 15]), (Tool::MemtraceJson, &noisy)],
        );
        assert_eq!(verdicts(&some, "first-touch"), [Verdict::Undecided]);
        assert_eq!(missed(&judge(&some)), 0);
    }

    #[test]
    fn one_lost_record_is_a_miss() {
        let million = |lost: f64, faults: f64| {
            let tool = Tool::MemtraceJson;
            let mut some = results(Load::MillionFaults, Metric::Lost, &[(tool, &[0.0, lost])]);
            for run in &mut some.runs {
                run.figures
                    .extend(Figures::from([(Metric::Faults, faults)]));
            }
            verdicts(&some, "million-faults")
        };
        assert_eq!(million(0.0, MILLION), [Verdict::Met]);
        assert_eq!(million(1.0, MILLION), [Verdict::Missed]);
        assert_eq!(million(0.0, MILLION - 1.0), [Verdict::Missed]);
    }

    #[test]
    fn what_is_not_measured_is_no_goal_and_what_fails_is_missed() {
        assert!(judge(&Results::default()).is_empty());
        let mut some = Results::default();
        fail(&mut some, Tool::Strace, Load::Start);
        assert!(judge(&some).is_empty());
        fail(&mut some, Tool::MemtraceText, Load::Start);
        assert_eq!(missed(&judge(&some)), 1);
    }

    #[test]
    fn bounds_are_shown_as_they_are_set() {
        assert_eq!(shown(1.2), "1.20");
        assert_eq!(shown(0.95), "0.95");
        assert_eq!(shown(0.1), "0.1");
        assert_eq!(shown(60.0), "60");
    }
}
