//! What the kernel writes at a thread's end, when that has begun to leave its address space.

use anyhow::{Context, Result, ensure};
use memtrace_events::{Events, FaultKind, Mode};
use tests::harness::Trace;

const THREADS: u64 = 4;

#[test]
fn pages_that_the_ends_of_threads_copy_are_copies_of_the_fork() -> Result<()> {
    let trace = Trace::run(["clear-tid"])?;
    let mut fork = None;
    for i in 0..THREADS {
        let note = trace.note(&format!("thread {i}"))?;
        let tid = note["tid"].as_u64().context("an id")?;
        let addr = note["addr"].as_u64().context("an address")?;
        let (before, after) = (note["before"].as_u64(), note["after"].as_u64());
        ensure!(
            before.is_some() && after.is_some() && before != after,
            "{note}"
        );
        let mut faults = trace
            .faults()
            .filter(|(event, fault)| u64::from(event.tid) == tid && fault.addr.0 == addr);
        let (event, fault) = faults.next().with_context(|| format!("no fault: {note}"))?;
        ensure!(faults.next().is_none(), "two faults: {note}");
        ensure!(
            fault.kind == FaultKind::CowCopy
                && fault.mode == Mode::Kernel
                && (fault.pfn_before, fault.pfn_after) == (before, after),
            "{note} is not {event:?}"
        );
        let cause = fault.cause.as_ref().context("a cause")?;
        let blamed = cause.fork.as_ref().context("a fork")?.number;
        ensure!(*fork.get_or_insert(blamed) == blamed, "{event:?}");
    }
    let account = trace.fork(fork.context("a fork")?)?;
    ensure!(account.by_parent >= THREADS, "{account:?}");
    trace.check_accounts()
}
