//! The tables of the README's part about speed, from kept results.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::figure::Figure;
use super::kept::{Kept, read};
use super::load::{Kind, Load, ROUNDS};
use super::machine::Machine;
use super::results::Results;
use super::tool::Tool;
use crate::command::say;
use crate::table::write_table;
use crate::workspace::Workspace;

/// Below the workspace.
const FILE: &str = "README.md";
/// What stands between these two lines is written anew.
const BEGIN: &str = "<!-- begin: written by `cargo xtask bench --document` -->\n";
const END: &str = "<!-- end -->\n";

/// The programs that are slowed down.
const TRACED: [(Load, Figure, &str); 6] = [
    (Load::CowStorm, Figure::Slowdown, "COW storm"),
    (Load::FirstTouch, Figure::Slowdown, "first touch"),
    (Load::Forks, Figure::Slowdown, "forks"),
    (Load::Spawns, Figure::Slowdown, "spawns"),
    (Load::Mappings, Figure::Slowdown, "mmap/munmap/brk"),
    (Load::MillionFaults, Figure::Slowdown, "faults on all CPUs"),
];
/// All else.
const OTHERS: [(Load, Figure, &str); 7] = [
    (Load::Start, Figure::StartMs, "start, ms"),
    (Load::Bystander, Figure::CallAddedNs, "another's call, + ns"),
    (
        Load::Bystander,
        Figure::FaultAddedPercent,
        "another's fault, + %",
    ),
    (Load::Idle, Figure::IdleCpuPercent, "idle, % of a CPU"),
    (Load::Postgres, Figure::Throughput, "PostgreSQL"),
    (Load::Redis, Figure::Throughput, "Redis"),
    (Load::Nginx, Figure::Throughput, "nginx"),
];

/// Writes the tables from the results in that file, if they are of all loads with enough rounds.
pub(super) fn write(workspace: &Workspace, results: &Path) -> Result<()> {
    let kept = read(results)?;
    if let Some(why) = incomplete(&kept.results) {
        bail!("nothing is written: {why} in {}", results.display());
    }
    let file = workspace.root.join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {FILE}"))?;
    let text = replace(&text, &part(&kept)).with_context(|| {
        format!(
            "{FILE} has no line `{}`, or none `{}` after it",
            BEGIN.trim(),
            END.trim()
        )
    })?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    say(format_args!("written: {}", file.display()));
    Ok(())
}

/// What is missing in the results. Servers may be.
fn incomplete(results: &Results) -> Option<String> {
    let lacking = |load: &&Load| {
        let skipped = results.unmeasured.iter().any(|one| one.load == **load);
        let rounds = results.of(Tool::MemtraceJson, **load).count();
        rounds < ROUNDS as usize && !(skipped && load.kind() == Kind::Server)
    };
    let load = Load::value_variants().iter().find(lacking)?;
    Some(format!("fewer than {ROUNDS} rounds of {}", load.name()))
}

/// The text with another part between the two marks.
fn replace(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{part}{END}{after}"))
}

fn part(kept: &Kept) -> String {
    let about = &kept.about;
    format!(
        "\n{}; memtrace {}, {}; {ROUNDS} rounds or more; in brackets where the true one lies, at 95 %:\n\n{}\n\
         The program's start; what a process pays that isn't traced; the tool itself while nothing happens; what a traced server does, \
         as a part of untraced:\n\n{}\n",
        public(&about.machine),
        about.revision,
        about.date.split('T').next().unwrap_or_default(),
        Table(&kept.results, &TRACED),
        Table(&kept.results, &OTHERS)
    )
}

/// The machine without what its kernel's builder has put behind the version.
fn public(machine: &Machine) -> Machine {
    let version = |c: char| c.is_ascii_digit() || c == '.';
    let kernel = machine.kernel.chars().take_while(|&c| version(c)).collect();
    Machine {
        kernel,
        ..machine.clone()
    }
}

/// A row for each tool that has a figure.
struct Table<'a>(&'a Results, &'a [(Load, Figure, &'static str)]);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(results, columns) = self;
        let titles = columns.iter().map(|(_, _, title)| *title);
        let heading = std::iter::once("").chain(titles);
        let mut rows = vec![heading.map(str::to_owned).collect::<Vec<_>>()];
        // The noise comes last.
        let watching = Tool::ALL.into_iter().filter(|tool| !tool.is_untraced());
        for tool in watching.chain([Tool::UntracedAgain]) {
            let Some(name) = title(tool) else { continue };
            let cell = |&(load, figure, _): &(Load, Figure, _)| {
                let estimate = figure.estimate(results, tool, load)?;
                let median = figure.show(estimate.median);
                let Some(interval) = estimate.interval else {
                    return Some(median);
                };
                Some(format!(
                    "{median} ({})",
                    figure.show_interval(Some(interval))
                ))
            };
            let cells: Vec<_> = columns.iter().map(cell).collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells
                    .into_iter()
                    .map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
                rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
            }
        }
        write_table(f, &rows)
    }
}

/// A row's title; none of a tool that isn't for the README.
fn title(tool: Tool) -> Option<&'static str> {
    Some(match tool {
        Tool::MemtraceJson => "memtrace, every event as JSON",
        Tool::MemtraceSummary => "memtrace `--summary`",
        Tool::PerfRecord => "perf record -e page-faults -c 1 -d",
        Tool::TraceCmd => "trace-cmd record -e exceptions",
        Tool::Bpftrace => "bpftrace, counting in the kernel",
        Tool::BpftraceEmpty => "bpftrace, nothing done at each system call",
        Tool::PerfTrace => "perf trace (-F all for faults)",
        Tool::Strace => "strace -f (sees no faults)",
        Tool::UntracedAgain => "untraced, once more (the noise)",
        Tool::Untraced | Tool::MemtraceText | Tool::OtherJson | Tool::OtherSummary => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::kept::tests::kept;
    use super::super::results::tests::results;
    use super::super::results::{Metric, Unmeasured};
    use super::*;

    #[test]
    fn the_readme_keeps_all_else() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let new = format!("before\n{BEGIN}new\n{END}after\n");
        assert_eq!(replace(&text, "new\n"), Some(new));
        assert_eq!(replace("no marks\n", "new\n"), None);
        assert_eq!(replace(&format!("{END}{BEGIN}"), "new\n"), None);
    }

    #[test]
    fn this_readme_has_the_marks() {
        let readme = include_str!("../../../README.md");
        assert!(replace(readme, "").is_some());
    }

    #[test]
    fn figures_become_rows() {
        let mut some = results(
            Load::CowStorm,
            Metric::TimeNs,
            &[
                (Tool::Untraced, &[100.0; 15]),
                (Tool::MemtraceJson, &[118.0; 15]),
            ],
        );
        let start = results(
            Load::Start,
            Metric::StartNs,
            &[(Tool::MemtraceJson, &[5e7; 2])],
        );
        some.runs.extend(start.runs);
        let part = part(&kept(some));
        let rows: Vec<_> = part
            .lines()
            .filter(|line| line.starts_with("| memtrace, ev"))
            .collect();
        assert!(rows[0].contains("| 1.18 (1.18 to 1.18) |"), "{part}");
        assert!(rows[1].contains(" 50 |"), "{part}");
        assert!(!part.contains("strace"), "{part}");
        assert!(part.starts_with("\nLinux 6.18.1, 2 CPUs"), "{part}");
        assert!(
            part.contains("memtrace 0123456789ab, 2026-01-02; 15 rounds"),
            "{part}"
        );
    }

    #[test]
    fn only_all_loads_are_documented() {
        let mut all = Results::default();
        for &load in Load::value_variants() {
            assert!(incomplete(&all).is_some());
            if load == Load::Nginx {
                all.unmeasured.push(Unmeasured {
                    load,
                    reason: "not installed".to_owned(),
                });
            } else {
                let runs = results(load, Metric::TimeNs, &[(Tool::MemtraceJson, &[1.0; 15])]).runs;
                all.runs.extend(runs);
            }
        }
        assert_eq!(incomplete(&all), None);
    }
}
