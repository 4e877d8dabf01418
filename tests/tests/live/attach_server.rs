//! A server under load is attached to, again and again, and never notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use memtrace_events::Events;
use tests::harness::{Attached, Memtrace, RedisServer, Running, command, wait_for};

use crate::hooks::Hooks;

#[test]
fn redis_under_load() -> Result<()> {
    let server = RedisServer::new()?;
    let mut running = Running::start(&mut command(server.command())?)?;
    let pid = running.pid().as_raw() as u32;
    let mut redis = running.until("redis", || Ok(server.connect()))?;
    redis.fill(2000)?;
    let (enough, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let goes_on = |what: &str| {
        let so_far = asked.load(Ordering::Relaxed);
        wait_for(what, || {
            Ok((asked.load(Ordering::Relaxed) > so_far + 500).then_some(()))
        })
    };
    let result = thread::scope(|scope| {
        let load = scope.spawn(|| load(&server, &enough, &asked));
        let result = attach_and_leave(pid, &mut redis, &goes_on);
        enough.store(true, Ordering::Relaxed);
        load.join()
            .map_err(|_| anyhow!("the load panicked"))?
            .and(result)
    });
    result?;
    redis.send(&["SHUTDOWN", "NOSAVE"])?;
    let run = running.finish()?;
    assert_eq!(run.code(), Some(0), "{run:?}");
    Ok(())
}

/// Asks for what it knows the answer to.
fn load(server: &RedisServer, enough: &AtomicBool, asked: &AtomicU64) -> Result<()> {
    let mut redis = server.connect().context("no connection")?;
    let mut count = 0;
    while !enough.load(Ordering::Relaxed) {
        count += 1;
        let number = redis.ask(&["INCR", "count"])?;
        ensure!(number == count.to_string(), "{number}, not {count}");
        let (key, value) = ((count % 2000).to_string(), format!("value {count}"));
        let answer = redis.ask(&["SET", &key, &value])?;
        ensure!(answer == "OK", "{answer}");
        let answer = redis.ask(&["GET", &key])?;
        ensure!(answer == value, "{answer}, not {value}");
        asked.fetch_add(3, Ordering::Relaxed);
    }
    Ok(())
}

fn attach_and_leave(
    pid: u32,
    redis: &mut tests::harness::Redis,
    goes_on: &impl Fn(&str) -> Result<()>,
) -> Result<()> {
    goes_on("answers before all")?;

    // To a snapshot's whole life.
    let memtrace = Attached::to(Memtrace::new()?.options(["--tree"]), &[pid])?;
    let first = Hooks::of(memtrace.pid())?;
    goes_on("answers while it is attached to")?;
    let save = redis.hold_save()?;
    goes_on("answers while a snapshot is taken")?;
    save.go_on()?;
    wait_for("the end of BGSAVE", || redis.has_saved())?;
    goes_on("answers after a snapshot")?;
    let trace = memtrace.interrupt()?;
    let (_, clone) = trace
        .clones()
        .find(|(event, clone)| event.pid == pid && clone.fork.is_some())
        .context("no fork")?;
    let account = trace.fork(clone.fork.unwrap_or(0))?;
    ensure!(
        account.parent == pid && account.by_parent > 0,
        "{account:?}"
    );
    // What Redis had before all is some 2 MB.
    ensure!(account.pages > 500 && account.unknown == 0, "{account:?}");
    let threads = trace.tasks().filter(|(event, _)| event.pid == pid).count();
    ensure!(
        threads > 1,
        "{threads} threads: Redis has some for the background"
    );
    goes_on("answers after Ctrl-C")?;
    first.are_gone()?;

    // Again, for a while.
    let memtrace = Attached::to(Memtrace::new()?, &[pid])?;
    redis.ask(&["SET", "big", &"x".repeat(4 << 20)])?;
    let trace = memtrace.interrupt()?;
    ensure!(trace.faults().count() > 1000, "4 MiB are 1024 fresh pages");
    goes_on("answers after a while")?;

    // Again, two at once; one is killed.
    let stays = Attached::to(Memtrace::new()?, &[pid])?;
    let killed = Attached::to(Memtrace::new()?, &[pid])?;
    let second = Hooks::of(killed.pid())?;
    goes_on("answers with two attached")?;
    let run = killed.kill()?;
    assert_eq!(run.code(), None, "{run:?}");
    second.are_gone()?;
    goes_on("answers after memtrace was killed")?;
    let third = Hooks::of(stays.pid())?;
    stays.interrupt()?;
    third.are_gone()?;
    goes_on("answers at the end")
}
