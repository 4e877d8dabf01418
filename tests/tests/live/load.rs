//! More happens than memtrace can keep up with: it is heard all the same, and its memory is bounded. Nothing here depends on how
//! fast the machine is: what is traced would go on for ever.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tests::harness::{AttachTarget, Memtrace, Run, Running, subject};
use tests::subject::report::Fact;

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
    let flood = AttachTarget::of(["flood", "8"])?;
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
    let json = fs::read_to_string(&file)?;
    let last = json.lines().last().context("an empty trace")?;
    ensure!(last.starts_with(r#"{"type":"end""#), "{last:?} is last");
    end(Pid::from_raw(flood.pid() as i32))?;
    check_memory()
}

/// memtrace gets no CPU from the program's start to its end, and far more happens than there is room for: most of it is lost, and
/// how many faults the kernel counted is known all the same.
fn check_counts(options: &[&str], rounds: &str) -> Result<()> {
    let memtrace = Memtrace::new()?
        .options(["--buffer", "1M"])
        .options(options)
        .with_json();
    let program = [
        subject("usage"),
        subject("forkers"),
        "8".into(),
        rounds.into(),
    ];
    let mut running = Running::start(&mut memtrace.command(program))?;
    running.until("the program's start", || memtrace.note("ready"))?;
    kill(running.pid(), Signal::SIGSTOP)?;
    let cost = |fact| match fact {
        Fact::Usage(usage) => Some(usage.minor + usage.major),
        _ => None,
    };
    let cost = running.until("the program's end", || {
        Ok(memtrace.facts()?.into_iter().find_map(cost))
    });
    kill(running.pid(), Signal::SIGCONT)?;
    let cost = cost?;
    let run = running.finish()?;
    ensure!(run.code() == Some(0), "{run:?}");

    let json = fs::read_to_string(memtrace.json_file())?;
    let end: Value = serde_json::from_str(json.lines().last().context("an empty trace")?)?;
    let count = |row: &Value| -> Result<u64> {
        let count = |name: &str| row[name].as_u64().context("a count");
        Ok(count("min_flt")? + count("maj_flt")?)
    };
    let rows = end["processes"].as_array().context("the rows")?;
    let total = count(&end["total"])?;
    // The first process is the one that has asked what the others cost.
    let own = count(rows.first().context("no row")?)?;
    ensure!(
        total == own + cost,
        "{total} is not {own} and {cost}: lost {}, hooks left out {}",
        end["lost"],
        end["missed"]
    );
    let sum = rows.iter().map(count).sum::<Result<u64>>()?;
    ensure!(sum == total, "the rows' sum {sum} is not {total}");

    ensure!(
        end["lost"]["fault"].is_u64(),
        "nothing was lost: {}",
        end["lost"]
    );
    let marked = |rows: &Value| {
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter().any(|row| row["incomplete"] == true)
    };
    ensure!(
        marked(&end["forks"]),
        "no fork's account says that it is incomplete"
    );
    ensure!(
        options.contains(&"--summary") || marked(&end["processes"]),
        "no process's account says that it is incomplete"
    );
    Ok(())
}

#[test]
fn the_kernels_count_is_right_whatever_is_lost() -> Result<()> {
    check_counts(&[], "25")
}

#[test]
fn so_it_is_with_summary() -> Result<()> {
    check_counts(&["--summary"], "25")
}
