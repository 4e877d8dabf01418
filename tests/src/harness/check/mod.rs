//! What holds for every trace.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::event::{Account, Fault, Life};
use super::trace::Trace;

pub(super) mod sharing;
#[cfg(test)]
mod tests;

const KINDS: [&str; 18] = [
    "zero-read",
    "zero-fill",
    "cow-copy",
    "cow-reuse",
    "cow-zero",
    "file-map",
    "file-read",
    "file-cow",
    "shared-write",
    "shm-fill",
    "swap-in",
    "uffd-fill",
    "numa-hint",
    "uffd-wp",
    "special-map",
    "invalid",
    "spurious",
    "other",
];

const REGIONS: [&str; 13] = [
    "text",
    "rodata",
    "data",
    "bss",
    "heap",
    "stack",
    "thread-stack",
    "anon",
    "file",
    "lib",
    "shm",
    "vdso",
    "unmapped",
];

/// Whatever was traced, with whatever options.
pub(super) fn always(trace: &Trace) -> Result<()> {
    ensure!(trace.start.schema == 1, "schema {}", trace.start.schema);
    ensure!(
        !trace.start.kernel.is_empty()
            && trace.start.command.is_empty() != trace.start.attached.is_empty(),
        "{:?}",
        trace.start
    );
    ensure!(
        trace.end.lost.values().all(|&count| count == 0),
        "lost: {:?}",
        trace.end.lost
    );
    // Of any task, so that a trace may be whole all the same: who reads of a failure shall know.
    if !trace.end.missed.is_empty() {
        eprintln!("the kernel left out hooks: {:?}", trace.end.missed);
    }
    for pair in trace.events.windows(2) {
        ensure!(
            pair[0].ts <= pair[1].ts,
            "out of order: {} then {}",
            pair[0].line,
            pair[1].line
        );
    }
    for (event, fault) in trace.faults() {
        well_formed(fault).with_context(|| event.line.to_string())?;
    }
    for account in trace.end.processes.iter().chain([&trace.end.total]) {
        ensure!(
            account
                .faults
                .keys()
                .all(|kind| KINDS.contains(&kind.as_str())),
            "{account:?}"
        );
        let named: i64 = account.unobserved_by.values().sum();
        ensure!(
            named == account.unobserved,
            "what is named doesn't add up to `unobserved`: {account:?}"
        );
        ensure!(
            account.unobserved >= 0,
            "more counted faults than the kernel has: {account:?}"
        );
    }
    lives(&trace.end.tasks)?;
    total(trace)?;
    sharing::always(trace)
}

/// Lives are numbered in the order of births, and each parent was born before.
fn lives(lives: &[Life]) -> Result<()> {
    for (at, life) in lives.iter().enumerate() {
        ensure!(life.number == at + 1, "the number of the life: {life:?}");
        let Some(parent) = life.parent_number else {
            continue;
        };
        let parent = lives[..at]
            .get(parent.wrapping_sub(1))
            .with_context(|| format!("no such parent: {life:?}"))?;
        ensure!(
            life.parent == Some(parent.tid)
                || life.parent.is_some() && life.parent == parent.born_tid,
            "another parent: {life:?}, {parent:?}"
        );
        ensure!(parent.from <= life.from, "born before its parent: {life:?}");
    }
    Ok(())
}

fn well_formed(fault: &Fault) -> Result<()> {
    ensure!(KINDS.contains(&fault.kind.as_str()), "an unknown kind");
    // Where a mapping is changed at the very moments at which it is looked for, memtrace says so.
    let unreadable = fault.region == "unknown" && fault.kind == "other";
    ensure!(
        unreadable || REGIONS.contains(&fault.region.as_str()),
        "an unknown region"
    );
    ensure!(
        ["user", "kernel", "gup"].contains(&fault.mode.as_str()),
        "an unknown mode"
    );
    ensure!(
        fault
            .counted
            .as_ref()
            .is_none_or(|counted| counted == "minor" || counted == "major"),
        "an unknown way of counting"
    );
    ensure!(
        (fault.region == "lib") == fault.part.is_some(),
        "a part goes with a library, and only there"
    );
    ensure!(
        fault.region != "lib" || fault.file.is_some(),
        "a library without a file"
    );
    ensure!(
        fault.file.is_some() || fault.offset.is_none(),
        "an offset without a file"
    );
    if fault.kind != "invalid" && fault.pfn_after.is_some() {
        ensure!(
            fault.region != "unmapped",
            "a page was mapped where nothing is"
        );
    }
    match fault.kind.as_str() {
        "cow-copy" => ensure!(
            fault.pfn_before.is_some()
                && (fault.pfn_after.is_some() || fault.detail.is_some())
                && fault.pfn_before != fault.pfn_after,
            "a copy goes from one frame to another, but for one that nobody could see any more"
        ),
        "cow-reuse" => {
            ensure!(
                fault.pfn_before.is_some() && fault.pfn_before == fault.pfn_after,
                "the frame stays"
            );
        }
        "zero-fill" | "file-map" | "file-read" | "file-cow" | "shm-fill" => {
            ensure!(fault.pfn_before.is_none(), "nothing was mapped before");
        }
        _ => {}
    }
    Ok(())
}

/// The total is the sum of the processes.
fn total(trace: &Trace) -> Result<()> {
    let total = &trace.end.total;
    let sum = |of: fn(&Account) -> i64| trace.end.processes.iter().map(of).sum::<i64>();
    let mut faults = BTreeMap::new();
    for (kind, count) in trace
        .end
        .processes
        .iter()
        .flat_map(|account| &account.faults)
    {
        *faults.entry(kind.clone()).or_insert(0) += count;
    }
    ensure!(
        sum(|account| account.min_flt) == total.min_flt
            && sum(|account| account.maj_flt) == total.maj_flt
            && sum(|account| account.unobserved) == total.unobserved
            && without_zeros(&faults) == without_zeros(&total.faults),
        "the total isn't the sum: {total:?}"
    );
    Ok(())
}

/// In a complete trace: the account of each process is what its events say, and the kernel's count is explained.
pub(super) fn accounts(trace: &Trace) -> Result<()> {
    let mut seen: BTreeMap<i32, (BTreeMap<String, u64>, i64, i64)> = BTreeMap::new();
    for (event, fault) in trace.faults() {
        let (kinds, minor, major) = seen.entry(event.pid).or_default();
        *kinds.entry(fault.kind.clone()).or_insert(0) += 1;
        match fault.counted.as_deref() {
            Some("minor") => *minor += 1,
            Some("major") => *major += 1,
            _ => {}
        }
    }
    for account in &trace.end.processes {
        let (kinds, minor, major) = seen.remove(&account.pid).unwrap_or_default();
        ensure!(
            kinds == without_zeros(&account.faults),
            "by kind the events say {kinds:?}: {account:?}"
        );
        ensure!(
            minor <= account.min_flt
                && major <= account.maj_flt
                && minor + major + account.unobserved == account.min_flt + account.maj_flt,
            "{minor} minor and {major} major faults among the events: {account:?}"
        );
    }
    ensure!(seen.is_empty(), "faults without an account: {seen:?}");
    let unseen = &trace.end.total.unobserved_by;
    ensure!(
        unseen.is_empty() || trace.start.backend != "fentry",
        "fentry sees every fault: {unseen:?}"
    );
    sharing::accounts(trace)
}

fn without_zeros(counts: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| (kind.clone(), *count))
        .collect()
}
