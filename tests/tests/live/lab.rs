//! The lab on the live kernel: what it decides, how it says so, and what it can't.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::harness::Memtrace;

const NOBODY: u32 = 65_534;
/// No Linux decides it: it is about another system.
const NEVER: &str = "T9";

#[test]
fn every_claim_is_decided_as_a_linux_of_today_has_it() -> Result<()> {
    let (status, rows) = lab(&[])?;
    let of_notes = [("L", 14), ("T", 9), ("F", 18)];
    let wanted = of_notes
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")));
    let ids: Vec<_> = rows
        .iter()
        .map(|row| text(row, "id"))
        .collect::<Result<_>>()?;
    assert!(
        ids.iter().map(|id| (*id).to_owned()).take(41).eq(wanted),
        "{ids:?}"
    );
    ensure!(ids.len() >= 41 + 10, "{ids:?}");

    for row in &rows {
        let id = text(row, "id")?;
        ensure!(row["contradiction"].is_null(), "{row}");
        if id == NEVER {
            ensure!(
                row["verdict"].is_null() && text(row, "why")?.contains("Windows"),
                "{row}"
            );
            continue;
        }
        let expected = row["expected"].as_array().context("a list")?;
        ensure!(
            expected.contains(&row["verdict"]) && row["differs"] == false,
            "{row}"
        );
        ensure!(!text(row, "figure")?.is_empty(), "{row}");
        let evidence = row["evidence"].as_array().context("a list")?;
        ensure!(evidence.iter().any(Value::is_object), "no event: {row}");
    }
    // One was not decided, none otherwise than expected.
    assert_eq!(status, Some(2));
    Ok(())
}

/// Whatever else runs on the machine.
#[test]
fn a_busy_machine_changes_no_verdict() -> Result<()> {
    // Of each group, those where two tasks run side by side.
    let some = ["L12", "T1", "T4", "F7", "F9", "F14", "F15", "F17"];
    let _busy = Busy::start()?;
    let (status, rows) = lab(&some)?;
    for row in &rows {
        ensure!(
            row["differs"] == false && !row["verdict"].is_null(),
            "{row}"
        );
    }
    assert_eq!(status, Some(0));
    Ok(())
}

#[test]
fn an_explanation_has_all_that_belongs_to_it() -> Result<()> {
    let output = run(&["--explain", "--source", "F9", "T9"])?;
    let (stdout, stderr) = (lossy(&output.stdout), lossy(&output.stderr));
    for part in [
        "The book",
        "The experiment",
        "What was seen",
        "cow-copy",
        "frame 0x",
        "Checked: /proc/PID/pagemap",
        "The verdict",
        "qualified",
        "mm/memory.c: do_wp_page",
        "int main(void)",
        "Not decidable here",
    ] {
        ensure!(stdout.contains(part), "no \"{part}\": {stdout}");
    }
    ensure!(
        stderr.contains("[ 1/2] ") && stderr.contains("T9"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(2));
    Ok(())
}

#[test]
fn the_table_has_a_row_for_each_and_a_total() -> Result<()> {
    let output = run(&["f9", "T9", "F9"])?;
    let stdout = lossy(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    ensure!(lines.len() == 5, "{stdout}");
    ensure!(
        lines[1].starts_with("T9 ") && lines[1].contains("not decidable here"),
        "{stdout}"
    );
    ensure!(
        lines[2].starts_with("F9 ") && lines[2].contains("qualified"),
        "{stdout}"
    );
    ensure!(lines[4].starts_with("2 claims: "), "{stdout}");
    Ok(())
}

#[test]
fn what_there_is_can_be_listed_by_anybody() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let output = Command::new("/proc/self/fd/0")
        .args(["lab", "list"])
        .stdin(std::fs::File::open(memtrace.binary())?)
        .uid(NOBODY)
        .output()?;
    let stdout = lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let ids: BTreeSet<_> = stdout
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    ensure!(
        ids.contains("L1") && ids.contains("T9") && ids.contains("X1"),
        "{stdout}"
    );
    Ok(())
}

#[test]
fn what_is_no_claim_is_named() -> Result<()> {
    let output = run(&["F9", "F99"])?;
    let stderr = lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    ensure!(
        stderr.lines().count() == 1 && stderr.contains("\"F99\""),
        "{stderr}"
    );
    ensure!(output.stdout.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn without_root_it_says_so() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let output = Command::new("/proc/self/fd/0")
        .args(["lab", "F9"])
        .stdin(std::fs::File::open(memtrace.binary())?)
        .uid(NOBODY)
        .output()?;
    let stderr = lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    ensure!(
        stderr.lines().count() == 1 && stderr.contains("root"),
        "{stderr}"
    );
    Ok(())
}

/// Runs `memtrace lab`.
fn run(args: &[&str]) -> Result<Output> {
    Ok(Memtrace::new()?.lab(args).output()?)
}

/// Its exit status and its rows.
fn lab(claims: &[&str]) -> Result<(Option<i32>, Vec<Value>)> {
    let output = run(&[&["--format", "json"], claims].concat())?;
    let rows = lossy(&output.stdout)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{output:?}"))?;
    Ok((output.status.code(), rows))
}

fn text<'a>(row: &'a Value, key: &str) -> Result<&'a str> {
    row[key]
        .as_str()
        .with_context(|| format!("no {key}: {row}"))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A loop that keeps a CPU busy.
struct Busy(Child);

impl Busy {
    fn start() -> Result<Self> {
        Ok(Self(
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()?,
        ))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // It is ours, and hasn't been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
