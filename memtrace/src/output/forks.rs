//! What became of the memory that forks left shared: a row per fork, the sum in words, and where the copies were.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::colour::Palette;
use super::escape::Escaped;
use super::table::write_rows;
use super::wording::{Count, Size, Span, TaskName, size_of};
use crate::trace::event::{Area, End, ForkAccount, Region};

mod words;

/// Rows of forks at most; the others are summed up in one more.
const ROWS: usize = 20;
/// Regions at most.
const REGIONS: usize = 10;
/// Pages of 4 KiB in a MiB.
const PAGES_IN_MIB: u64 = 256;

/// Writes the section.
pub(super) fn write(out: &mut impl Write, end: &End, palette: Palette) -> io::Result<()> {
    if end.forks.is_empty() {
        return Ok(());
    }
    let total = sum(&end.forks);
    rows(out, &end.forks, &total, palette)?;
    words::write(out, &total)?;
    regions(out, &end.forks)
}

/// Pages that were copied, by whomever.
const fn copied(fork: &ForkAccount) -> u64 {
    fork.by_child + fork.by_parent + fork.by_others + fork.at_once
}

const fn given_up(fork: &ForkAccount) -> u64 {
    fork.given_up.exec + fork.given_up.exit + fork.given_up.munmap
}

/// Pages that were left out, as far as they were counted.
fn not_surveyed(fork: &ForkAccount) -> u64 {
    fork.not_surveyed.and_then(|rest| rest.pages).unwrap_or(0)
}

/// The numbers of some forks together.
fn sum<'a>(forks: impl IntoIterator<Item = &'a ForkAccount>) -> ForkAccount {
    let mut sum = ForkAccount::default();
    for fork in forks {
        sum.add_numbers(fork);
        sum.incomplete |= fork.incomplete;
    }
    sum
}

/// A column of pages.
struct Column {
    title: &'static str,
    pages: fn(&ForkAccount) -> u64,
    /// Whether it is there when it is empty, too.
    always: bool,
}

const COLUMNS: [Column; 14] = {
    const fn column(title: &'static str, always: bool, pages: fn(&ForkAccount) -> u64) -> Column {
        Column {
            title,
            pages,
            always,
        }
    }
    [
        column("shared\nat fork", true, |fork| fork.pages),
        column("copied\nby child", true, |fork| fork.by_child),
        column("copied by\nparent", true, |fork| fork.by_parent),
        column("copied by\nothers", false, |fork| fork.by_others),
        column("copied\nat once", false, |fork| fork.at_once),
        column("of these\nbefore exec", false, |fork| fork.before_exec),
        column("reused", true, |fork| fork.taken_over),
        column("given\nup", true, given_up),
        column("still\nshared", true, |fork| fork.still_shared),
        column("not\nknown", false, |fork| fork.unknown),
        column("maybe\ncopied", false, |fork| fork.unseen),
        column("copied\nagain", false, |fork| fork.copied_again),
        column("in\nswap", false, |fork| fork.swapped),
        column("not\nsurveyed", false, not_surveyed),
    ]
};

/// In what a table's pages are shown.
#[derive(Clone, Copy)]
enum Unit {
    Kib,
    /// With so many digits behind the point.
    Mib(usize),
}

impl Unit {
    /// Small programs in exact numbers, large ones in handy ones.
    fn of(forks: &[ForkAccount]) -> Self {
        let largest = forks
            .iter()
            .map(|fork| fork.pages + not_surveyed(fork))
            .max();
        match largest.unwrap_or(0) / PAGES_IN_MIB {
            0..16 => Self::Kib,
            16..100 => Self::Mib(2),
            100.. => Self::Mib(1),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Kib => "KiB",
            Self::Mib(_) => "MiB",
        }
    }

    fn show(self, pages: u64) -> String {
        let mib = pages as f64 / PAGES_IN_MIB as f64;
        match self {
            _ if pages == 0 => "-".to_owned(),
            Self::Kib => (4 * pages).to_string(),
            Self::Mib(1) if mib < 0.05 => "<0.1".to_owned(),
            Self::Mib(2) if mib < 0.005 => "<0.01".to_owned(),
            Self::Mib(digits) => format!("{mib:.digits$}"),
        }
    }
}

fn rows(
    out: &mut impl Write,
    forks: &[ForkAccount],
    total: &ForkAccount,
    palette: Palette,
) -> io::Result<()> {
    let unit = Unit::of(forks);
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| column.always || (column.pages)(total) != 0)
        .collect();
    let titles = columns.iter().map(|column| column.title);
    let titles = ["\nfork", "\nparent -> child"]
        .into_iter()
        .chain(titles)
        .chain(["page\ntables", "time of\nthe call"]);
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(titles.collect::<Vec<_>>());
    let mut row = |number: String, who: String, fork: &ForkAccount| {
        let pages = columns.iter().map(|column| unit.show((column.pages)(fork)));
        let call = fork.dur.map_or("-".to_owned(), |dur| Span(dur).to_string());
        let cells = [number, who].into_iter().chain(pages);
        let tables = Size(fork.table_bytes).to_string();
        table.add_row(cells.chain([tables, call]).collect::<Vec<_>>());
    };
    let (shown, others) = first_rows(forks);
    for fork in &shown {
        row(format!("#{}", fork.number), who(fork), fork);
    }
    if !others.is_empty() {
        // A row that stands for forks over the limit has no number.
        let name = if others.iter().any(|fork| fork.number == 0) {
            "others".to_owned()
        } else {
            format!("{} others", others.len())
        };
        row(String::new(), name, &sum(others.iter().copied()));
    }
    if forks.len() > 1 {
        row(String::new(), "total".to_owned(), total);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at != 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    let unit = unit.name();
    writeln!(
        out,
        "\nWhat became of the private memory that forks left shared until a write, in {unit}:"
    )?;
    if !others.is_empty() {
        writeln!(out, "(the {} forks that shared the most)", shown.len())?;
    }
    write_rows(out, &table, palette)
}

/// The forks that have a row, in their order: all of them, or those with the most pages; and the others.
fn first_rows(forks: &[ForkAccount]) -> (Vec<&ForkAccount>, Vec<&ForkAccount>) {
    let (mut shown, mut others): (Vec<_>, Vec<_>) = forks.iter().partition(|fork| fork.number != 0);
    if shown.len() > ROWS {
        shown.sort_by_key(|fork| std::cmp::Reverse(fork.pages));
        others.extend(shown.split_off(ROWS));
        shown.sort_by_key(|fork| fork.number);
    }
    (shown, others)
}

/// Parent and child, the name once when both have the same; and whether the row is complete.
fn who(fork: &ForkAccount) -> String {
    let name = |comm, pid| TaskName {
        comm,
        pid,
        tid: pid,
    };
    let parent = name(&fork.parent_comm, fork.parent);
    let incomplete = if fork.incomplete { " (incomplete)" } else { "" };
    if fork.parent_comm == fork.child_comm {
        format!("{parent} -> {}{incomplete}", fork.child)
    } else {
        let child = name(&fork.child_comm, fork.child);
        format!("{parent} -> {child}{incomplete}")
    }
}

/// What the copies were copies of.
fn regions(out: &mut impl Write, forks: &[ForkAccount]) -> io::Result<()> {
    type OfFile<'a> = (Region, Option<&'a Arc<str>>);
    let mut sums: HashMap<OfFile, (u64, u64)> = HashMap::new();
    for area in forks.iter().flat_map(|fork| &fork.areas) {
        let Area {
            region,
            ref file,
            pages,
            copied,
            ..
        } = *area;
        let sum = sums.entry((region, file.as_ref())).or_default();
        *sum = (sum.0 + copied, sum.1 + pages);
    }
    let mut sums: Vec<_> = sums.into_iter().filter(|(_, sum)| sum.0 != 0).collect();
    if sums.is_empty() {
        return Ok(());
    }
    sums.sort_by_key(|&((region, file), (copied, _))| {
        (std::cmp::Reverse(copied), region.name(), file)
    });
    let others = sums.split_off(sums.len().min(REGIONS));
    writeln!(out, "The copies were in")?;
    for ((region, file), (copied, pages)) in sums {
        let (copied, pages) = (size_of(copied).to_string(), size_of(pages).to_string());
        write!(out, "{copied:>12} of {pages:>10}  {}", region.name())?;
        match file {
            Some(file) => writeln!(out, ", {}", Escaped(file))?,
            None => writeln!(out)?,
        }
    }
    if !others.is_empty() {
        let sum = |of: fn(&(u64, u64)) -> u64| size_of(others.iter().map(|(_, sum)| of(sum)).sum());
        let (copied, pages) = (sum(|sum| sum.0).to_string(), sum(|sum| sum.1).to_string());
        let others = Count(others.len() as u64, "other place");
        writeln!(out, "{copied:>12} of {pages:>10}  in {others}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::output::samples::{end, fork, not_surveyed, plain};
    use crate::trace::event::NotSurveyed;

    fn section(forks: Vec<ForkAccount>) -> String {
        let end = End {
            forks,
            ..end(Vec::new())
        };
        plain(|out, palette| write(out, &end, palette))
    }

    /// Every number in use.
    fn snapshot() -> ForkAccount {
        let mut areas = fork(1, 48_000).areas;
        (areas[0].pages, areas[0].copied) = (250_000, 47_000);
        (areas[1].pages, areas[1].copied) = (3_144, 980);
        for at in 0..9 {
            areas.push(Area {
                region: Region::Lib,
                file: Some(format!("/usr/lib/lib{at}.so").into()),
                pages: 1_000,
                copied: at,
                ..areas[1].clone()
            });
        }
        areas[10].region = Region::Anon;
        areas[10].file = None;
        let mut snapshot = ForkAccount {
            pages: 262_144,
            by_child: 307,
            by_parent: 47_690,
            by_others: 3,
            before_exec: 2,
            at_once: 16,
            taken_over: 1_000,
            still_shared: 13_000,
            unknown: 16,
            copied_again: 5,
            swapped: 1,
            dur: Some(12_345_678),
            table_bytes: 2_150_400,
            execed: true,
            child_comm: "dump\x1b[2J".into(),
            areas,
            ..fork(1, 48_000)
        };
        snapshot.given_up.exec = 100;
        snapshot.given_up.exit = 200_000;
        snapshot.given_up.munmap = 12;
        snapshot
    }

    #[test]
    fn large_processes_and_small_ones() {
        let unwritten = ForkAccount {
            dur: None,
            incomplete: true,
            ..fork(2, 0)
        };
        let large = ForkAccount {
            not_surveyed: Some(not_surveyed()),
            ..fork(6, 400)
        };
        let uncounted = ForkAccount {
            not_surveyed: Some(NotSurveyed {
                pages: None,
                ..not_surveyed()
            }),
            ..fork(7, 0)
        };
        let sections = [
            vec![snapshot(), unwritten],
            vec![fork(3, 2_000), fork(4, 4)],
            vec![fork(5, 40)],
            vec![large],
            vec![uncounted],
        ];
        expect_file!["snapshots/forks.txt"].assert_eq(&sections.map(section).concat());
    }

    #[test]
    fn the_samples_add_up() {
        for fork in [snapshot(), fork(1, 40)] {
            let ends = copied(&fork) + given_up(&fork) + fork.taken_over;
            assert_eq!(ends + fork.still_shared + fork.unknown, fork.pages);
            let areas = |of: fn(&Area) -> u64| fork.areas.iter().map(of).sum::<u64>();
            assert_eq!(areas(|area| area.pages), fork.pages);
            assert_eq!(areas(|area| area.copied), copied(&fork));
        }
    }

    #[test]
    fn of_many_forks_those_with_the_most_pages_are_shown() {
        let rest = ForkAccount {
            number: 0,
            ..fork(0, 5)
        };
        let mut forks: Vec<_> = (1..=100).map(|at| fork(at, u64::from(at % 50))).collect();
        let shown = |forks: &[ForkAccount]| {
            let text = section(forks.to_vec());
            let lines = text.lines().skip(5).take_while(|line| !line.is_empty());
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let lines = shown(&forks);
        assert_eq!(lines.len(), ROWS + 2, "{lines:?}");
        assert!(lines[0].trim_start().starts_with("#40 "), "{lines:?}");
        assert!(lines[19].trim_start().starts_with("#99 "), "{lines:?}");
        assert!(
            lines[20].trim_start().starts_with("80 others "),
            "{lines:?}"
        );
        // All of them are in the sum: 2 x (1 + ... + 49) x 10 pages of 4 KiB.
        assert!(lines[21].contains(" 98000 "), "{lines:?}");
        forks.push(rest);
        let lines = shown(&forks);
        assert_eq!(lines.len(), ROWS + 2, "{lines:?}");
        assert!(lines[20].trim_start().starts_with("others "), "{lines:?}");
    }

    #[test]
    fn rows_without_numbers_of_their_own_are_always_among_the_others() {
        let text = section(vec![fork(1, 1), fork(0, 1000)]);
        assert!(!text.contains("#0"), "{text}");
        assert!(text.contains("others"), "{text}");
    }

    #[test]
    fn no_fork_no_section() {
        assert_eq!(section(Vec::new()), "");
    }
}
