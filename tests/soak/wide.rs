//! Forks of memory that is spread far.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::harness::Memtrace;

use crate::support::{lines, nothing_lost, parsed, to_its_end};

/// The pages that the child writes lie behind the others: the account has them, or says that it doesn't have all.
#[test]
fn what_is_far_is_surveyed_or_named() -> Result<()> {
    for gib in ["100", "1500", "2100", "6000"] {
        let memtrace = Memtrace::new()?.with_json();
        to_its_end(&memtrace, ["load", "far", gib])?;
        let near = memtrace.note("near")?.and_then(|near| near.as_u64());
        let near = near.context("an address")?;
        let child = memtrace.note("child")?.context("a child")?;
        let mut copies = 0;
        let end = lines(&memtrace, |line| {
            if let Some(event) = parsed(line, "\"cow-copy\"")?
                && event["pid"] == child
                && event["cause"] == "fork"
                && is_in(&event["addr"], near)
            {
                copies += 1;
            }
            Ok(())
        })?;
        nothing_lost(&end)?;
        let fork = end.forks.first().context("no account")?;
        let is_named = fork.not_surveyed.is_some();
        eprintln!("{gib} GiB: {copies} copies by the fork, {fork:?}, named: {is_named}");
        let far: u64 = gib.parse()?;
        let is_whole = fork.by_child >= 1024 && fork.pages >= far + 1024;
        ensure!(is_whole || is_named, "{gib} GiB: {fork:?}");
        ensure!(copies == 1024, "{gib} GiB: {copies} copies by the fork");
    }
    Ok(())
}

fn is_in(addr: &Value, start: u64) -> bool {
    let addr = addr.as_str().and_then(|addr| addr.strip_prefix("0x"));
    let addr = addr.and_then(|addr| u64::from_str_radix(addr, 16).ok());
    addr.is_some_and(|addr| (start..start + 1024 * 4096).contains(&addr))
}
