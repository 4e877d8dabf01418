//! Colour: on a terminal only, and not where `NO_COLOR` forbids it.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::pty::openpty;
use tests::harness::{Memtrace, subject, wait_for};

#[test]
fn on_a_terminal() -> Result<()> {
    let text = on_terminal(&Memtrace::new()?)?;
    assert!(text.contains('\u{1b}'), "{text}");
    Ok(())
}

#[test]
fn not_where_it_is_forbidden() -> Result<()> {
    let text = on_terminal(&Memtrace::new()?.variable("NO_COLOR", "1"))?;
    assert!(!text.contains('\u{1b}'), "{text}");
    Ok(())
}

#[test]
fn not_off_a_terminal() -> Result<()> {
    let run = Memtrace::new()?.run([subject("fork-write")])?;
    assert_eq!(run.code(), Some(0), "{run:?}");
    assert!(!run.stderr.contains('\u{1b}'), "{}", run.stderr);
    Ok(())
}

/// What memtrace prints when its standard error is a terminal.
fn on_terminal(memtrace: &Memtrace) -> Result<String> {
    let terminal = openpty(None, None)?;
    let mut command = memtrace.command([subject("fork-write")]);
    command
        .env("TERM", "xterm")
        .stdout(Stdio::null())
        .stderr(Stdio::from(terminal.slave))
        .process_group(0);
    let mut child = command.spawn()?;
    // The command holds the last handle to the terminal's other end: when memtrace ends, the terminal does.
    drop(command);
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // A closed terminal reads as an error; what came before it is kept.
        File::from(terminal.master).read_to_end(&mut text).ok();
        text
    });
    let status = wait_for("memtrace on a terminal", || Ok(child.try_wait()?));
    if status.is_err() {
        child.kill()?;
    }
    let status = status?;
    let text = reader.join().ok().context("the reader panicked")?;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(status.success(), "{text}");
    Ok(text)
}
