//! Forks in less usual surroundings: memory that processes share, ids that come again, huge pages, KSM.

use anyhow::{Context, Result, ensure};
use memtrace_events::{Area, CowCause, Events, FaultKind, Region};
use tests::harness::truth::{Cause, Truth};
use tests::harness::{Memtrace, Trace, subject};
use tests::subject::report::Fact;

#[test]
fn processes_that_share_their_memory() -> Result<()> {
    let trace = Trace::run(["couples"])?;
    let who = trace.note("couple")?;
    let pid = |name: &str| {
        who[name]
            .as_u64()
            .map(|pid| pid as u32)
            .context("a process id")
    };
    let file = who["file"].as_str().context("a path")?;
    let (first, one, other, third) = (pid("first")?, pid("one")?, pid("other")?, pid("third")?);
    assert_eq!(trace.end.forks.len(), 2);

    // All that "other" does it does to the memory that the first fork made, also when "one" has ended.
    let fork = trace.fork(1)?;
    assert_eq!(
        (fork.parent, fork.child, fork.execed),
        (first, one, false),
        "{fork:?}"
    );
    let area = area(&fork.areas, file)?;
    // 0 to 20 by "other", 20 to 30 by the first, 35 to 40 by the third when it had nobody else; 40 to 50 taken over.
    assert_eq!(numbers(area), [100, 35, 10, 55, 0, 0], "{fork:?}");
    ensure!(
        fork.by_child >= 20 && fork.by_parent >= 10 && fork.by_others >= 5,
        "{fork:?}"
    );

    let fork = trace.fork(2)?;
    assert_eq!(
        (fork.parent, fork.child, fork.execed),
        (other, third, false),
        "{fork:?}"
    );
    let area = self::area(&fork.areas, file)?;
    // 30 to 35; and 0 to 3 when "other" had done exec.
    assert_eq!(numbers(area), [100, 5, 3, 92, 0, 0], "{fork:?}");
    ensure!(fork.given_up.exec >= 92, "{fork:?}");

    let sharers = |writer: u32, count: usize| -> Result<Vec<u32>> {
        let mut sharers = None;
        let copies = trace.faults().filter(|(event, fault)| {
            event.pid == writer
                && fault.kind == FaultKind::CowCopy
                && fault.file.as_deref() == Some(file)
        });
        for (event, fault) in copies {
            let cause = fault.cause.as_ref().context("no cause")?;
            ensure!(
                cause.sharer_count as usize == cause.sharers.len(),
                "{event:?}"
            );
            ensure!(cause.map_count.is_some_and(|count| count >= 2), "{event:?}");
            if cause.sharers.len() == count {
                sharers = Some(cause.sharers.clone());
            }
        }
        let mut sharers = sharers.with_context(|| format!("no copy of {writer} with {count}"))?;
        sharers.sort_unstable();
        Ok(sharers)
    };
    assert_eq!(sharers(other, 1)?, [first]);
    assert_eq!(
        sharers(first, 1)?,
        [other],
        "the memory is the other's alone"
    );
    let mut both = [first, other];
    both.sort_unstable();
    assert_eq!(sharers(third, 2)?, both);
    assert_eq!(sharers(third, 1)?, [first]);
    Ok(())
}

#[test]
fn a_process_id_that_comes_again() -> Result<()> {
    // Three rows for one id.
    let trace = Memtrace::new()?.trace([subject("again")])?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    let again = trace.note("again")?;
    let child = again["child"].as_u64().context("a process id")? as u32;
    let file = again["file"].as_str().context("a path")?;
    assert_eq!(trace.end.forks.len(), 3);
    for (i, fork) in trace.end.forks.iter().enumerate() {
        assert_eq!(
            (fork.number as usize, fork.child),
            (i + 1, child),
            "{fork:?}"
        );
        let area = area(&fork.areas, file)?;
        // Each writes ten pages and five, of which nobody has written since.
        assert_eq!(
            (area.pages, area.copied, area.given_up),
            (50, 15, 35),
            "{fork:?}"
        );
        ensure!((fork.unknown, fork.still_shared) == (0, 0), "{fork:?}");
    }
    let lives: Vec<_> = trace.lives(child).collect();
    assert_eq!(lives.len(), 3);
    for pair in lives.windows(2) {
        ensure!(
            pair[0].until.is_some_and(|until| until <= pair[1].from),
            "{pair:?}"
        );
    }
    let accounts = trace
        .end
        .processes
        .iter()
        .filter(|account| account.pid == child);
    assert_eq!(accounts.count(), 3);
    for (event, fault) in trace.faults().filter(|(event, _)| event.pid == child) {
        let Some(fork) = fault.cause.as_ref().and_then(|cause| cause.fork.as_ref()) else {
            continue;
        };
        let life = lives
            .get(fork.number as usize - 1)
            .context("no such life")?;
        ensure!(
            life.from <= event.ts && life.until.is_some_and(|until| event.ts <= until),
            "{event:?}"
        );
    }
    Ok(())
}

#[test]
fn huge_pages() -> Result<()> {
    let trace = Trace::run(["huge"])?;
    let mut truth = Truth::of(trace.note("areas")?)?;
    for fact in &trace.facts {
        if let Fact::Act(act) = fact {
            truth.add(act)?;
        }
    }
    ensure!(truth.copies.len() > 20, "{} copies", truth.copies.len());
    for copied in &truth.copies {
        let (event, fault) = trace.copy(copied)?;
        ensure!(
            (fault.pfn_before, fault.pfn_after) == (Some(copied.before), Some(copied.after)),
            "{event:?}"
        );
        let cause = fault.cause.as_ref().context("no cause")?;
        match &copied.cause {
            Cause::Fork(_, sharers) => {
                ensure!(
                    cause.cause == CowCause::Fork && cause.sharers == *sharers,
                    "{event:?}"
                );
                ensure!(cause.map_count == Some(2), "{event:?}");
            }
            Cause::Reference(_) => ensure!(cause.cause == CowCause::Reference, "{event:?}"),
            Cause::PageCache => anyhow::bail!("of no file"),
        }
    }
    let [fork] = &truth.forks[..] else {
        anyhow::bail!("{} forks", truth.forks.len())
    };
    let (_, clone) = trace.clones().next().context("no clone")?;
    let copied = clone.copied.as_ref().context("nothing copied")?;
    ensure!(copied.pages == fork.private, "{copied:?} is not {fork:?}");
    let account = trace.fork(1)?;
    let outcome = fork.outcomes.get(&None).context("no outcome")?;
    ensure!(
        account.unknown == 0 && account.pages >= 3 * 512,
        "{account:?}"
    );
    let areas = account
        .areas
        .iter()
        .filter(|area| area.region == Region::Anon);
    let copied: u64 = areas.map(|area| area.copied).sum();
    ensure!(copied >= outcome.copied(), "{account:?} is not {outcome:?}");
    Ok(())
}

#[test]
fn pages_that_ksm_has_merged() -> Result<()> {
    let trace = Trace::run(["merged"])?;
    for touch in trace.touches("merged")? {
        let seen = trace.fault_of(touch)?.is("cow-copy", "anon")?;
        let cause = seen.fault.cause.as_ref().context("no cause")?;
        ensure!(cause.cause == CowCause::Ksm, "{:?}", seen.event);
    }
    Ok(())
}

/// Pages, copied, taken over, given up, still shared, unknown.
fn numbers(area: &Area) -> [u64; 6] {
    [
        area.pages,
        area.copied,
        area.taken_over,
        area.given_up,
        area.still_shared,
        area.unknown,
    ]
}

fn area<'a>(areas: &'a [Area], file: &str) -> Result<&'a Area> {
    let mut found = areas
        .iter()
        .filter(|area| area.file.as_deref() == Some(file));
    let area = found.next().with_context(|| format!("no area of {file}"))?;
    ensure!(found.next().is_none(), "two areas of {file}");
    Ok(area)
}
