//! What holds for every trace about who shares what, and about the accounts of forks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use memtrace_events::{
    Area, By, Clone, Cloned, CowCause, EventKind, Events, Fault, FaultKind, ForkAccount,
    ObjectKind, Obtained, Row, Share, TaskLifetime, Unshare,
};

use crate::harness::trace::Trace;
use crate::subject::memory::PAGE;

/// Whatever was traced, with whatever options.
pub(super) fn always(trace: &Trace) -> Result<()> {
    for event in &trace.events {
        match &event.what {
            EventKind::Fault(fault) => {
                let owner = fault.handled.as_ref().and_then(|handled| handled.owner);
                cause(owner.unwrap_or(event.pid), fault)
            }
            EventKind::Clone(clone) => matrix(clone),
            EventKind::Cloned(cloned) => returned(cloned),
            EventKind::Share(share) => joined(event.tid, share),
            EventKind::Unshare(unshare) => left(event.tid, unshare),
            _ => Ok(()),
        }
        .with_context(|| format!("{event:?}"))?;
    }
    let mut numbers = BTreeSet::new();
    for account in &trace.end.forks {
        adds_up(account).with_context(|| format!("{account:?}"))?;
        ensure!(numbers.insert(account.number), "two accounts: {account:?}");
    }
    for life in &trace.end.tasks {
        uses(life).with_context(|| format!("{life:?}"))?;
    }
    Ok(())
}

/// The cause of a copy, of the memory of `owner`.
fn cause(owner: u32, fault: &Fault) -> Result<()> {
    let Some(cause) = &fault.cause else {
        ensure!(fault.kind != FaultKind::CowCopy, "a copy without a cause");
        return Ok(());
    };
    ensure!(
        fault.kind == FaultKind::CowCopy,
        "a cause, and nothing was copied"
    );
    let can_be_forks = match cause.cause {
        CowCause::Fork => [true, true],
        // Since a fork, or for another reason.
        CowCause::Reference => [false, true],
        CowCause::ForkBefore | CowCause::PageCache | CowCause::Ksm | CowCause::Unknown => {
            [false, false]
        }
    };
    ensure!(
        can_be_forks.contains(&cause.fork.is_some()),
        "a fork goes with a copy that it caused"
    );
    ensure!(
        cause.sharers.len() <= cause.sharer_count as usize
            && cause.sharers.is_empty() == (cause.sharer_count == 0),
        "sharers and their count"
    );
    ensure!(
        !cause.sharers.contains(&owner),
        "the owner among the others"
    );
    ensure!(
        cause.cause != CowCause::Reference || cause.sharer_count == 0,
        "shared, and yet copied for a reference's sake alone"
    );
    ensure!(
        cause
            .map_count
            .is_none_or(|count| (1..1 << 24).contains(&count)),
        "the writer mapped it at least, and no machine has that many page tables"
    );
    Ok(())
}

fn matrix(clone: &Clone) -> Result<()> {
    for (kind, row) in &clone.objects.0 {
        ensure!(row.got == got(row), "{kind:?}: {row:?}");
    }
    for (part, is_shared) in clone.shared.parts() {
        if let Some(row) = clone.objects.get(part) {
            ensure!(
                is_shared == (row.got == Obtained::Shared),
                "{part:?}: {row:?}"
            );
        }
    }
    let mm = clone.objects.get(ObjectKind::Mm);
    let has_own_memory = mm.is_some_and(|row| row.got == Obtained::Own);
    ensure!(
        clone.fork.is_some() == has_own_memory && clone.copied.is_some() == has_own_memory,
        "a fork is what copies the address space"
    );
    Ok(())
}

fn got(row: &Row) -> Obtained {
    match (row.parent, row.child) {
        (_, None) => Obtained::None,
        (parent, child) if parent == child => Obtained::Shared,
        _ => Obtained::Own,
    }
}

fn returned(cloned: &Cloned) -> Result<()> {
    ensure!(cloned.dur > 0, "it took no time");
    ensure!(
        cloned.held.is_some() == cloned.let_go.is_some(),
        "held, and let go by something"
    );
    Ok(())
}

fn joined(tid: u32, share: &Share) -> Result<()> {
    ensure!(!share.objects.0.is_empty(), "nothing is shared");
    for (kind, object) in &share.objects.0 {
        others(tid, *kind, &object.with, object.with_count)?;
    }
    Ok(())
}

fn left(tid: u32, unshare: &Unshare) -> Result<()> {
    ensure!(!unshare.objects.0.is_empty(), "nothing was shared");
    for (kind, object) in &unshare.objects.0 {
        ensure!(object.now != Some(object.number), "{kind:?}: {object:?}");
        others(tid, *kind, &object.with, object.with_count)?;
    }
    Ok(())
}

fn others(tid: u32, kind: ObjectKind, with: &[u32], count: u32) -> Result<()> {
    ensure!(
        !with.is_empty() && with.len() <= count as usize && !with.contains(&tid),
        "{kind:?}: shared with {with:?}, {count} in all"
    );
    Ok(())
}

fn adds_up(account: &ForkAccount) -> Result<()> {
    let given_up = account.given_up.exec + account.given_up.exit + account.given_up.munmap;
    let copies = account.by_child + account.by_parent + account.by_others;
    ensure!(
        account.pages
            == copies
                + account.at_once
                + account.taken_over
                + given_up
                + account.still_shared
                + account.unknown,
        "it doesn't add up"
    );
    ensure!(
        account.before_exec <= copies && (account.execed || account.before_exec == 0),
        "copies before an exec"
    );
    let sum = |of: fn(&Area) -> u64| account.areas.iter().map(of).sum::<u64>();
    ensure!(
        sum(|area| area.pages) == account.pages
            && sum(|area| area.copied) == copies + account.at_once
            && sum(|area| area.taken_over) == account.taken_over
            && sum(|area| area.given_up) == given_up
            && sum(|area| area.still_shared) == account.still_shared
            && sum(|area| area.unknown) == account.unknown,
        "the areas don't add up"
    );
    Ok(())
}

/// A task uses one object of a kind at a time, and none when it has ended.
fn uses(life: &TaskLifetime) -> Result<()> {
    let mut last: BTreeMap<ObjectKind, Option<u64>> = BTreeMap::new();
    for object in &life.uses {
        ensure!(
            object.from >= life.from && object.until.is_none_or(|until| until >= object.from),
            "{object:?}"
        );
        if let Some(before) = last.insert(object.kind, object.until) {
            ensure!(
                before.is_some_and(|before| before <= object.from),
                "two at once: {object:?}"
            );
        }
    }
    ensure!(
        last.values()
            .all(|until| life.until.is_none()
                || until.is_some_and(|until| Some(until) <= life.until)),
        "used after its end"
    );
    Ok(())
}

/// In a complete trace: each fork has its account, and it is what the events say.
pub(super) fn accounts(trace: &Trace) -> Result<()> {
    let mut copies: BTreeMap<u32, u64> = BTreeMap::new();
    for (_, fault) in trace.faults() {
        if let Some(fork) = fault.cause.as_ref().and_then(|cause| cause.fork) {
            // Pages are counted as 4 KiB each.
            *copies.entry(fork.number).or_insert(0) += fault.page_size / PAGE as u64;
        }
    }
    let returns: BTreeMap<_, _> = trace
        .cloned()
        .filter_map(|(_, cloned)| Some((cloned.fork?, (cloned.child_pid, cloned.dur))))
        .collect();
    let mut accounts: BTreeMap<_, _> = trace
        .end
        .forks
        .iter()
        .map(|account| (account.number, account))
        .collect();
    let mut number = 0;
    for (event, clone) in trace.clones() {
        let Some(fork) = clone.fork else { continue };
        number += 1;
        ensure!(fork == number, "number {number}: {event:?}");
        let account = accounts
            .remove(&fork)
            .with_context(|| format!("no account: {event:?}"))?;
        let context = || format!("{account:?} is not {event:?}");
        ensure!(
            (account.ts, account.parent, account.child) == (event.ts, event.pid, clone.child_pid),
            context()
        );
        let told = clone.copied.as_ref().with_context(context)?;
        // Pages that were not surveyed are told of by their faults.
        let pages = match (account.not_surveyed, told.not_surveyed) {
            (None, None) => account.pages == told.pages,
            (Some(rest), Some(at_fork)) => rest.from == at_fork.from && account.pages >= told.pages,
            _ => false,
        };
        ensure!(
            pages
                && account.at_once == told.at_once
                && (account.swapped, account.table_bytes) == (told.swapped, told.table_bytes),
            context()
        );
        let returned = account.dur.map(|dur| (account.child, dur));
        ensure!(
            returns.get(&fork).copied() == returned,
            "it has returned otherwise: {account:?}"
        );
        let seen = copies.remove(&fork).unwrap_or(0);
        ensure!(
            seen == account.by_child + account.by_parent + account.by_others + account.copied_again,
            "{seen} copies among the events: {account:?}"
        );
    }
    ensure!(accounts.is_empty(), "no such forks: {accounts:?}");
    ensure!(copies.is_empty(), "copies of no fork: {copies:?}");
    ensure!(trace.end.tasks_left_out == 0, "tasks are left out");
    changes(trace)
}

/// Of an attach: each process that was attached to has its memory in the snapshot, and no task is told of as there and
/// as born, or twice.
pub(super) fn snapshot(trace: &Trace) -> Result<()> {
    // One that ends while it is looked at may have had no time to show its memory.
    let ended: BTreeSet<_> = trace.exits().map(|(event, _)| event.pid).collect();
    let stay = trace
        .start
        .attached
        .iter()
        .filter(|pid| !ended.contains(*pid));
    for &pid in stay {
        let mut mmaps = trace.mmaps();
        ensure!(
            mmaps.any(|(event, mmap)| event.pid == pid && mmap.by == By::Attach),
            "no memory of {pid}"
        );
        let (event, first) = trace
            .tasks()
            .find(|(event, _)| event.tid == pid)
            .with_context(|| format!("no first thread of {pid}"))?;
        ensure!(
            first.resident.is_some_and(|pages| pages > 0)
                && first.private.is_some_and(|pages| pages > 0),
            "{event:?}"
        );
    }
    let mut tids = BTreeSet::new();
    for (event, _) in trace.tasks() {
        ensure!(tids.insert(event.tid), "twice: {event:?}");
    }
    for (event, clone) in trace.clones() {
        ensure!(!tids.contains(&clone.child_tid), "there already: {event:?}");
    }
    Ok(())
}

/// Each `unshare` is the end of a use of the object, and each task that was made has its life.
fn changes(trace: &Trace) -> Result<()> {
    for (event, unshare) in trace.unshares() {
        for (kind, object) in &unshare.objects.0 {
            let is_known = trace.lives(event.tid).any(|life| {
                life.uses.iter().any(|one| {
                    one.kind == *kind
                        && (one.number, one.from, one.until)
                            == (object.number, object.since, Some(event.ts))
                })
            });
            ensure!(is_known, "{kind:?}: no such use at the end: {event:?}");
        }
    }
    for (event, clone) in trace.clones().filter(|(_, clone)| clone.followed) {
        let is_sibling = clone.flags.iter().any(|flag| &**flag == "CLONE_PARENT") && !clone.thread;
        let is_known = trace.end.tasks.iter().any(|life| {
            life.from == event.ts
                && life.born_tid.unwrap_or(life.tid) == clone.child_tid
                && (is_sibling || life.parent == Some(event.tid))
        });
        ensure!(is_known, "no life: {event:?}");
    }
    Ok(())
}
