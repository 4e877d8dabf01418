//! The table at the end: a row per process.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Row, Table};

use super::colour::Palette;
use super::escape::Escaped;
use super::wording::List;
use crate::trace::event::{Account, End, FaultKind};

/// Rows of processes at most; the others are summed up in one more.
const ROWS: usize = 40;

/// Writes the table.
pub(super) fn write(out: &mut impl Write, end: &End, palette: Palette) -> io::Result<()> {
    if end.processes.is_empty() {
        return Ok(());
    }
    let kinds: Vec<&str> = FaultKind::ALL
        .iter()
        .map(|kind| kind.name())
        .filter(|&kind| {
            end.processes
                .iter()
                .any(|process| of_kind(process, kind) != 0)
        })
        .collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header(&kinds));
    let (shown, others) = first_rows(&end.processes);
    for process in shown {
        table.add_row(row(name(process), process, &kinds));
    }
    if !others.is_empty() {
        table.add_row(row(
            format!("{} others", others.len()),
            &sum(&others),
            &kinds,
        ));
    }
    if end.processes.len() > 1 {
        table.add_row(row("total".to_owned(), &end.total, &kinds));
    }
    let text_columns = [0, kinds.len() + 5];
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if !text_columns.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    writeln!(out)?;
    if !others.is_empty() {
        let all = end.processes.len();
        writeln!(out, "Of {all} processes the {ROWS} with the most faults:")?;
    }
    write_rows(out, &table, palette)
}

/// Writes a table whose heading has two lines.
pub(super) fn write_rows(out: &mut impl Write, table: &Table, palette: Palette) -> io::Result<()> {
    let strong = palette.strong();
    for (at, line) in table.lines().enumerate() {
        let style = if at < 2 {
            strong
        } else {
            anstyle::Style::new()
        };
        writeln!(out, "{style}{}{style:#}", line.trim_end())?;
    }
    Ok(())
}

fn header(kinds: &[&str]) -> Row {
    // In two lines, for a narrow table.
    let kinds = kinds.iter().map(|kind| kind.replacen('-', "-\n", 1));
    let others = [
        "all\nseen",
        "kernel's\nminor",
        "kernel's\nmajor",
        "not\nseen",
        "where",
    ];
    std::iter::once("process".to_owned())
        .chain(kinds)
        .chain(others.map(str::to_owned))
        .map(|title| {
            if title.contains('\n') {
                title
            } else {
                format!("\n{title}")
            }
        })
        .collect::<Vec<_>>()
        .into()
}

fn row(name: String, account: &Account, kinds: &[&str]) -> Row {
    let count = |number: i64| {
        if number == 0 {
            "-".to_owned()
        } else {
            number.to_string()
        }
    };
    let kinds = kinds
        .iter()
        .map(|&kind| count(of_kind(account, kind) as i64));
    let numbers = [
        account.faults.values().sum::<u64>() as i64,
        account.min_flt as i64,
        account.maj_flt as i64,
        account.unobserved,
    ];
    let reasons = account
        .unobserved_by
        .iter()
        .filter(|&(_, &count)| count != 0);
    let reasons = List(reasons.map(|(reason, count)| format!("{count} {reason}"))).to_string();
    std::iter::once(name)
        .chain(kinds)
        .chain(numbers.map(count))
        .chain([reasons])
        .collect::<Vec<_>>()
        .into()
}

fn name(process: &Account) -> String {
    let Account {
        pid,
        ref comm,
        alive,
        incomplete,
        ..
    } = *process;
    let comm = Escaped(comm);
    match (pid, alive, incomplete) {
        (0, ..) => comm.to_string(),
        (_, false, false) => format!("{comm}[{pid}]"),
        (_, true, false) => format!("{comm}[{pid}] (runs on)"),
        (_, false, true) => format!("{comm}[{pid}] (incomplete)"),
        (_, true, true) => format!("{comm}[{pid}] (runs on, incomplete)"),
    }
}

fn of_kind(account: &Account, kind: &str) -> u64 {
    account.faults.get(kind).copied().unwrap_or(0)
}

/// The processes that have a row: all of them, or those with the most faults; and the others.
fn first_rows(processes: &[Account]) -> (Vec<&Account>, Vec<&Account>) {
    let mut shown: Vec<&Account> = processes.iter().collect();
    if shown.len() <= ROWS {
        return (shown, Vec::new());
    }
    shown.sort_by_key(|process| std::cmp::Reverse(process.faults.values().sum::<u64>()));
    let others = shown.split_off(ROWS);
    (shown, others)
}

fn sum(accounts: &[&Account]) -> Account {
    let mut sum = Account::default();
    for account in accounts {
        for (kind, count) in &account.faults {
            *sum.faults.entry(kind.clone()).or_default() += count;
        }
        for (reason, count) in &account.unobserved_by {
            *sum.unobserved_by.entry(reason.clone()).or_default() += count;
        }
        sum.min_flt += account.min_flt;
        sum.maj_flt += account.maj_flt;
        sum.unobserved += account.unobserved;
        sum.before_exec += account.before_exec;
    }
    sum
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::output::samples::{account, end, plain};

    fn table(processes: Vec<Account>) -> String {
        plain(|out, palette| write(out, &end(processes), palette))
    }

    #[test]
    fn every_process_has_a_row_and_all_have_a_sum() {
        let mut running = account(1236, 1_000_000);
        running.alive = true;
        running.comm = "redis\x1b[2J".into();
        let cut = Account {
            incomplete: true,
            ..account(1238, 1)
        };
        let cut_running = Account {
            alive: true,
            incomplete: true,
            ..account(1239, 1)
        };
        let nothing = Account {
            pid: 1237,
            comm: "true".into(),
            ..Account::default()
        };
        let over = Account {
            pid: 0,
            comm: "(further processes)".into(),
            ..account(0, 7)
        };
        let processes = vec![
            account(1234, 0),
            account(1235, 20_000),
            running,
            nothing,
            cut,
            cut_running,
            over,
        ];
        expect_file!["snapshots/table.txt"].assert_eq(&table(processes));
    }

    #[test]
    fn of_many_processes_those_with_the_most_faults_are_shown() {
        let table = table((1..=1000).map(|pid| account(pid, u64::from(pid))).collect());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 1 + 1 + 2 + ROWS + 2, "{table}");
        assert!(table.contains("[1000]") && table.contains("[961]") && !table.contains("[960]"));
        let others = lines[lines.len() - 2];
        let copies: u64 = (1..=960).sum();
        assert!(
            others.starts_with("960 others") && others.contains(&copies.to_string()),
            "{others}"
        );
    }

    #[test]
    fn no_process_no_table() {
        assert_eq!(table(Vec::new()), "");
    }
}
