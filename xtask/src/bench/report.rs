//! What a benchmark found: the machine, the ratios as a table, and whether the goals are met.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::thread::available_parallelism;

use anyhow::Error;
use clap::ValueEnum;

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
    runs: BTreeMap<(Tool, Load), Vec<Measured>>,
    absent: Vec<(Tool, String)>,
    failed: BTreeMap<(Tool, Load), String>,
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
    fn median_ms(&self, tool: Tool, load: Load) -> Option<f64> {
        if self.has_failed(tool, load) {
            return None;
        }
        let runs = self.runs.get(&(tool, load))?;
        median(runs.iter().map(|run| run.ns as f64 / 1e6).collect())
    }

    /// How many times slower than untraced.
    fn ratio(&self, tool: Tool, load: Load) -> Option<f64> {
        Some(self.median_ms(tool, load)? / self.median_ms(Tool::Untraced, load)?)
    }

    /// The highest resident memory in any run of this tool, in MiB.
    fn peak_mib(&self, tool: Tool) -> Option<f64> {
        self.all_runs(tool)
            .map(|run| run.peak_kib)
            .max()
            .map(|kib| kib as f64 / 1024.0)
    }

    fn all_runs(&self, tool: Tool) -> impl Iterator<Item = &Measured> {
        let of_this = self.runs.iter().filter(move |((of, _), _)| *of == tool);
        of_this.flat_map(|(_, runs)| runs)
    }

    fn goals(&self) -> Vec<Goal> {
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

    fn table(&self) -> Vec<Vec<String>> {
        let loads: Vec<_> = Load::value_variants()
            .iter()
            .copied()
            .filter(|&load| self.runs.contains_key(&(Tool::Untraced, load)))
            .collect();
        let mut head = vec![String::new()];
        for load in &loads {
            head.push(match load {
                Load::Start => "start, ms".to_owned(),
                load => load.name().to_owned(),
            });
        }
        head.extend(["lost".to_owned(), "peak, MiB".to_owned()]);

        let mut rows = vec![head];
        for tool in Tool::ALL
            .into_iter()
            .filter(|&tool| self.all_runs(tool).next().is_some())
        {
            let mut row = vec![tool.name().to_owned()];
            for &load in &loads {
                row.push(self.cell(tool, load));
            }
            let ends: Vec<_> = self.all_runs(tool).filter_map(|run| run.end).collect();
            row.push(match ends.as_slice() {
                [] => "-".to_owned(),
                ends => ends.iter().map(|end| end.lost).sum::<u64>().to_string(),
            });
            row.push(match self.peak_mib(tool) {
                Some(peak) if tool != Tool::Untraced => format!("{peak:.1}"),
                _ => "-".to_owned(),
            });
            rows.push(row);
        }
        rows
    }

    fn cell(&self, tool: Tool, load: Load) -> String {
        let (figure, unit) = match (tool, load) {
            (_, Load::Start) => (self.median_ms(tool, load), ""),
            (Tool::Untraced, _) => (self.median_ms(tool, load), " ms"),
            _ => (self.ratio(tool, load), ""),
        };
        match figure {
            Some(figure) if load == Load::Start || tool == Tool::Untraced => {
                format!("{figure:.0}{unit}")
            }
            Some(ratio) => format!("{ratio:.2}"),
            None if self.has_failed(tool, load) => "failed".to_owned(),
            None => "-".to_owned(),
        }
    }
}

impl Display for Results {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", machine())?;
        let rounds = self.runs.values().map(Vec::len).max().unwrap_or(0);
        writeln!(
            f,
            "Medians of {rounds}: times as slow as untraced, by the program's own clock.\n"
        )?;
        write_table(f, &self.table())?;
        if !self.absent.is_empty() || !self.failed.is_empty() {
            writeln!(f)?;
        }
        for (tool, reason) in &self.absent {
            writeln!(f, "{}: {reason}", tool.name())?;
        }
        for ((tool, load), reason) in &self.failed {
            writeln!(f, "{}: failed on {}: {reason}", tool.name(), load.name())?;
        }
        writeln!(f)?;
        for goal in self.goals() {
            let verdict = if goal.met { "met   " } else { "MISSED" };
            writeln!(f, "{verdict} {}", goal.what)?;
        }
        Ok(())
    }
}

struct Goal {
    met: bool,
    what: String,
}

impl Goal {
    fn new(met: bool, what: String) -> Self {
        Self { met, what }
    }
}

/// Markdown, and aligned for a terminal too.
fn write_table(f: &mut Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                write!(f, "| {cell:width$} |")?;
            } else {
                write!(f, " {cell:>width$} |")?;
            }
        }
        writeln!(f)?;
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let (open, close) = if column == 0 { ("|", "-") } else { ("", ":") };
                write!(f, "{open}-{}{close}|", "-".repeat(*width))?;
            }
            writeln!(f)?;
        }
    }
    Ok(())
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

/// The kernel and the CPUs, in a line.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    format!(
        "Linux {}, {cpus} CPUs, {}",
        kernel.trim(),
        cpu_model(&cpuinfo)
    )
}

fn cpu_model(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    model
        .and_then(|line| line.split_once(':'))
        .map_or("model not told", |(_, name)| name.trim())
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
        assert_eq!(results.cell(Tool::Strace, Load::Forks), "failed");
        assert!(
            results
                .to_string()
                .contains("strace -f: failed on forks: ended")
        );
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

    #[test]
    fn the_cpu_is_named() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel\t: 7\n";
        assert_eq!(cpu_model(cpuinfo), "A CPU @ 2 GHz");
        assert_eq!(cpu_model(""), "model not told");
    }
}
