//! Faults at memory with which the kernel does something out of the ordinary: userfaultfd, hugetlb, swap, protection that
//! was changed, guard pages, NUMA hints. Frames, counts and times are checked with each.

use anyhow::{Context, Result, ensure};
use memtrace_events::{Events, FaultKind, Region};
use std::collections::HashSet;
use tests::harness::{OneTrace, Trace, faults_as_counted, without};
use tests::subject::memory::PAGE;
use tests::subject::report::Touch;
use tests::subject::uffd::WAIT;

const HUGE: u64 = 2 << 20;

/// All of them in one run: memtrace's start takes longer than they do.
static TRACE: OneTrace = OneTrace::new(|| {
    Trace::in_turn(&[
        &["special", "userfaultfd"],
        &["special", "hugetlb"],
        &["special", "swap"],
        &["special", "protected"],
        &["special", "soft-dirty"],
        &["special", "guard"],
        &["special", "grows-down"],
        &["special", "vsyscall"],
        &["special", "numa"],
    ])
});

/// Each of these touches is a fault of that kind in anonymous memory.
fn each_is(kind: &str, names: &[&str]) -> Result<()> {
    for name in names {
        TRACE.get()?.fault(name)?.is(kind, "anon")?;
    }
    Ok(())
}

/// What a write to a page that nobody shares is, by the frames in pagemap. Before 5.17 the kernel copies one that is on its
/// way to the lists of pages, as that is a reference (`do_wp_page` in `mm/memory.c`).
fn reused_or_copied(touch: &Touch) -> &'static str {
    if touch.before == touch.after {
        "cow-reuse"
    } else {
        "cow-copy"
    }
}

#[test]
fn pages_that_a_handler_of_userfaultfd_supplies() -> Result<()> {
    let trace = TRACE.get()?;
    for (name, kind, region) in [
        ("read of a page that a handler copies", "uffd-fill", "anon"),
        ("write to a page that a handler copies", "uffd-fill", "anon"),
        ("read of a zero page from a handler", "uffd-fill", "anon"),
        (
            "write to a shared page that a handler copies",
            "uffd-fill",
            "shm",
        ),
        ("write that a handler lets through", "uffd-wp", "anon"),
    ] {
        if without(trace, name) {
            continue;
        }
        // The kernel may copy the page all the same, see below.
        let copied = kind == "uffd-wp" && reused_or_copied(trace.touches(name)?[0]) == "cow-copy";
        let kind = if copied { "cow-copy" } else { kind };
        let seen = trace.fault(name)?.is(kind, region)?;
        let asked = trace.note(&format!("asked: {name}"))?;
        let addr = asked["addr"].as_u64().context("an address")?;
        ensure!(
            addr / PAGE as u64 == seen.fault.addr.0 / PAGE as u64,
            "{asked}"
        );
        if let Some(handled) = seen.fault.handled.as_ref().filter(|all| all.dur.is_some()) {
            let wait = WAIT.as_nanos() as u64;
            ensure!(
                handled.dur >= Some(wait) && handled.waited >= wait,
                "the handler took {WAIT:?}: {:?}",
                seen.event
            );
            ensure!(handled.retries >= 1, "{:?}", seen.event);
        }
    }
    Ok(())
}

#[test]
fn pages_of_hugetlb() -> Result<()> {
    let trace = TRACE.get()?;
    if without(trace, "hugetlb") {
        return Ok(());
    }
    for (name, kind, region) in [
        ("write to untouched hugetlb memory", "zero-fill", "anon"),
        ("read of untouched hugetlb memory", "zero-fill", "anon"),
        ("write to hugetlb memory that was read", "cow-reuse", "anon"),
        ("the child's write to hugetlb memory", "cow-copy", "anon"),
        ("the parent's write to hugetlb memory", "cow-reuse", "anon"),
        (
            "write to the first page of a hugetlb file",
            "file-cow",
            "file",
        ),
        (
            "write to a page that a hugetlb file lacks",
            "zero-fill",
            "file",
        ),
        (
            "write to the third page of a hugetlb file",
            "file-cow",
            "file",
        ),
        ("write to fresh shared hugetlb memory", "shm-fill", "shm"),
        (
            "the child's read of shared hugetlb memory",
            "file-map",
            "shm",
        ),
    ] {
        let Some(seen) = faults_as_counted(trace, name, kind, region)? else {
            // Older kernels have a fork copy the entries of shared memory, too, where it is hugetlbfs's.
            continue;
        };
        let (touch, fault) = (trace.touches(name)?[0], seen.fault);
        assert_eq!(fault.page_size, HUGE, "{name}");
        assert_eq!(
            (fault.pfn_before, fault.pfn_after),
            (touch.before, touch.after),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn pages_that_were_swapped_out() -> Result<()> {
    let trace = TRACE.get()?;
    if without(trace, "swap") {
        return Ok(());
    }
    each_is(
        "swap-in",
        &[
            "read of a swapped page",
            "write to a swapped page",
            "the child's write to a swapped page",
        ],
    )
}

#[test]
fn memory_whose_protection_was_changed() -> Result<()> {
    let trace = TRACE.get()?;
    // Newer kernels let a page be written at once that nobody shares (change_pte_range in mm/mprotect.c, 5.19).
    let name = "write after mprotect";
    faults_as_counted(
        trace,
        name,
        reused_or_copied(trace.touches(name)?[0]),
        "anon",
    )?;
    faults_as_counted(trace, "read after PROT_NONE", "spurious", "anon")?;
    if !without(trace, "soft-dirty") {
        let touch = trace.touches("write to a page that was not soft-dirty")?[0];
        trace.fault_of(touch)?.is(reused_or_copied(touch), "anon")?;
    }
    Ok(())
}

#[test]
fn guard_pages() -> Result<()> {
    let trace = TRACE.get()?;
    if without(trace, "guard") {
        return Ok(());
    }
    each_is(
        "zero-fill",
        &["write beside a guard page", "write where a guard page was"],
    )?;
    let (death, seen) = trace.death("write to a guard page")?;
    seen.is("invalid", "anon")?;
    assert_eq!(death.signal, 11);
    Ok(())
}

#[test]
fn memory_that_grows_down() -> Result<()> {
    each_is(
        "zero-fill",
        &[
            "write to memory that grows down",
            "write below memory that grows down",
        ],
    )
}

#[test]
fn a_jump_into_the_vsyscall_page() -> Result<()> {
    let trace = TRACE.get()?;
    if without(trace, "vsyscall") {
        return Ok(());
    }
    let addr = trace.note("vsyscall")?.as_u64();
    let mut faults = trace.faults();
    let (_, fault) = faults
        .find(|(_, fault)| Some(fault.addr.0) == addr)
        .context("no fault")?;
    assert_eq!((fault.kind, fault.region), (FaultKind::Other, Region::Vdso));
    let detail = fault.detail.as_deref().context("no detail")?;
    ensure!(detail.contains("vsyscall page"), "{detail}");
    Ok(())
}

#[test]
fn pages_that_numa_balancing_hints_at() -> Result<()> {
    let trace = TRACE.get()?;
    if without(trace, "numa") {
        return Ok(());
    }
    let pages: Vec<u64> = serde_json::from_value(trace.note("hinted")?.clone())?;
    ensure!(
        pages.len() >= 32,
        "no read of the pages faulted in 40 seconds"
    );
    let hints: HashSet<u64> = trace
        .faults()
        .filter(|(_, fault)| fault.kind == FaultKind::NumaHint)
        .map(|(_, fault)| fault.addr.0)
        .collect();
    let seen = pages.iter().filter(|page| hints.contains(page)).count();
    // A hint at the code that counts may come between.
    ensure!(
        seen * 10 >= pages.len() * 9,
        "{seen} of {} were seen",
        pages.len()
    );
    Ok(())
}
