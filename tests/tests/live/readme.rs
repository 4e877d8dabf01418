//! The README's commands run, and print what it says.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;
use tests::harness::{Memtrace, Run, Running, subject};
use tests::subject::process;

const README: &str = include_str!("../../../README.md");

/// What stands for the id of a server that runs.
const SERVERS: [&str; 2] = ["$(pidof redis-server)", "$(cat /run/nginx.pid)"];

#[test]
fn each_command_works() -> Result<()> {
    let lines = README.lines().filter_map(|line| line.strip_prefix("    "));
    let of_memtrace = lines.filter_map(|line| {
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        line.starts_with("memtrace ").then_some(line)
    });
    let commands: Vec<_> = of_memtrace.collect();
    ensure!(commands.len() > 8, "{commands:?}");
    for command in commands {
        let run = run(command).with_context(|| command.to_owned())?;
        // The lab says by its status that a claim can't be decided: one is about Windows.
        let status = if command.starts_with("memtrace lab  ") {
            2
        } else {
            0
        };
        ensure!(run.code() == Some(status), "{command}: {run:?}");
    }
    Ok(())
}

#[test]
fn the_first_example_prints_what_it_says() -> Result<()> {
    let mut blocks = README.split("```").skip(1).step_by(2);
    let events = blocks.next().context("no example")?;
    let (command, events) = events
        .strip_prefix("console\n$ sudo ")
        .and_then(|block| block.split_once('\n'))
        .context("no command")?;
    let tables = blocks.next().context("no tables")?;
    // Where the parent goes on on another CPU, the kernel may copy once more.
    process::stay_on_one_cpu()?;
    let printed = run(command)?.stderr;
    let printed: Vec<_> = printed.lines().collect();
    let wanted: Vec<_> = events
        .lines()
        .chain(["..."])
        .chain(tables.lines().skip(1))
        .collect();
    let mut from = 0;
    for group in wanted
        .split(|line| *line == "...")
        .filter(|group| !group.is_empty())
    {
        let is_here = |found: &[&str]| {
            group
                .iter()
                .zip(found)
                .all(|(line, found)| is_like(line, found))
        };
        let found = printed[from..].windows(group.len()).position(is_here);
        let found = found.with_context(|| format!("{group:#?}\nis not in\n{printed:#?}"))?;
        from += found + group.len();
    }
    // That of a server depends on its load: but the head is the same.
    let of_server = blocks.next().context("no tables of a server")?;
    let head = |tables: &str| -> Vec<_> { tables.lines().take(4).map(shape).collect() };
    ensure!(
        head(of_server) == head(tables),
        "{of_server}\nis not like\n{tables}"
    );
    Ok(())
}

/// Runs a line as a shell would that finds memtrace and the example programs; a server ends when memtrace has begun to watch it.
fn run(line: &str) -> Result<Run> {
    let folder = TempDir::new()?;
    let memtrace = Memtrace::new()?;
    symlink(
        fs::canonicalize(memtrace.binary())?,
        folder.path().join("memtrace"),
    )?;
    for name in ["prog", "fork-write"] {
        symlink(
            fs::canonicalize(subject("fork-write"))?,
            folder.path().join(name),
        )?;
    }
    let server = Running::start(Command::new("sleep").arg("infinity"))?;
    let watches = SERVERS.iter().any(|name| line.contains(name));
    let line = SERVERS.iter().fold(line.to_owned(), |line, name| {
        line.replace(name, &server.pid().to_string())
    });
    let mut path = OsString::from(folder.path());
    path.push(":");
    path.push(std::env::var_os("PATH").context("no PATH")?);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec {line}")])
        .current_dir(folder.path())
        .env("PATH", path);
    let mut running = Running::start(&mut shell)?;
    if watches {
        let stderr = running.stderr();
        running.until("the first line", || {
            Ok((!fs::read(&stderr)?.is_empty()).then_some(()))
        })?;
        kill(server.pid(), Signal::SIGTERM)?;
    }
    running.finish()
}

/// Whether a line is the README's, but for numbers. That may break off at `...`.
fn is_like(line: &str, found: &str) -> bool {
    match line.strip_suffix(" ...") {
        Some(start) => shape(found).starts_with(&shape(start)),
        None => shape(found) == shape(line),
    }
}

/// A line without its numbers, units and spaces.
fn shape(line: &str) -> String {
    let words = line.split_whitespace().map(|word| match word {
        "-" => "0".to_owned(),
        "ns" | "us" | "ms" | "s" => "time".to_owned(),
        "KiB" | "MiB" | "KiB:" | "MiB:" => "size".to_owned(),
        _ => without_numbers(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_numbers(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        out.push('0');
        let number = &rest[at..];
        rest = match number.strip_prefix("0x") {
            Some(hex) => hex.trim_start_matches(|c: char| c.is_ascii_hexdigit()),
            None => number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'),
        };
    }
    out + rest
}
