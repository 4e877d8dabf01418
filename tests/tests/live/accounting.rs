//! No fault goes unexplained: memtrace's accounts against the kernel's, as wait4(2) gives it.

use anyhow::{Result, ensure};
use tests::harness::{Memtrace, Trace, subject};

#[test]
fn counts_are_those_of_wait4() -> Result<()> {
    let trace = Trace::run(["usage"])?;
    let usages = trace.usages()?;
    assert!(usages.len() >= 12);
    for usage in usages {
        let account = trace.account(usage.pid)?;
        ensure!(
            (account.min_flt, account.maj_flt) == (usage.minor, usage.major),
            "{:?}: minor {}, major {} says wait4, not {account:?}",
            usage.name,
            usage.minor,
            usage.major
        );
    }
    Ok(())
}

/// Where the kernel touches no page on the process's behalf, nothing is left to explain.
#[test]
fn every_fault_of_a_simple_child_is_seen() -> Result<()> {
    let trace = Trace::run(["usage"])?;
    for name in [
        "does nothing",
        "writes fresh pages",
        "writes inherited pages",
        "reads, then writes fresh pages",
        "shares memory",
        "has the kernel write its pages",
    ] {
        let usage = trace.usages()?.into_iter().find(|usage| usage.name == name);
        let Some(usage) = usage else {
            anyhow::bail!("the subject reports no {name:?}")
        };
        let account = trace.account(usage.pid)?;
        ensure!(account.unobserved == 0, "{name}: {account:?}");
    }
    Ok(())
}

#[test]
fn the_summary_counts_the_same_without_events() -> Result<()> {
    let trace = Memtrace::new()?
        .options(["--summary"])
        .trace([subject("usage")])?;
    ensure!(
        trace.events.is_empty(),
        "{} events in a summary",
        trace.events.len()
    );
    for usage in trace.usages()? {
        let account = trace.account(usage.pid)?;
        ensure!(
            (account.min_flt, account.maj_flt) == (usage.minor, usage.major),
            "{usage:?} is not {account:?}"
        );
        let faults = |kind: &str| account.faults.get(kind).copied().unwrap_or(0);
        let (kind, at_least) = match usage.name.as_str() {
            "writes fresh pages" => ("zero-fill", 300),
            "writes inherited pages" => ("cow-copy", 200),
            "reads, then writes fresh pages" => ("cow-zero", 100),
            "shares memory" => ("shm-fill", 100),
            "has the kernel write its pages" => ("cow-copy", 50),
            _ => continue,
        };
        let count = faults(kind);
        ensure!(
            (at_least..at_least + 40).contains(&count),
            "{count} {kind} of {usage:?}: {account:?}"
        );
    }
    Ok(())
}
