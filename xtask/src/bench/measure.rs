//! One run of one program under one tool.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;

use super::load::Load;
use super::tool::{Places, Tool};

/// How often the tool's memory is looked at.
const SAMPLING: Duration = Duration::from_millis(10);
/// A run that takes longer is ended and counts as failed.
const LIMIT: Duration = Duration::from_mins(2);

/// What one run gave.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    /// The hot part by the program's own clock; for [`Load::Start`] the time from the tool's start
    /// to the program's.
    pub(super) ns: u64,
    /// The tool's own highest resident memory, in KiB, as last seen before it ended.
    pub(super) peak_kib: u64,
    /// What memtrace's JSON says at its end.
    pub(super) end: Option<End>,
}

/// The sums in the last line of memtrace's JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Records lost, of all kinds.
    pub(super) lost: u64,
    /// Faults of all processes and kinds.
    pub(super) faults: u64,
}

pub(super) fn measure(tool: Tool, load: Load, places: &Places) -> Result<Measured> {
    let errors = places.scratch.join("stderr");
    let mut command = tool
        .command(load, places)
        .map_err(|reason| anyhow!(reason))?;
    command
        .current_dir(&places.scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&errors).context("cannot create a file for the tool's errors")?)
        // A group of its own, to end all of it when it takes too long.
        .process_group(0);

    let start = monotonic()?;
    let mut child = command.spawn().context("cannot start it")?;
    let (status, peak_kib) = wait(&mut child)?;
    let mut printed = String::new();
    if let Some(stdout) = &mut child.stdout {
        stdout
            .read_to_string(&mut printed)
            .context("the program printed no text")?;
    }
    if !status.success() {
        bail!("{status}: {}", last_words(&errors));
    }
    let ns = printed
        .lines()
        .find_map(|line| line.trim().parse().ok())
        .with_context(|| format!("the program did not run: {}", last_words(&errors)))?;
    let end = match tool {
        Tool::MemtraceJson => Some(read_end(&places.output())?),
        _ => None,
    };
    Ok(Measured {
        ns: if load == Load::Start {
            u64::saturating_sub(ns, start)
        } else {
            ns
        },
        peak_kib,
        end,
    })
}

/// The clock that bench-load reads too, in ns.
fn monotonic() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Waits for the tool; returns how it ended and its highest resident memory. The figure comes from
/// /proc: that of `wait4` is the largest of the tool and of the program it ran.
fn wait(child: &mut Child) -> Result<(ExitStatus, u64)> {
    let status_file = format!("/proc/{}/status", child.id());
    let started = Instant::now();
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for it")? {
            return Ok((status, peak));
        }
        // It is not there any more when the tool has just ended.
        if let Ok(text) = fs::read_to_string(&status_file) {
            peak = high_water_mark(&text).map_or(peak, |mark| mark.max(peak));
        }
        if started.elapsed() > LIMIT {
            killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).context("cannot end it")?;
            child.wait().context("cannot wait for it")?;
            bail!("took more than {} s", LIMIT.as_secs());
        }
        sleep(SAMPLING);
    }
}

/// The highest resident memory in /proc/PID/status, in KiB.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The last line that the tool wrote to stderr.
fn last_words(errors: &Path) -> String {
    let text = fs::read(errors).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("it says nothing").to_owned()
}

fn read_end(output: &Path) -> Result<End> {
    let file = File::open(output).context("memtrace left no output")?;
    let mut last = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        last = line.context("cannot read memtrace's output")?;
    }
    sum_up(&last).context("memtrace's output does not close with an end line")
}

/// Adds up the counts of an end line; `None` if it is none.
fn sum_up(line: &[u8]) -> Option<End> {
    let end: Value = serde_json::from_slice(line).ok()?;
    if end.get("type")? != "end" {
        return None;
    }
    let mut faults = 0;
    for process in end.get("processes")?.as_array()? {
        faults += sum(process.get("faults")?)?;
    }
    Some(End {
        lost: sum(end.get("lost")?)?,
        faults,
    })
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
        assert_eq!(sum_up(line), Some(End { lost: 5, faults: 5 }));
        assert_eq!(
            sum_up(br#"{"type":"end","processes":[],"lost":0}"#),
            Some(End { lost: 0, faults: 0 })
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

    #[test]
    fn the_high_water_mark_is_read() {
        let status = "Name:\tperf\nVmPeak:\t  999 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 7 kB\n";
        assert_eq!(high_water_mark(status), Some(12345));
        assert_eq!(high_water_mark("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn last_words_are_the_last_line_that_says_something() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let errors = folder.path().join("stderr");
        fs::write(&errors, "first\n  can't do it \n\n")?;
        assert_eq!(last_words(&errors), "can't do it");
        assert_eq!(last_words(&folder.path().join("none")), "it says nothing");
        Ok(())
    }
}
