//! Pages that the kernel wants itself: with fentry each fault is seen, with its actor, its owner and the frames that
//! pagemap gives; with tracepoints alone they are only counted.

use anyhow::{Context, Result, ensure};
use memtrace_events::{Event, Events, Fault, FaultKind, Handled, Mode};
use tests::harness::{Trace, without};
use tests::subject::memory::PAGE;
use tests::subject::wanted::Wanted;

#[test]
fn pages_that_calls_want_of_their_own_process_and_of_another() -> Result<()> {
    let trace = Trace::run(["behalf"])?;
    for (name, kind) in [
        ("populated", FaultKind::ZeroFill),
        ("locked", FaultKind::ZeroFill),
        ("read directly", FaultKind::ZeroFill),
        ("written to", FaultKind::CowCopy),
        ("poked", FaultKind::CowCopy),
    ] {
        if !without(&trace, name) {
            let wanted = wanted(&trace, name)?;
            let faults = seen(&trace, &wanted, kind).with_context(|| name.to_owned())?;
            for (event, fault) in faults {
                ensure!(!handled(fault)?.unshare, "{event:?}");
            }
        }
    }
    let read = wanted(&trace, "read from")?;
    if read.pages.iter().all(|(_, before, after)| before == after) {
        // Before 5.19 what is only to be read stays shared.
        let faults = faults_of(&trace, &read);
        ensure!(faults.is_empty(), "{faults:?}");
    } else {
        for (event, fault) in seen(&trace, &read, FaultKind::CowCopy)? {
            ensure!(handled(fault)?.unshare, "{event:?}");
        }
    }
    Ok(())
}

#[test]
fn pages_that_ksm_gives_back() -> Result<()> {
    let trace = Trace::run(["merged"])?;
    seen(&trace, &wanted(&trace, "unmerged")?, FaultKind::CowCopy)?;
    Ok(())
}

fn wanted(trace: &Trace, name: &str) -> Result<Wanted> {
    Ok(serde_json::from_value(trace.note(name)?.clone())?)
}

/// The faults that the call took on somebody's behalf.
fn faults_of<'a>(trace: &'a Trace, wanted: &Wanted) -> Vec<(&'a Event, &'a Fault)> {
    let of_the_call = trace.faults().filter(|(event, fault)| {
        event.tid == wanted.tid
            && (wanted.from..=wanted.until).contains(&event.ts)
            && fault.mode == Mode::Gup
    });
    of_the_call.collect()
}

/// Each page that the kernel wanted has its fault, which is returned, or its count.
fn seen<'a>(
    trace: &'a Trace,
    wanted: &Wanted,
    kind: FaultKind,
) -> Result<Vec<(&'a Event, &'a Fault)>> {
    let faults = faults_of(trace, wanted);
    if trace.start.backend != "fentry" {
        ensure!(faults.is_empty(), "{faults:?}");
        let counted = trace.account(wanted.pid)?.unobserved;
        ensure!(counted >= wanted.pages.len() as i64, "only {counted}");
        return Ok(faults);
    }
    for &(addr, before, after) in &wanted.pages {
        let mut of_page = faults
            .iter()
            .filter(|(_, fault)| fault.addr.0 / PAGE as u64 == addr / PAGE as u64);
        let (event, fault) = of_page
            .next()
            .with_context(|| format!("no fault at {addr:#x}"))?;
        ensure!(of_page.next().is_none(), "another than {event:?}");
        let handled = handled(fault)?;
        let owner = (wanted.owner != wanted.pid).then_some(wanted.owner);
        ensure!(
            fault.kind == kind
                && (fault.pfn_before, fault.pfn_after) == (before, after)
                && handled.call.as_deref() == Some(&*wanted.call)
                && handled.owner == owner,
            "{event:?} is not {before:x?} to {after:x?} of {owner:?}"
        );
    }
    Ok(faults)
}

/// What fentry tells of a fault.
fn handled(fault: &Fault) -> Result<&Handled> {
    fault.handled.as_ref().context("not told by fentry")
}
