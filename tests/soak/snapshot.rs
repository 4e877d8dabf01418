//! Processes of many mappings.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::harness::{AttachTarget, Memtrace, Running};

use crate::support::{end, ended, lines, nothing_lost, parsed, to_its_end};

/// Near the most that a process may have (`vm.max_map_count` is 65,530 by default), half of them gaps.
const MAPPINGS: &str = "30000";

/// Each process has its faults, however many mappings there are to be told of.
#[test]
fn eight_processes_of_sixty_thousand_mappings() -> Result<()> {
    let mut program = AttachTarget::of(["load", "mappings", MAPPINGS, "8"])?;
    let pids: Vec<u32> = serde_json::from_value(program.until("processes")?)?;
    let memtrace = Memtrace::new()?.options(["--tree"]).with_json();
    let mut running = Running::start(&mut memtrace.attach([program.pid()]))?;
    let mut told = 0;
    running.until("all tasks", || {
        // There is no event that says that a snapshot is complete: this is when nothing more comes.
        let size = fs::metadata(memtrace.json_file()).map_or(0, |file| file.len());
        let settled = size > 0 && size == std::mem::replace(&mut told, size);
        std::thread::sleep(Duration::from_millis(500));
        Ok(settled.then_some(()))
    })?;
    program.go_on()?;
    ended(running)?.well()?;

    let mut faults: BTreeMap<u64, u64> = BTreeMap::new();
    let end = lines(&memtrace, |line| {
        if let Some(event) = parsed(line, "\"type\":\"fault\"")? {
            *faults
                .entry(event["pid"].as_u64().context("a pid")?)
                .or_default() += 1;
        }
        Ok(())
    })?;
    nothing_lost(&end)?;
    for pid in pids {
        let account = end.processes.iter().find(|account| account.pid == pid);
        let account = account.with_context(|| format!("no account of {pid}"))?;
        let events = faults.get(&pid.into()).copied().unwrap_or(0);
        ensure!(events >= 50 * 1024, "{events} faults of {pid}");
        ensure!(account.unobserved == 0, "{account:?}");
    }
    Ok(())
}

/// Forks of such a process, all alive at once: what is equal in them is kept once.
#[test]
fn a_hundred_and_eighty_forks_of_sixty_thousand_mappings() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    to_its_end(&memtrace, ["load", "copies", MAPPINGS, "180"])?;
    let end = end(&memtrace)?;
    ensure!(end.forks.len() == 180, "{} forks", end.forks.len());
    nothing_lost(&end)
}
