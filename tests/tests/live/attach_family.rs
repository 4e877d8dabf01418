//! Attaching to a family in the middle of what it does. Forks before the trace have no account; what they shared is
//! blamed on them as such, and the forks after it are told of as ever.

use anyhow::{Context, Result, ensure};
use memtrace_events::{CowCause, Fault, ForkAccount};
use tests::harness::truth::{Cause, Copied, Fork, Outcome, Truth};
use tests::harness::{AttachTarget, Attached, Memtrace};
use tests::subject::report::Fact;

#[test]
fn amid_a_family() -> Result<()> {
    for (seed, step) in [
        ("1", "30"),
        ("2", "50"),
        ("3", "35"),
        ("4", "45"),
        ("5", "60"),
    ] {
        let (before, after) =
            amid(seed, step).with_context(|| format!("seed {seed}, step {step}"))?;
        println!("seed {seed}: {before} forks before, {after} after");
    }
    Ok(())
}

/// How many forks were before the trace, and how many in it.
fn amid(seed: &str, step: &str) -> Result<(usize, usize)> {
    let mut program = AttachTarget::of(["generations", seed, step])?;
    let memtrace = Attached::to(Memtrace::new()?.options(["--tree"]), &[program.pid()])?;
    let trace = memtrace.interrupt_after(&mut program)?;
    program.finish()?;

    let mut truth = Truth::of(trace.note("areas")?)?;
    let mut before = 0;
    let mut copied_before = 0;
    for fact in &trace.facts {
        match fact {
            Fact::Act(act) => truth.add(act)?,
            Fact::Note(name, _) if name == "ready" => {
                before = truth.forks.len();
                copied_before = truth.copies.len();
            }
            _ => {}
        }
    }
    assert_eq!(trace.end.forks.len(), truth.forks.len() - before);
    for (i, fork) in truth.forks.iter().enumerate().skip(before) {
        let account = trace.fork((i - before) as u32 + 1)?;
        agree(fork, account).with_context(|| format!("{account:#?}\nis not {fork:#?}"))?;
    }
    for copied in &truth.copies[copied_before..] {
        let (_, fault) = trace.copy(copied)?;
        blamed(fault, copied, before).with_context(|| format!("{fault:?}, {copied:?}"))?;
    }
    Ok((before, truth.forks.len() - before))
}

fn agree(fork: &Fork, account: &ForkAccount) -> Result<()> {
    ensure!(
        (account.parent, account.child) == (fork.parent, fork.child),
        "who?"
    );
    ensure!(account.unknown == 0, "something is not known");
    for (file, outcome) in &fork.outcomes {
        let Some(file) = file else { continue };
        let area = account
            .areas
            .iter()
            .find(|area| area.file.as_deref() == Some(&**file));
        let Some(area) = area else {
            ensure!(*outcome == Outcome::default(), "{file}: not told of");
            continue;
        };
        // Whether the last to have a page takes it over from a fork in the trace or before it is all one to the kernel.
        ensure!(
            (area.pages, area.copied, area.taken_over + area.given_up)
                == (
                    outcome.pages,
                    outcome.copied(),
                    outcome.taken_over + outcome.given_up()
                ),
            "{file}: {outcome:?}"
        );
        ensure!((area.still_shared, area.unknown) == (0, 0), "{file}");
    }
    Ok(())
}

fn blamed(fault: &Fault, copied: &Copied, before: usize) -> Result<()> {
    let told = fault.cause.as_ref().context("no cause")?;
    let number = told.fork.as_ref().map(|fork| fork.number as usize);
    match &copied.cause {
        Cause::PageCache => ensure!(told.cause == CowCause::PageCache, "another cause"),
        Cause::Fork(fork, sharers) => {
            if *fork > before {
                ensure!(
                    told.cause == CowCause::Fork && number == Some(fork - before),
                    "another cause"
                );
            } else {
                ensure!(
                    told.cause == CowCause::ForkBefore && number.is_none(),
                    "another cause"
                );
            }
            ensure!(
                told.map_count == Some(sharers.len() as u32 + 1),
                "another count"
            );
            ensure!(
                told.sharers.iter().all(|sharer| sharers.contains(sharer)),
                "others share it"
            );
        }
        Cause::Reference(_) => ensure!(told.map_count == Some(1), "another count"),
    }
    Ok(())
}
