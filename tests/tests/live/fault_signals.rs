//! A fault ends in a signal only if the signal is about it.

use anyhow::{Context, Result, ensure};
use memtrace_events::{Counted, Events, FaultKind};
use tests::harness::{Trace, without};
use tests::subject::memory::PAGE;

#[test]
fn a_signal_of_another_origin_is_no_faults() -> Result<()> {
    let trace = Trace::run(["signals"])?;
    let mut cases = vec![
        ("its own signal, from an untouched page", "zero-read", 11),
        (
            "its own signal, which claims to be a fault's",
            "file-map",
            11,
        ),
        ("an instruction that there isn't", "cow-copy", 4),
        ("a kill from outside", "cow-copy", 9),
    ];
    if cfg!(target_arch = "x86_64") {
        cases.push(("a general protection fault", "cow-copy", 11));
        if !without(&trace, "alignment checks") {
            cases.push(("an alignment check", "cow-copy", 7));
        }
    }
    for (name, kind, signal) in cases {
        ends_by_signal(&trace, name, kind, signal).context(name)?;
    }
    trace.check_accounts()
}

/// The child had one fault at its page, of this kind and counted; none that was refused; and it ended by the signal.
fn ends_by_signal(trace: &Trace, name: &str, kind: &str, signal: u32) -> Result<()> {
    let note = trace.note(name)?;
    let number = |key: &str| note[key].as_u64().with_context(|| format!("{note}"));
    let (pid, addr) = (number("pid")? as u32, number("addr")?);
    ensure!(number("signal")? == u64::from(signal), "{note}");
    let of_child: Vec<_> = trace
        .faults()
        .filter(|(event, _)| event.pid == pid)
        .collect();
    ensure!(
        of_child
            .iter()
            .all(|(_, fault)| fault.kind != FaultKind::Invalid),
        "a fault that was refused"
    );
    let page = |addr: u64| addr / PAGE as u64;
    let at: Vec<_> = of_child
        .iter()
        .filter(|(_, fault)| page(fault.addr.0) == page(addr))
        .collect();
    let [(event, fault)] = at[..] else {
        anyhow::bail!("{} faults at the page", at.len());
    };
    ensure!(
        fault.kind.name() == kind
            && fault.counted == Some(Counted::Minor)
            && fault.pfn_after.is_some(),
        "{event:?}"
    );
    if kind == "cow-copy" {
        let account = trace.end.forks.iter().find(|fork| fork.child == pid);
        let account = account.context("no account of the fork")?;
        ensure!(account.by_child > 0, "{account:?}");
    }
    let ends: Vec<_> = trace
        .exits()
        .filter(|(event, _)| event.pid == pid)
        .map(|(_, exit)| exit.signal)
        .collect();
    ensure!(ends == [Some(signal)], "{ends:?}");
    Ok(())
}
