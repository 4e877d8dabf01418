//! More happens than memtrace can keep up with: it is heard all the same, and its memory is bounded. Nothing here depends on how
//! fast the machine is: what is traced would go on for ever.

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tests::harness::{Attended, Memtrace, Run, Running, subject};

/// What memtrace may have of memory at any time, in KiB.
const MEMORY: i64 = 256 << 10;
/// `memtrace`'s exit status for SIGTERM.
const TERMINATED: i32 = 143;

fn into_nothing() -> Result<Memtrace> {
    Ok(Memtrace::new()?.options(["--format", "json", "-o", "/dev/null"]))
}

/// Ends the flood, which memtrace has left alone: it is all in one process group.
fn end(group: Pid) -> Result<()> {
    ensure!(
        killpg(group, None).is_ok(),
        "the flood ended before memtrace did"
    );
    Ok(killpg(group, Signal::SIGKILL)?)
}

fn check_memory() -> Result<()> {
    // All that this program has waited for is memtrace, and the floods, which are small.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    ensure!(peak <= MEMORY, "{peak} KiB of memory were in use");
    Ok(())
}

fn terminated(processes: &str, options: &[&str]) -> Result<Run> {
    let memtrace = into_nothing()?.options(options);
    let mut running = Running::start(&mut memtrace.command([subject("flood"), processes.into()]))?;
    let group = running.pid();
    running.until("the flood", || memtrace.note("ready"))?;
    kill(group, Signal::SIGTERM)?;
    let run = running.finish()?;
    end(group)?;
    ensure!(run.code() == Some(TERMINATED), "{run:?}");
    check_memory()?;
    Ok(run)
}

#[test]
fn a_signal_is_heard_whatever_comes_in() -> Result<()> {
    for processes in ["8", "64"] {
        terminated(processes, &[])?;
    }
    Ok(())
}

#[test]
fn a_small_buffer_is_as_good_for_that() -> Result<()> {
    terminated("8", &["--buffer", "256K"])?;
    terminated("8", &["--buffer", "1M", "--summary"])?;
    Ok(())
}

#[test]
fn an_attached_memtrace_hears_the_keyboard_and_the_clock() -> Result<()> {
    let flood = Attended::of(["flood", "8"])?;
    let memtrace = into_nothing()?;
    let running =
        Running::start(
            memtrace
                .attach([flood.pid()])
                .args(["--tree", "--duration", "1"]),
        )?;
    let run = running.finish()?;
    ensure!(run.code() == Some(0), "{run:?}");

    let memtrace = Memtrace::new()?.with_json();
    let mut running = Running::start(memtrace.attach([flood.pid()]).arg("--tree"))?;
    let file = memtrace.json_file();
    running.until("its first megabyte", || {
        let len = file.metadata().map_or(0, |file| file.len());
        Ok((len > 1 << 20).then_some(()))
    })?;
    kill(running.pid(), Signal::SIGINT)?;
    let run = running.finish()?;
    ensure!(run.code() == Some(0), "{run:?}");
    let json = std::fs::read_to_string(&file)?;
    let last = json.lines().last().context("an empty trace")?;
    ensure!(last.starts_with(r#"{"type":"end""#), "{last:?} is last");
    end(Pid::from_raw(flood.pid()))?;
    check_memory()
}
