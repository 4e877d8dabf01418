//! More comes in than memtrace can take.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tests::harness::{Memtrace, Running, subject, wait_for};
use tests::subject::fifo::GO_ON;

use crate::support::{Group, ended, ended_within, lines, parsed, start};

/// However many processes fault as fast as they can: memtrace is asked to end, and ends at once.
#[test]
fn it_ends_within_a_second() -> Result<()> {
    for (signal, options) in [
        (Signal::SIGTERM, &["--format", "json"][..]),
        (Signal::SIGINT, &[]),
        (Signal::SIGTERM, &["--summary"]),
    ] {
        for count in ["8", "16", "64"] {
            let memtrace = Memtrace::new()?
                .options(options)
                .options(["-o", "/dev/null"]);
            let command = [subject("load"), "faults".into(), count.into()];
            let mut running = start(&mut memtrace.command(command))?;
            let group = Group::of(&running);
            running.until("the load", || memtrace.note("ready"))?;
            // So long that its memory would grow.
            std::thread::sleep(Duration::from_secs(3));
            if signal == Signal::SIGINT {
                // A terminal sends it to all of the group.
                killpg(running.pid(), signal)?;
            } else {
                kill(running.pid(), signal)?;
            }
            let ended = ended_within(running, Duration::from_secs(1))
                .with_context(|| format!("{count} processes, {signal}"))?;
            drop(group);
            eprintln!(
                "{count} processes, {signal}: ended after {:?}, {} MiB at most",
                ended.took, ended.peak
            );
            ended.bounded()?;
        }
    }
    Ok(())
}

/// The record of a file's name is lost; later the file is met again.
#[test]
fn lost_names_are_told_again() -> Result<()> {
    const FILES: usize = 20;
    let memtrace = Memtrace::new()?.with_json();
    let fifo = memtrace.folder().join("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut command = vec![subject("load"), "flood".into(), fifo.clone().into()];
    for i in 0..FILES {
        let file = memtrace.folder().join(format!("prog-{i}"));
        fs::copy("/bin/true", &file)?;
        command.push(file.into());
    }
    let mut running = Running::start(&mut memtrace.command(&command))?;
    let group = Group::of(&running);
    // For reading, too: so it doesn't wait for the program here.
    let mut to_program = File::options().read(true).write(true).open(&fifo)?;
    let mut go_on = || to_program.write_all(&[GO_ON]);
    running.until("the program", || memtrace.note("ready"))?;
    kill(running.pid(), Signal::SIGSTOP)?;
    go_on()?;
    wait_for("the flood", || memtrace.note("flooded"))?;
    kill(running.pid(), Signal::SIGCONT)?;
    // It has taken all that was written before, and knows that something was lost.
    running.until("the loss", || {
        let text = fs::read(memtrace.json_file())?;
        let lost = b"\"type\":\"lost\"";
        Ok(text
            .windows(lost.len())
            .any(|bytes| bytes == lost)
            .then_some(()))
    })?;
    go_on()?;
    ended(running)?.well()?;
    drop(group);

    let (mut lost, mut execs) = (0, Vec::new());
    lines(&memtrace, |line| {
        if let Some(event) = parsed(line, "\"type\":\"lost\"")? {
            lost = event["ts"].as_u64().unwrap_or(0);
        }
        if let Some(event) = parsed(line, "\"type\":\"exec\"")?
            && event["file"]
                .as_str()
                .is_some_and(|file| file.contains("prog-"))
        {
            execs.push(event);
        }
        Ok(())
    })?;
    let after: Vec<_> = execs
        .iter()
        .filter(|event| event["ts"].as_u64() > Some(lost))
        .collect();
    ensure!(after.len() == FILES, "{} execs after the loss", after.len());
    for event in after {
        ensure!(event["exe"] == event["file"], "{event}");
    }
    Ok(())
}
