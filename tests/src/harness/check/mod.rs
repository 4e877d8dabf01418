//! What holds for every trace.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use memtrace_events::{Account, Counted, Events, Fault, FaultKind, Name, Region, TaskLifetime};

use super::{run::Run, trace::Trace};
use crate::subject::report::Fact;

mod sharing;
#[cfg(test)]
mod tests;

impl Trace {
    /// Reads the lines, and checks what holds for every trace: the first and the last line, the order, nothing lost.
    pub(super) fn read(json: &str, facts: Vec<Fact>, run: Run) -> Result<Self> {
        let trace = Self::unchecked(json, facts, run)?;
        always(&trace)?;
        Ok(trace)
    }

    /// Checks that the accounts add up. For a complete trace only: all events, all processes.
    pub fn check_accounts(&self) -> Result<()> {
        accounts(self)
    }

    /// Checks that the accounts of forks and the lives of tasks are what the events say. For a trace with all events.
    pub fn check_sharing(&self) -> Result<()> {
        sharing::accounts(self)
    }

    /// Checks what an attach tells of what was there. For a trace with all events, in which no id has come again.
    pub fn check_snapshot(&self) -> Result<()> {
        sharing::snapshot(self)
    }
}

/// Whatever was traced, with whatever options.
fn always(trace: &Trace) -> Result<()> {
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
            "out of order: {:?} then {:?}",
            pair[0],
            pair[1]
        );
    }
    for (event, fault) in trace.faults() {
        well_formed(fault).with_context(|| format!("{event:?}"))?;
    }
    let is_kind = |name: &str| FaultKind::ALL.iter().any(|kind| kind.name() == name);
    for account in trace.end.processes.iter().chain([&trace.end.total]) {
        ensure!(
            account.faults.keys().all(|name| is_kind(name)),
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
fn lives(lives: &[TaskLifetime]) -> Result<()> {
    for (at, life) in lives.iter().enumerate() {
        ensure!(
            life.number as usize == at + 1,
            "the number of the life: {life:?}"
        );
        let Some(parent) = life.parent_number else {
            continue;
        };
        let parent = lives[..at]
            .get((parent as usize).wrapping_sub(1))
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
    // Where a mapping is changed at the very moments at which it is looked for, memtrace says so.
    ensure!(
        fault.region != Region::Unknown || fault.kind == FaultKind::Other,
        "an unknown region"
    );
    ensure!(
        (fault.region == Region::Lib) == fault.part.is_some(),
        "a part goes with a library, and only there"
    );
    ensure!(
        fault.region != Region::Lib || fault.file.is_some(),
        "a library without a file"
    );
    ensure!(
        fault.file.is_some() || fault.offset.is_none(),
        "an offset without a file"
    );
    if fault.kind != FaultKind::Invalid && fault.pfn_after.is_some() {
        ensure!(
            fault.region != Region::Unmapped,
            "a page was mapped where nothing is"
        );
    }
    match fault.kind {
        FaultKind::CowCopy => ensure!(
            fault.pfn_before.is_some()
                && (fault.pfn_after.is_some() || fault.detail.is_some())
                && fault.pfn_before != fault.pfn_after,
            "a copy goes from one frame to another, but for one that nobody could see any more"
        ),
        FaultKind::CowReuse => {
            ensure!(
                fault.pfn_before.is_some() && fault.pfn_before == fault.pfn_after,
                "the frame stays"
            );
        }
        FaultKind::ZeroFill
        | FaultKind::FileMap
        | FaultKind::FileRead
        | FaultKind::FileCow
        | FaultKind::ShmFill => {
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
        sum(|account| account.min_flt as i64) == total.min_flt as i64
            && sum(|account| account.maj_flt as i64) == total.maj_flt as i64
            && sum(|account| account.unobserved) == total.unobserved
            && without_zeros(&faults) == without_zeros(&total.faults),
        "the total isn't the sum: {total:?}"
    );
    Ok(())
}

/// In a complete trace: the account of each process is what its events say, and the kernel's count is explained.
fn accounts(trace: &Trace) -> Result<()> {
    let mut seen: BTreeMap<u32, (BTreeMap<Name, u64>, u64, u64)> = BTreeMap::new();
    for (event, fault) in trace.faults() {
        let (kinds, minor, major) = seen.entry(event.pid).or_default();
        *kinds.entry(fault.kind.name().into()).or_insert(0) += 1;
        match fault.counted {
            Some(Counted::Minor) => *minor += 1,
            Some(Counted::Major) => *major += 1,
            None => {}
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
                && (minor + major) as i64 + account.unobserved
                    == (account.min_flt + account.maj_flt) as i64,
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

fn without_zeros(counts: &BTreeMap<Name, u64>) -> BTreeMap<Name, u64> {
    counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| (kind.clone(), *count))
        .collect()
}
