//! Pages that the kernel wants itself: with fentry each fault is seen, with its actor, its owner and the frames that
//! pagemap gives; with tracepoints alone they are only counted.

use anyhow::{Context, Result, ensure};
use tests::harness::{Event, Fault, Trace, without};
use tests::subject::memory::PAGE;
use tests::subject::wanted::Wanted;

#[test]
fn pages_that_calls_want_of_their_own_process_and_of_another() -> Result<()> {
    let trace = Trace::run(["behalf"])?;
    for (name, kind, unshare) in [
        ("populated", "zero-fill", false),
        ("locked", "zero-fill", false),
        ("read directly", "zero-fill", false),
        ("written to", "cow-copy", false),
        ("read from", "cow-copy", true),
        ("poked", "cow-copy", false),
    ] {
        if !without(&trace, name) {
            let faults = seen(&trace, name, kind).with_context(|| name.to_owned())?;
            for (event, fault) in faults {
                ensure!(fault.unshare == unshare, "{name}: {}", event.line);
            }
        }
    }
    Ok(())
}

#[test]
fn pages_that_ksm_gives_back() -> Result<()> {
    let trace = Trace::run(["merged"])?;
    seen(&trace, "unmerged", "cow-copy")?;
    Ok(())
}

/// Each page that the kernel wanted and hadn't has its fault, which is returned, or its count.
fn seen<'a>(trace: &'a Trace, name: &str, kind: &str) -> Result<Vec<(&'a Event, &'a Fault)>> {
    let wanted: Wanted = serde_json::from_value(trace.note(name)?.clone())?;
    let of_the_call = trace.faults().filter(|(event, fault)| {
        event.tid == wanted.tid
            && (wanted.from..=wanted.until).contains(&event.ts)
            && fault.mode == "gup"
    });
    let faults: Vec<_> = of_the_call.collect();
    if trace.start.backend != "fentry" {
        ensure!(faults.is_empty(), "{faults:?}");
        let counted = trace.account(wanted.pid)?.unobserved;
        let new = wanted
            .pages
            .iter()
            .filter(|(_, before, after)| before != after);
        ensure!(counted >= new.count() as i64, "only {counted}");
        return Ok(Vec::new());
    }
    for &(addr, before, after) in &wanted.pages {
        let mut of_page = faults
            .iter()
            .filter(|(_, fault)| fault.addr / PAGE as u64 == addr / PAGE as u64);
        if before == after {
            ensure!(of_page.next().is_none(), "the frame is the same: {addr:#x}");
            continue;
        }
        let (event, fault) = of_page
            .next()
            .with_context(|| format!("no fault at {addr:#x}"))?;
        ensure!(of_page.next().is_none(), "another than {}", event.line);
        let owner = (wanted.owner != wanted.pid).then_some(wanted.owner);
        ensure!(
            fault.kind == kind
                && (fault.pfn_before, fault.pfn_after) == (before, after)
                && fault.call.as_deref() == Some(&*wanted.call)
                && fault.owner == owner,
            "{} is not {before:x?} to {after:x?} of {owner:?}",
            event.line
        );
    }
    Ok(faults)
}
