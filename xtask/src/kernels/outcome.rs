//! What came of all guests: a table of test by kernel, and below it whatever failed.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::report::{Ended, printable};
use crate::table::write_table;

/// How much is shown of what a program or a guest said. The console has it all.
const LINES: usize = 40;
const WIDTH: usize = 400;

/// A column: a guest, or the machine itself.
pub(crate) struct Column {
    pub(crate) name: String,
    /// The kernel's release.
    pub(crate) release: String,
    pub(crate) ended: Vec<Ended>,
    /// What is wrong with it as a whole, and what it said last.
    pub(crate) fault: Option<(String, Vec<String>)>,
    /// How often it was booted again.
    pub(crate) retries: u32,
    pub(crate) time: Duration,
}

pub(crate) struct Outcome(pub(crate) Vec<Column>);

impl Column {
    /// In a line, as soon as it is known.
    pub(crate) fn summary(&self) -> String {
        let passed: usize = self.ended.iter().filter_map(Ended::passed).sum();
        let failed = self.ended.iter().filter(|ended| ended.passed().is_none());
        let failed = failed.map(|ended| ended.name.as_str());
        let wrong = wrong(failed.chain(self.why()));
        format!("{passed} tests passed in {} s{wrong}", self.time.as_secs())
    }

    /// The same of one that ran no test.
    pub(crate) fn told(&self) -> String {
        format!("ran for {} s{}", self.time.as_secs(), wrong(self.why()))
    }

    /// What is wrong with it as a whole.
    fn why(&self) -> impl Iterator<Item = &str> {
        self.fault.iter().map(|(why, _)| why.as_str())
    }

    fn has_failed(&self) -> bool {
        self.fault.is_some() || self.ended.iter().any(|ended| ended.passed().is_none())
    }
}

fn wrong<'a>(what: impl Iterator<Item = &'a str>) -> String {
    what.flat_map(|what| ["; FAILED: ", what]).collect()
}

impl Outcome {
    pub(crate) fn failed(&self) -> Vec<&str> {
        let failed = self.0.iter().filter(|column| column.has_failed());
        failed.map(|column| column.name.as_str()).collect()
    }

    /// A row for each program, and one for what happened to the whole guest.
    fn table(&self) -> Vec<Vec<String>> {
        let columns = &self.0;
        let row = |title: &str, cell: &dyn Fn(&Column) -> String| {
            let mut row = vec![title.to_owned()];
            row.extend(columns.iter().map(cell));
            row
        };
        let mut names: Vec<&str> = Vec::new();
        for ended in columns.iter().flat_map(|column| &column.ended) {
            if !names.contains(&ended.name.as_str()) {
                names.push(&ended.name);
            }
        }
        let mut rows = vec![row("tests passed", &|column| column.name.clone())];
        for name in names {
            rows.push(row(name, &|column| {
                let ended = column.ended.iter().find(|ended| ended.name == name);
                ended.map_or("-".to_owned(), Ended::cell)
            }));
        }
        rows.push(row("the guest", &|column| {
            let word = if column.fault.is_some() {
                "FAILED"
            } else {
                "ok"
            };
            word.to_owned()
        }));
        rows.push(row("booted again", &|column| match column.retries {
            0 => "-".to_owned(),
            retries => retries.to_string(),
        }));
        rows.push(row("seconds", &|column| column.time.as_secs().to_string()));
        rows
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for column in &self.0 {
            writeln!(f, "{}: Linux {}", column.name, column.release)?;
        }
        writeln!(f)?;
        write_table(f, &self.table())?;
        for column in &self.0 {
            for ended in column.ended.iter().filter(|ended| ended.passed().is_none()) {
                writeln!(
                    f,
                    "\n{}: {} failed ({}):",
                    column.name,
                    ended.name,
                    ended.cell()
                )?;
                write_lines(f, &ended.output)?;
            }
            if let Some((fault, tail)) = &column.fault {
                writeln!(f, "\n{}: {fault}; the end of its console:", column.name)?;
                write_lines(f, tail)?;
            }
        }
        Ok(())
    }
}

/// The last of these lines, each cut: a test that fails may show a whole trace.
fn write_lines(f: &mut Formatter<'_>, lines: &[String]) -> fmt::Result {
    let mut said = lines.iter().filter(|line| !line.trim().is_empty());
    for _ in LINES..said.clone().count() {
        said.next();
    }
    said.try_for_each(|line| {
        let line: String = printable(line).chars().take(WIDTH).collect();
        writeln!(f, "    {line}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(name: &str, status: &str, output: &[&str]) -> Ended {
        Ended {
            name: name.to_owned(),
            status: status.to_owned(),
            milliseconds: 1,
            output: output.iter().map(|&line| line.to_owned()).collect(),
        }
    }

    fn column(name: &str, ended: Vec<Ended>) -> Column {
        Column {
            name: name.to_owned(),
            release: format!("{name}.1"),
            ended,
            fault: None,
            retries: 0,
            time: Duration::from_secs(40),
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_test_and_a_column_for_each_kernel() {
        let good = || {
            ended(
                "cow",
                "0",
                &["test result: ok. 3 passed; 0 failed; 0 ignored"],
            )
        };
        let bad = ended(
            "kinds",
            "101",
            &["test huge ... FAILED", "frame \u{7}1 != 2"],
        );
        let mut silent = column("5.10", vec![good()]);
        silent.fault = Some((
            "it ended in kinds".to_owned(),
            vec!["Kernel panic".to_owned()],
        ));
        silent.retries = 1;
        let outcome = Outcome(vec![
            column("6.12", vec![good(), bad]),
            silent,
            column("6.18", vec![good()]),
        ]);
        let rows: Vec<_> = outcome.table().iter().map(|row| row.join(" ")).collect();
        assert_eq!(
            rows,
            [
                "tests passed 6.12 5.10 6.18",
                "cow 3 3 3",
                "kinds 1 FAILED - -",
                "the guest ok FAILED ok",
                "booted again - 1 -",
                "seconds 40 40 40",
            ]
        );
        assert_eq!(outcome.failed(), ["6.12", "5.10"]);
        let text = outcome.to_string();
        assert!(text.contains(
            "6.12: kinds failed (1 FAILED):\n    test huge ... FAILED\n    frame 1 != 2\n"
        ));
        assert!(
            text.contains("5.10: it ended in kinds; the end of its console:\n    Kernel panic\n")
        );
    }
}
