//! A benchmark's results as a person reads them: the machine, the ratios as a table, the goals.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::thread::available_parallelism;

use clap::ValueEnum;

use super::load::Load;
use super::results::Results;
use super::tool::Tool;
use crate::table::write_table;

impl Display for Results {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", machine())?;
        writeln!(
            f,
            "Medians: times as slow as untraced, by the program's own clock.\n"
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

impl Results {
    /// A row for each tool that ran, and a column for each load that was measured.
    fn table(&self) -> Vec<Vec<String>> {
        let loads: Vec<_> = Load::value_variants()
            .iter()
            .copied()
            .filter(|&load| self.runs.contains_key(&(Tool::Untraced, load)))
            .collect();
        let row = |name: &str, cell: &dyn Fn(Load) -> String, lost: String, peak: String| {
            let mut row = vec![name.to_owned()];
            row.extend(loads.iter().map(|&load| cell(load)));
            row.extend([lost, peak]);
            row
        };
        let title = |load| match load {
            Load::Start => "start, ms".to_owned(),
            load => load.name().to_owned(),
        };
        let mut rows = vec![row("", &title, "lost".to_owned(), "peak, MiB".to_owned())];
        for tool in Tool::ALL {
            if self.all_runs(tool).next().is_none() {
                continue;
            }
            let peak = self.peak_mib(tool).filter(|_| tool != Tool::Untraced);
            rows.push(row(
                tool.name(),
                &|load| self.cell(tool, load),
                or_dash(self.lost(tool)),
                or_dash(peak.map(|peak| format!("{peak:.1}"))),
            ));
            if tool == Tool::Untraced {
                let spread =
                    |load| or_dash(self.spread(load).map(|spread| format!("{spread:.0} %")));
                rows.push(row(
                    "  spread",
                    &spread,
                    or_dash::<u64>(None),
                    or_dash::<u64>(None),
                ));
            }
        }
        rows
    }

    fn cell(&self, tool: Tool, load: Load) -> String {
        if self.has_failed(tool, load) {
            return "failed".to_owned();
        }
        or_dash(match (tool, load) {
            (_, Load::Start) => self.median_ms(tool, load).map(|ms| format!("{ms:.0}")),
            (Tool::Untraced, _) => self.median_ms(tool, load).map(|ms| format!("{ms:.0} ms")),
            _ => self.ratio(tool, load).map(|ratio| format!("{ratio:.2}")),
        })
    }
}

fn or_dash<T: ToString>(figure: Option<T>) -> String {
    figure.map_or("-".to_owned(), |figure| figure.to_string())
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
    use anyhow::Error;

    use super::super::measure::Measured;
    use super::*;

    #[test]
    fn the_report_shows_what_ran_and_why_the_rest_did_not() {
        let mut results = Results::default();
        for (tool, ms) in [(Tool::Untraced, 100), (Tool::PerfRecord, 150)] {
            let ns = ms * 1_000_000;
            let run = Measured {
                ns,
                peak_kib: 2048,
                end: None,
            };
            results.add(tool, Load::Forks, run);
        }
        results.absent(Tool::TraceCmd, "not installed".to_owned());
        results.fail(Tool::Strace, Load::Forks, &Error::msg("ended"));
        let report = results.to_string();
        let line = |start: &str| {
            let line = report.lines().find(|line| line.starts_with(start));
            line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            line("| untraced").as_deref(),
            Some("| untraced | 100 ms | - | - |")
        );
        assert_eq!(
            line("| perf").as_deref(),
            Some("| perf record | 1.50 | - | 2.0 |")
        );
        assert_eq!(
            line("trace-cmd").as_deref(),
            Some("trace-cmd record: not installed")
        );
        assert_eq!(
            line("strace").as_deref(),
            Some("strace -f: failed on forks: ended")
        );
    }

    #[test]
    fn the_cpu_is_named() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel\t: 7\n";
        assert_eq!(cpu_model(cpuinfo), "A CPU @ 2 GHz");
        assert_eq!(cpu_model(""), "model not told");
    }
}
