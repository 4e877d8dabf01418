//! A benchmark's results as a person reads them: the machine, a table for each load, the goals.

use std::fmt::{self, Display, Formatter};

use clap::ValueEnum;

use super::figure::{Figure, first_start_ms, lost, ratios};
use super::goals::{Goal, Verdict};
use super::kept::About;
use super::load::{Kind, Load};
use super::results::{Metric, Results};
use super::statistics::{FEWEST, median, spread};
use super::tool::Tool;
use crate::table::write_table;

pub(super) struct Report<'a> {
    pub(super) about: &'a About,
    pub(super) results: &'a Results,
    pub(super) goals: &'a [Goal],
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let about = self.about;
        writeln!(f, "{}", about.machine)?;
        writeln!(f, "memtrace {}, {}", about.revision, about.date)?;
        writeln!(
            f,
            "Medians of comparisons with the untraced run of the same round; beside them where the true one lies, at 95 %.\n\
             \"untraced again\" is the machine's own noise: what is no further from untraced says nothing."
        )?;
        for &load in Load::value_variants() {
            self.load(f, load)?;
        }
        self.against(f)?;
        self.lacking(f)?;
        if self.goals.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        for goal in self.goals {
            writeln!(f, "{:9} {}", goal.verdict.word(), goal.what)?;
        }
        if self
            .goals
            .iter()
            .any(|goal| goal.verdict == Verdict::Undecided)
        {
            writeln!(
                f,
                "\nundecided: the noise is larger than the distance to the goal. Take more rounds (fewer than {FEWEST} decide \
                 nothing), or a quieter machine."
            )?;
        }
        Ok(())
    }
}

impl Report<'_> {
    /// The tools that ran a load, in their order.
    fn tools(&self, load: Load) -> Vec<Tool> {
        let ran = |tool: &Tool| self.results.of(*tool, load).next().is_some();
        Tool::ALL.into_iter().filter(ran).collect()
    }

    fn load(&self, f: &mut Formatter<'_>, load: Load) -> fmt::Result {
        let tools = self.tools(load);
        if tools.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{}{}\n", load.name(), self.untraced(load))?;
        let mut rows = vec![heading(load)];
        for tool in tools {
            if tool == Tool::Untraced && load != Load::Start {
                continue;
            }
            let mut row = vec![tool.name().to_owned()];
            if load == Load::Start {
                let first = first_start_ms(self.results, tool);
                row.push(or_dash(first.map(|ms| Figure::StartMs.show(ms))));
            }
            for figure in Figure::of(load) {
                let estimate = figure.estimate(self.results, tool, load);
                row.push(or_dash(
                    estimate.map(|estimate| figure.show(estimate.median)),
                ));
                let interval = estimate.and_then(|estimate| estimate.interval);
                row.push(figure.show_interval(interval));
            }
            if load.kind() != Kind::Beside {
                row.push(or_dash(lost(self.results, tool, load)));
                row.push(or_dash(self.peak(tool, load)));
            }
            row.push(self.results.of(tool, load).count().to_string());
            rows.push(row);
        }
        write_table(f, &rows)?;
        self.memory(f, load)
    }

    /// What the load does untraced, and how far its runs lie apart.
    fn untraced(&self, load: Load) -> String {
        let metrics: &[(Metric, f64, &str)] = match (load, load.kind()) {
            (Load::Start | Load::Idle, _) => &[],
            (Load::Bystander, _) => &[
                (Metric::CallNs, 1.0, "ns a system call"),
                (Metric::FaultNs, 1.0, "ns a fault"),
            ],
            (_, Kind::Server) => &[(Metric::PerSecond, 1.0, "a second")],
            _ => &[(Metric::TimeNs, 1e6, "ms")],
        };
        let mut told = Vec::new();
        for &(metric, scale, unit) in metrics {
            let both = [Tool::Untraced, Tool::UntracedAgain];
            let figures = both
                .map(|tool| self.results.figures(tool, load, metric))
                .concat();
            if let (Some(middle), Some(spread)) = (median(&figures), spread(&figures)) {
                told.push(format!(
                    "{:.0} {unit}, spread {spread:.0} %",
                    middle / scale
                ));
            }
        }
        if told.is_empty() {
            String::new()
        } else {
            format!(": untraced {}", told.join("; "))
        }
    }

    fn peak(&self, tool: Tool, load: Load) -> Option<String> {
        let peaks = self.results.figures(tool, load, Metric::PeakKib);
        let highest = peaks.into_iter().max_by(f64::total_cmp)?;
        Some(format!("{:.1}", highest / 1024.0))
    }

    /// The resident memory by time, of the tools of which it was kept: the median of the rounds.
    fn memory(&self, f: &mut Formatter<'_>, load: Load) -> fmt::Result {
        for tool in Tool::ALL {
            let runs: Vec<_> = self
                .results
                .of(tool, load)
                .map(|run| &run.resident_kib)
                .collect();
            let at = |quarter: usize| {
                let kib = runs.iter().filter_map(|kib| kib.get(quarter));
                median(&kib.map(|&kib| kib as f64 / 1024.0).collect::<Vec<_>>())
            };
            let told: Vec<_> = (0..4)
                .filter_map(at)
                .map(|mib| format!("{mib:.1}"))
                .collect();
            if !told.is_empty() {
                writeln!(
                    f,
                    "{}: highest resident memory in each quarter of the run, MiB: {}",
                    tool.name(),
                    told.join(", ")
                )?;
            }
        }
        Ok(())
    }

    /// The build that is compared with, beside this one.
    fn against(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(other) = &self.about.against else {
            return Ok(());
        };
        let pairs = [
            ("JSON", [Tool::MemtraceJson, Tool::OtherJson]),
            ("--summary", [Tool::MemtraceSummary, Tool::OtherSummary]),
        ];
        let mut rows = vec![
            ["", "this / other", "95 %", "rounds"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for &load in Load::value_variants() {
            for (way, tools) in pairs {
                for (metric, ratio) in ratios(self.results, tools, load) {
                    let Some(ratio) = ratio else { continue };
                    rows.push(vec![
                        format!("{}, {way}{}", load.name(), of_what(metric)),
                        Figure::Slowdown.show(ratio.median),
                        Figure::Slowdown.show_interval(ratio.interval),
                        ratio.rounds.to_string(),
                    ]);
                }
            }
        }
        writeln!(
            f,
            "\nagainst {other}: figures of this build, divided by those of the other\n"
        )?;
        write_table(f, &rows)
    }

    fn lacking(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let results = self.results;
        if results.absent.len() + results.unmeasured.len() + results.failed.len() > 0 {
            writeln!(f)?;
        }
        for absent in &results.absent {
            writeln!(f, "{}: {}", absent.tool.name(), absent.reason)?;
        }
        for load in &results.unmeasured {
            writeln!(f, "{}: not measured: {}", load.load.name(), load.reason)?;
        }
        for failure in &results.failed {
            let (tool, load) = (failure.tool.name(), failure.load.name());
            writeln!(f, "{tool}: failed on {load}: {}", failure.reason)?;
        }
        Ok(())
    }
}

fn heading(load: Load) -> Vec<String> {
    let mut heading = vec![""];
    if load == Load::Start {
        heading.push("first, ms");
    }
    for figure in Figure::of(load) {
        heading.extend([figure.title(), "95 %"]);
    }
    if load.kind() != Kind::Beside {
        heading.extend(["lost", "peak, MiB"]);
    }
    heading.push("rounds");
    heading.into_iter().map(str::to_owned).collect()
}

/// What is compared, where it isn't time.
fn of_what(metric: Metric) -> &'static str {
    match metric {
        Metric::CallNs => ", ns a call",
        Metric::FaultNs => ", ns a fault",
        Metric::PerSecond => ", work a second (more is better)",
        Metric::IdleCpuPercent => ", CPU",
        _ => "",
    }
}

fn or_dash<T: ToString>(figure: Option<T>) -> String {
    figure.map_or("-".to_owned(), |figure| figure.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::goals::judge;
    use super::super::kept::tests::about;
    use super::super::results::tests::{fail, results};
    use super::super::results::{Absent, Unmeasured};
    use super::*;

    /// The line of the report that starts so, with single spaces.
    fn line(report: &str, start: &str) -> Option<String> {
        let line = report.lines().find(|line| line.starts_with(start))?;
        Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_report_shows_what_ran_and_why_the_rest_did_not() {
        let mut some = results(
            Load::Forks,
            Metric::TimeNs,
            &[
                (Tool::Untraced, &[100e6; 6]),
                (Tool::UntracedAgain, &[102e6; 6]),
                (Tool::PerfRecord, &[150e6; 6]),
            ],
        );
        some.runs
            .iter_mut()
            .filter(|run| run.tool == Tool::PerfRecord)
            .for_each(|run| {
                run.figures.insert(Metric::PeakKib, 2048.0);
            });
        some.absent.push(Absent {
            tool: Tool::TraceCmd,
            reason: "not installed".to_owned(),
        });
        some.unmeasured.push(Unmeasured {
            load: Load::Nginx,
            reason: "not installed".to_owned(),
        });
        fail(&mut some, Tool::Strace, Load::Forks);
        let report = Report {
            about: &about(),
            results: &some,
            goals: &judge(&some),
        };
        let report = report.to_string();
        let line = |start| line(&report, start);
        assert_eq!(
            line("forks").as_deref(),
            Some("forks: untraced 101 ms, spread 2 %")
        );
        assert_eq!(
            line("| untraced again").as_deref(),
            Some("| untraced again | 1.02 | 1.02 to 1.02 | - | - | 6 |")
        );
        assert_eq!(
            line("| perf").as_deref(),
            Some("| perf record | 1.50 | 1.50 to 1.50 | - | 2.0 | 6 |")
        );
        assert_eq!(
            line("trace-cmd").as_deref(),
            Some("trace-cmd record: not installed")
        );
        assert_eq!(
            line("nginx").as_deref(),
            Some("nginx: not measured: not installed")
        );
        assert_eq!(
            line("strace").as_deref(),
            Some("strace: failed on forks: ended")
        );
    }

    #[test]
    fn another_build_is_set_beside() {
        let some = results(
            Load::Forks,
            Metric::TimeNs,
            &[
                (Tool::MemtraceJson, &[90e6; 6]),
                (Tool::OtherJson, &[100e6; 6]),
            ],
        );
        let mut about = about();
        about.against = Some("v1".to_owned());
        let goals = judge(&some);
        let report = Report {
            about: &about,
            results: &some,
            goals: &goals,
        };
        assert_eq!(
            line(&report.to_string(), "| forks").as_deref(),
            Some("| forks, JSON | 0.90 | 0.90 to 0.90 | 6 |")
        );
    }

    #[test]
    fn few_rounds_are_said_to_decide_nothing() {
        let some = results(
            Load::CowStorm,
            Metric::TimeNs,
            &[(Tool::Untraced, &[1e8; 2]), (Tool::MemtraceJson, &[1e8; 2])],
        );
        let report = Report {
            about: &about(),
            results: &some,
            goals: &judge(&some),
        };
        let report = report.to_string();
        assert!(
            report.contains("undecided cow-storm, memtrace, JSON: 1.00"),
            "{report}"
        );
        assert!(report.contains("fewer than 6 decide nothing"), "{report}");
    }
}
