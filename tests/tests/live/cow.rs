//! Copy on write: which write copies, which takes over, and from which frame to which.

use anyhow::{Context, Result};
use memtrace_events::{Events, FaultKind, Mode};
use tests::harness::Trace;
use tests::subject::memory::PAGE;

#[test]
fn the_first_to_write_copies_and_the_last_takes_over() -> Result<()> {
    const COUNT: usize = 100;
    let trace = Trace::run(["cow", "100"])?;
    for (name, kind) in [
        ("child first: child", "cow-copy"),
        ("child first: parent", "cow-reuse"),
        ("parent first: parent", "cow-copy"),
        ("parent first: child", "cow-reuse"),
        ("after the child: parent", "cow-reuse"),
    ] {
        let touches = trace.touches(name)?;
        assert_eq!(touches.len(), COUNT, "{name}");
        for touch in touches {
            trace
                .fault_of(touch)?
                .is(kind, "anon")?
                .in_mode(Mode::User)?;
        }
    }
    Ok(())
}

#[test]
fn there_are_exactly_as_many_copies_as_writes() -> Result<()> {
    let trace = Trace::run(["cow", "1000"])?;
    for (writer, area) in [
        ("child first: child", "child"),
        ("parent first: parent", "parent"),
    ] {
        let mut written: Vec<_> = trace
            .touches(writer)?
            .iter()
            .map(|touch| (touch.pid, touch.addr))
            .collect();
        let (pid, start) = *written.iter().min().context("nothing written")?;
        let end = start + 1000 * PAGE as u64;
        let mut copied: Vec<_> = trace
            .faults()
            .filter(|(event, fault)| {
                event.pid == pid
                    && fault.kind == FaultKind::CowCopy
                    && (start..end).contains(&fault.addr.0)
            })
            .map(|(event, fault)| (event.pid, fault.addr.0))
            .collect();
        written.sort_unstable();
        copied.sort_unstable();
        assert_eq!(copied, written, "in the {area}");
    }
    Ok(())
}

#[test]
fn the_bundled_program_shows_copies_in_the_child_and_takeovers_in_the_parent() -> Result<()> {
    let trace = Trace::run(["fork-write"])?;
    let range = trace
        .run
        .stdout
        .split("fresh pages, ")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let (start, end) = range
        .and_then(|range| range.split_once('-'))
        .context("the program names its pages")?;
    let start = u64::from_str_radix(start.trim_start_matches("0x"), 16)?;
    let end = u64::from_str_radix(end.trim_start_matches("0x"), 16)?;

    let (_, fork) = trace.clones().next().context("no clone")?;
    let kinds = |child: bool| -> Vec<_> {
        trace
            .faults()
            .filter(|(event, fault)| {
                (event.pid == fork.child_pid) == child && (start..end).contains(&fault.addr.0)
            })
            .map(|(_, fault)| fault.kind.name())
            .collect()
    };
    assert_eq!(kinds(true), ["cow-copy"; 4]);
    assert_eq!(kinds(false), [["zero-fill"; 8], ["cow-reuse"; 8]].concat());
    Ok(())
}
