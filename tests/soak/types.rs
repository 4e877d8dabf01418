//! Files of types that are none, and outputs that nobody reads.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{getpid, mkfifo};
use tests::harness::{Memtrace, Running};

use crate::support::{ended_within, start};

/// How long memtrace may take to end.
const SOON: Duration = Duration::from_secs(1);

/// No more memory than this may be asked for.
const MEMORY: u64 = 4 << 30;

/// Types that hold themselves, so often that to walk them takes for ever. As the kernel's `include/uapi/linux/btf.h` has it.
fn nested() -> Vec<u8> {
    const INT: u32 = 1 << 24;
    const STRUCT: u32 = 4 << 24;
    const UNION: u32 = 5 << 24;
    const MEMBERS: u32 = 64;
    let strings = b"\0task_struct\0int\0";
    let mut types = vec![13, INT, 4, 32];
    types.extend([0, UNION | MEMBERS, 4]);
    // Each member is the union itself.
    types.extend((0..MEMBERS).flat_map(|_| [0, 2, 0]));
    types.extend([1, STRUCT | 1, 4, 0, 2, 0]);
    let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
    let mut file = vec![0x9f, 0xeb, 1, 0];
    let sizes = [24, 0, types.len(), types.len(), strings.len()];
    file.extend(
        sizes
            .into_iter()
            .flat_map(|size| (size as u32).to_le_bytes()),
    );
    file.extend(types);
    file.extend(strings);
    file
}

/// Runs memtrace, which must refuse what it is given, in one line, and within a second.
fn refused(command: &mut Command) -> Result<()> {
    let limited = || Ok(setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?);
    // SAFETY: a system call and nothing else.
    unsafe { command.pre_exec(limited) };
    let running = Running::start(command)?;
    let ended = ended_within(running, SOON).with_context(|| format!("{command:?}"))?;
    let run = ended.run;
    ensure!(run.code() == Some(125), "{command:?}: {run:?}");
    ensure!(run.stderr.lines().count() == 1, "{command:?}: {run:?}");
    Ok(())
}

#[test]
fn types_that_are_none_are_refused() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let (fifo, bomb) = (
        memtrace.folder().join("fifo"),
        memtrace.folder().join("bomb"),
    );
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
    fs::write(&bomb, nested())?;
    for file in [&fifo, &bomb, Path::new("/dev/zero"), memtrace.folder()] {
        let memtrace = Memtrace::new()?.options([Path::new("--btf"), file]);
        refused(&mut memtrace.command(["true"]))?;
        refused(&mut memtrace.attach([getpid()]))?;
        refused(&mut memtrace.lab(&["F9"]))?;
    }
    Ok(())
}

/// An output that nobody reads: memtrace may wait for a reader, and heeds signals meanwhile.
#[test]
fn an_output_without_a_reader_is_left() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let memtrace = Memtrace::new()?;
        let fifo = memtrace.folder().join("fifo");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let memtrace = memtrace.options([Path::new("-o"), &fifo]);
        for mut command in [memtrace.command(["true"]), memtrace.attach([getpid()])] {
            let running = start(&mut command)?;
            let pid = running.pid();
            // It is refused, or waits.
            std::thread::sleep(Duration::from_secs(1));
            kill(pid, signal).ok();
            let ended = ended_within(running, SOON);
            let run = ended.with_context(|| format!("{command:?}, {signal}"))?.run;
            ensure!(run.code() != Some(0), "{command:?}: {run:?}");
        }
    }
    Ok(())
}
