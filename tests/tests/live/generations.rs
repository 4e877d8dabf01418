//! Fork of fork of fork: the accounts and causes are what the processes' own frames say, to the page.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use memtrace_events::{Area, CowCause, Events, FaultKind, ForkAccount, Region};
use tests::harness::truth::{Cause, Copied, Fork, Truth};
use tests::harness::{Trace, without};
use tests::subject::memory::PAGE;
use tests::subject::report::{Act, Action, Fact};

#[test]
fn every_account_is_what_the_frames_say() -> Result<()> {
    let (trace, truth) = generations(["generations"])?;
    assert_eq!(truth.forks.len(), 4);
    let copied_at_once = truth.forks.iter().any(|fork| {
        let mut outcomes = fork.outcomes.values();
        outcomes.any(|outcome| outcome.at_once > 0)
    });
    ensure!(
        copied_at_once || without(&trace, "pins"),
        "no page was copied by a fork itself"
    );
    accounts(&trace, &truth)
}

#[test]
fn whatever_a_family_does() -> Result<()> {
    for seed in ["1", "2", "3", "4", "5", "6"] {
        let (trace, truth) = generations(["generations", seed])?;
        accounts(&trace, &truth).with_context(|| format!("seed {seed}"))?;
        causes(&trace, &truth).with_context(|| format!("seed {seed}"))?;
        sizes(&trace, &truth).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

fn accounts(trace: &Trace, truth: &Truth) -> Result<()> {
    assert_eq!(trace.end.forks.len(), truth.forks.len());
    for (i, fork) in truth.forks.iter().enumerate() {
        let account = trace.fork(i as u32 + 1)?;
        let context = || format!("{account:#?}\nis not {fork:#?}");
        ensure!(
            (account.parent, account.child) == (fork.parent, fork.child),
            context()
        );
        ensure!(account.execed == fork.exec.is_some(), context());
        let mut at_once = 0;
        for (file, outcome) in &fork.outcomes {
            at_once += outcome.at_once;
            let Some(file) = file else { continue };
            let areas: Vec<_> = account
                .areas
                .iter()
                .filter(|area| area.file.as_deref() == Some(&**file))
                .collect();
            let [area] = areas[..] else {
                anyhow::bail!("{} areas of {file}: {}", areas.len(), context());
            };
            ensure!(area.region == Region::File, context());
            ensure!(
                (area.pages, area.copied, area.taken_over, area.given_up)
                    == (
                        outcome.pages,
                        outcome.copied(),
                        outcome.taken_over,
                        outcome.given_up()
                    ),
                context()
            );
            ensure!((area.still_shared, area.unknown) == (0, 0), context());
        }
        ensure!(account.at_once == at_once, context());
        rest(trace, truth, i, fork, account).with_context(context)?;
        counts(trace, fork, account).with_context(context)?;
    }
    Ok(())
}

/// Anonymous memory is not the subject's alone: the C library has some, too, as stacks for threads that may come. All
/// beside the subject's pages is as much as the events say.
fn rest(trace: &Trace, truth: &Truth, i: usize, fork: &Fork, account: &ForkAccount) -> Result<()> {
    const ANONYMOUS: [Region; 2] = [Region::Anon, Region::ThreadStack];
    let outcome = fork.outcomes.get(&None).context("no anonymous memory")?;
    let is_anon = |area: &&Area| ANONYMOUS.contains(&area.region);
    let areas: Vec<_> = account.areas.iter().filter(is_anon).collect();
    let sum = |of: fn(&Area) -> u64| areas.iter().map(|area| of(area)).sum::<u64>();
    let own = told(truth);
    let copies = trace.faults().filter(|(_, fault)| {
        let fork = fault.cause.as_ref().and_then(|cause| cause.fork.as_ref());
        fork.is_some_and(|fork| fork.number as usize == i + 1) && ANONYMOUS.contains(&fault.region)
    });
    let elsewhere: Vec<_> = copies
        .filter(|(event, fault)| !own.contains(&key(event.tid, fault.addr.0, fault.pfn_after)))
        .collect();
    ensure!(
        account.copied_again > 0
            || sum(|area| area.copied) == outcome.copied() + elsewhere.len() as u64,
        "and {} elsewhere: {elsewhere:#?}",
        elsewhere.len()
    );
    ensure!(
        sum(|area| area.pages) >= outcome.pages
            && sum(|area| area.taken_over) >= outcome.taken_over
            && sum(|area| area.given_up) >= outcome.given_up(),
        "less than the subject's own"
    );
    Ok(())
}

/// Who copied, by the events; and how what was given up was.
fn counts(trace: &Trace, fork: &Fork, account: &ForkAccount) -> Result<()> {
    ensure!(
        account.unknown == 0 && account.still_shared == 0,
        "there are some left"
    );
    let all = fork.outcomes.values();
    let sum = |of: fn(&tests::harness::truth::Outcome) -> u64| all.clone().map(of).sum::<u64>();
    ensure!(
        account.given_up.munmap >= sum(|outcome| outcome.munmap)
            && account.given_up.exec >= sum(|outcome| outcome.exec)
            && account.given_up.exit >= sum(|outcome| outcome.exit)
            && account.copied_again >= sum(|outcome| outcome.copied_again),
        "less than the subject's own"
    );

    let exec = trace.execs().find(|(event, _)| event.pid == fork.child);
    let (mut by_child, mut by_parent, mut by_others, mut before_exec) = (0, 0, 0, 0);
    for (event, fault) in trace.faults() {
        let cause = fault.cause.as_ref().and_then(|cause| cause.fork.as_ref());
        if cause.is_some_and(|cause| cause.number == account.number) {
            match event.pid {
                pid if pid == fork.child => by_child += 1,
                pid if pid == fork.parent => by_parent += 1,
                _ => by_others += 1,
            }
            before_exec += u64::from(exec.is_some_and(|(exec, _)| event.ts < exec.ts));
        }
    }
    if account.copied_again == 0 {
        ensure!(
            (account.by_child, account.by_parent, account.by_others)
                == (by_child, by_parent, by_others),
            "the events say {by_child} by the child, {by_parent} by the parent, {by_others} by others"
        );
        ensure!(
            account.before_exec == before_exec,
            "the events say {before_exec} before the exec"
        );
    }
    Ok(())
}

#[test]
fn every_copy_names_its_fork_and_the_sharers() -> Result<()> {
    let (trace, truth) = generations(["generations"])?;
    ensure!(truth.copies.len() > 250, "{} copies", truth.copies.len());
    causes(&trace, &truth)
}

fn causes(trace: &Trace, truth: &Truth) -> Result<()> {
    for copied in &truth.copies {
        caused(trace, copied).with_context(|| format!("{copied:?}"))?;
    }
    // While a process is at it, nothing else happens in these areas.
    let own = told(truth);
    for act in trace.facts.iter().filter_map(act) {
        for (event, fault) in trace.faults() {
            let is_meant = event.tid == act.tid
                && (act.from..act.until).contains(&event.ts)
                && fault.kind == FaultKind::CowCopy
                && truth.has(fault.addr.0);
            ensure!(
                !is_meant || own.contains(&key(event.tid, fault.addr.0, fault.pfn_after)),
                "there was no such copy: {event:?}"
            );
        }
    }
    Ok(())
}

/// The copies of the subject's own pages.
fn told(truth: &Truth) -> BTreeSet<(u32, u64, Option<u64>)> {
    let copies = truth.copies.iter();
    copies
        .map(|copied| key(copied.tid, copied.addr, Some(copied.after)))
        .collect()
}

fn key(tid: u32, addr: u64, frame: Option<u64>) -> (u32, u64, Option<u64>) {
    (tid, addr / PAGE as u64, frame)
}

fn act(fact: &Fact) -> Option<&Act> {
    match fact {
        Fact::Act(act) => Some(act),
        _ => None,
    }
}

fn caused(trace: &Trace, copied: &Copied) -> Result<()> {
    let (event, fault) = trace.copy(copied)?;
    let line = || format!("{event:?}");
    ensure!(
        (fault.pfn_before, fault.pfn_after) == (Some(copied.before), Some(copied.after)),
        line()
    );
    let cause = fault.cause.as_ref().context("no cause")?;
    let number = match &copied.cause {
        Cause::PageCache => {
            ensure!(cause.cause == CowCause::PageCache, line());
            return Ok(());
        }
        Cause::Fork(number, sharers) => {
            ensure!(cause.cause == CowCause::Fork, line());
            let told: BTreeSet<_> = cause.sharers.iter().collect();
            ensure!(told == sharers.iter().collect(), line());
            ensure!(cause.sharer_count as usize == sharers.len(), line());
            // The writer has a mapping of its own.
            ensure!(cause.map_count == Some(sharers.len() as u32 + 1), line());
            number
        }
        Cause::Reference(number) => {
            ensure!(
                cause.cause == CowCause::Reference && cause.sharers.is_empty(),
                line()
            );
            ensure!(cause.map_count == Some(1), line());
            number
        }
    };
    let account = trace.fork(*number as u32)?;
    let fork = cause.fork.as_ref().with_context(line)?;
    ensure!(
        (fork.number, fork.parent, fork.child) == (account.number, account.parent, account.child),
        line()
    );
    ensure!(
        account.ts + fork.ago + fault.late == event.ts,
        "{}; {account:?}",
        line()
    );
    Ok(())
}

#[test]
fn what_a_fork_copies_is_what_the_child_finds() -> Result<()> {
    let (trace, truth) = generations(["generations"])?;
    sizes(&trace, &truth)
}

fn sizes(trace: &Trace, truth: &Truth) -> Result<()> {
    for fork in &truth.forks {
        let (event, clone) = trace
            .clones()
            .find(|(_, clone)| clone.child_pid == fork.child)
            .context("no clone event")?;
        let copied = clone.copied.as_ref().context("nothing copied")?;
        let mut filled = BTreeSet::new();
        let mut tables = BTreeSet::new();
        for (_, fault) in trace
            .faults()
            .filter(|(event, _)| event.pid == fork.child && event.ts < fork.until)
        {
            let is_new = match fault.kind {
                FaultKind::ZeroFill | FaultKind::FileCow | FaultKind::CowZero => true,
                _ => fault
                    .cause
                    .as_ref()
                    .is_some_and(|cause| cause.cause == CowCause::PageCache),
            };
            if is_new {
                filled.insert(fault.addr.0 / PAGE as u64);
            }
            // A page can want a table of each level.
            tables.extend([21, 30, 39].map(|level| (level, fault.addr.0 >> level)));
        }
        let context = || format!("{event:?}: {fork:?}, and {filled:x?} was new");
        ensure!(
            copied.pages + filled.len() as u64 == fork.private,
            context()
        );
        ensure!(copied.table_bytes <= fork.table_bytes, context());
        ensure!(
            copied.table_bytes + (tables.len() * PAGE) as u64 >= fork.table_bytes,
            context()
        );
        assert_eq!(copied.swapped, 0, "{event:?}");
    }
    Ok(())
}

fn generations<const N: usize>(words: [&str; N]) -> Result<(Trace, Truth)> {
    let trace = Trace::run(words)?;
    let mut truth = Truth::of(trace.note("areas")?)?;
    for act in trace.facts.iter().filter_map(act) {
        truth.add(act).with_context(|| in_short(act))?;
    }
    Ok((trace, truth))
}

fn in_short(act: &Act) -> String {
    let Act {
        deed, pid, pages, ..
    } = act;
    let at = pages.first().map_or(0, |(addr, ..)| *addr);
    match deed {
        Action::Fork { parent, .. } => format!("fork of {pid} by {parent}"),
        _ => format!("{deed:?} of {} pages from {at:#x} by {pid}", pages.len()),
    }
}

#[test]
fn a_family_that_writes_all_at_once() -> Result<()> {
    let trace = Trace::run(["storm"])?;
    let mut copies = 0;
    for fact in &trace.facts {
        let Fact::Act(act) = fact else { continue };
        for &(addr, before, after) in &act.pages {
            let frames = [before, after].map(|frame| frame.map(|frame| frame.number));
            let found: Vec<_> = trace
                .faults()
                .filter(|(event, fault)| {
                    event.pid == act.pid
                        && fault.kind == FaultKind::CowCopy
                        && fault.addr.0 / PAGE as u64 == addr / PAGE as u64
                })
                .collect();
            let is_copied = frames[0] != frames[1];
            ensure!(
                found.len() == usize::from(is_copied),
                "{addr:#x}: {frames:?}, {found:?}"
            );
            for (event, fault) in found {
                ensure!([fault.pfn_before, fault.pfn_after] == frames, "{event:?}");
                copies += 1;
            }
        }
    }
    ensure!(copies > 500, "{copies} copies");
    for account in &trace.end.forks {
        ensure!(
            (account.unknown, account.still_shared) == (0, 0),
            "{account:?}"
        );
    }
    Ok(())
}

#[test]
fn a_family_of_threads_that_do_things_all_at_once() -> Result<()> {
    for _ in 0..5 {
        let trace = Trace::run(["storm", "threads"])?;
        assert_eq!(trace.end.forks.len(), 14);
        for account in &trace.end.forks {
            ensure!(
                (account.unknown, account.still_shared) == (0, 0),
                "{account:?}"
            );
        }
    }
    Ok(())
}
