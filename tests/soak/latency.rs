//! A program keeps no CPU for itself by what memtrace does for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, sysconf};
use tests::harness::{Memtrace, Run, command, subject};

/// How much longer than without memtrace a task may wait for its CPU.
const LONGER: Duration = Duration::from_millis(10);

/// A real-time task beside a fork of that many page tables, on the last CPU.
#[test]
fn a_big_fork_holds_nobody_up() -> Result<()> {
    let count = sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN)?.unwrap_or(1);
    let cpu = usize::try_from(count)? - 1;
    for tables in ["100000", "300000"] {
        let program = || {
            let words = ["sparse", &cpu.to_string(), tables, "2"];
            [subject("load")]
                .into_iter()
                .chain(words.map(Into::into))
                .collect::<Vec<_>>()
        };
        let untraced = longest(cpu, || Run::of(&mut command(program())?))?;
        let traced = longest(cpu, || {
            Memtrace::new()?.options(["--summary"]).run(program())
        })?;
        eprintln!("{tables} page tables: {untraced:?} untraced, {traced:?} traced");
        ensure!(
            traced <= untraced + LONGER,
            "{traced:?}, untraced {untraced:?}"
        );
    }
    Ok(())
}

/// The longest that a real-time task waited for that CPU while `run` went on; of three times the shortest, as the machine has
/// other things to do, too.
fn longest(cpu: usize, run: impl Fn() -> Result<Run>) -> Result<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let over = AtomicBool::new(false);
        let (ran, waited) = thread::scope(|scope| {
            let task = scope.spawn(|| wait_for_cpu(cpu, &over));
            let ran = run();
            over.store(true, Ordering::Relaxed);
            (ran, task.join().map_err(|_| anyhow!("the task panicked")))
        });
        let ran = ran?;
        ensure!(ran.code() == Some(0), "{ran:?}");
        shortest = shortest.min(waited??);
    }
    Ok(shortest)
}

/// Sleeps for a millisecond at a time, at a real-time priority: the longest that this took.
fn wait_for_cpu(cpu: usize, over: &AtomicBool) -> Result<Duration> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let priority = libc::sched_param { sched_priority: 50 };
    // SAFETY: reads `priority`. Of this thread alone.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    Errno::result(set)?;
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        thread::sleep(Duration::from_millis(1));
        longest = longest.max(start.elapsed());
    }
    Ok(longest)
}
