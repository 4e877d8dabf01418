//! Redis takes a snapshot in a forked child while it goes on writing: who copies what.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use memtrace_events::{Events, FaultKind};
use tests::harness::{Memtrace, RedisServer, Running};

const KEYS: usize = 2000;

#[test]
fn a_background_save_under_writes() -> Result<()> {
    let server = RedisServer::new()?;
    let memtrace = Memtrace::new()?.with_json();
    let mut running = Running::start(&mut memtrace.command(server.command()))?;
    let mut redis = running.until("redis", || Ok(server.connect()))?;
    redis.fill(KEYS)?;
    let save = redis.hold_save()?;
    for key in 0..KEYS {
        redis.ask(&["SETRANGE", &key.to_string(), "0", "changed"])?;
    }
    save.go_on()?;
    running.until("the end of BGSAVE", || redis.has_saved())?;
    assert_eq!(redis.info("persistence", "rdb_last_bgsave_status")?, "ok");
    redis.send(&["SHUTDOWN", "NOSAVE"])?;
    let trace = memtrace.read(running.finish()?)?;

    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    trace.check_accounts()?;
    ensure!(
        fs::metadata(server.folder().join("dump.rdb"))?.len() > KEYS as u64,
        "no snapshot"
    );

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
