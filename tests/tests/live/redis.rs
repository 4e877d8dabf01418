//! Redis takes a snapshot in a forked child while it goes on writing: who copies what.

use anyhow::{Context, Result, bail, ensure};
use memtrace_events::{Events, FaultKind};
use tests::harness::TracedSave;

const KEYS: usize = 2000;

#[test]
fn a_background_save_under_writes() -> Result<()> {
    let save = TracedSave::of(KEYS, |redis| {
        (0..KEYS).try_for_each(|key| redis.change(key))
    })?;
    ensure!(save.size > KEYS as u64, "no snapshot");
    let trace = save.trace;

    let (server, _) = trace.execs().last().context("no exec")?;
    let saves: Vec<_> = trace
        .clones()
        .filter(|(event, clone)| event.pid == server.pid && !clone.thread)
        .collect();
    let [(fork, clone)] = saves[..] else {
        bail!("{} forks", saves.len())
    };
    let copies = |pid: u32| {
        trace
            .faults()
            .filter(|(event, fault)| {
                event.pid == pid && event.ts >= fork.ts && fault.kind == FaultKind::CowCopy
            })
            .count()
    };
    // Four values share a page.
    ensure!(
        copies(server.pid) > KEYS / 8,
        "{} copies in the server",
        copies(server.pid)
    );
    let (_, exit) = trace
        .exits()
        .filter(|(event, _)| event.pid == clone.child_pid)
        .last()
        .context("no exit")?;
    assert_eq!(exit.code, Some(0));
    Ok(())
}
