//! The last line of memtrace's JSON: what it saw in all, and what it lost.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::results::{Figures, Metric};

/// Notes the sums of the end line in memtrace's output.
pub(super) fn note(output: &Path, figures: &mut Figures) -> Result<()> {
    let file = File::open(output).context("memtrace left no output")?;
    let mut closing = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        closing = line.context("cannot read memtrace's output")?;
    }
    let (faults, lost) =
        sum_up(&closing).context("memtrace's output does not close with an end line")?;
    figures.insert(Metric::Faults, faults as f64);
    figures.insert(Metric::Lost, lost as f64);
    Ok(())
}

/// The faults and the lost records of an end line; `None` if it is none.
fn sum_up(line: &[u8]) -> Option<(u64, u64)> {
    let end: Value = serde_json::from_slice(line).ok()?;
    if end.get("type")? != "end" {
        return None;
    }
    let mut faults = 0;
    for process in end.get("processes")?.as_array()? {
        faults += sum(process.get("faults")?)?;
    }
    Some((faults, sum(end.get("lost")?)?))
}

/// A count, or the sum of an object's counts.
fn sum(counts: &Value) -> Option<u64> {
    match counts {
        Value::Object(kinds) => kinds.values().map(sum).sum(),
        count => count.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_line_is_summed_up() {
        let line = br#"{"type":"end","processes":[
            {"pid":1,"faults":{"cow-copy":3,"zero-fill":2}},{"pid":2,"faults":{}}],
            "lost":{"fault":4,"exit":1}}"#;
        assert_eq!(sum_up(line), Some((5, 5)));
        assert_eq!(
            sum_up(br#"{"type":"end","processes":[],"lost":0}"#),
            Some((0, 0))
        );
    }

    #[test]
    fn another_line_is_no_end() {
        assert_eq!(sum_up(br#"{"type":"fault"}"#), None);
        assert_eq!(sum_up(br#"{"type":"end","processes":[]}"#), None);
        assert_eq!(
            sum_up(br#"{"type":"end","processes":[{"faults":{"a":-1}}],"lost":0}"#),
            None
        );
        assert_eq!(sum_up(b"{\"type\":\"en"), None);
        assert_eq!(sum_up(b""), None);
    }
}
