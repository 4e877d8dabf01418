//! What a clone shares, kind by kind, is what kcmp(2) and the links to namespaces say.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use memtrace_events::ObjectKind::{
    self, CgroupNs, Files, Fs, Io, IpcNs, Mm, MntNs, NetNs, PidNs, Sighand, Sysvsem, TimeNs,
    UserNs, UtsNs,
};
use memtrace_events::{Clone, Event, Events, Obtained, Requested, Row};
use tests::harness::Trace;
use tests::subject::report::{Compared, Fact, Task};

/// What kcmp(2) can compare.
const KCMP: [ObjectKind; 6] = [Mm, Files, Fs, Sighand, Io, Sysvsem];

#[test]
fn every_flag_with_all_that_can_be_shared() -> Result<()> {
    let trace = Trace::run(["matrix", "full"])?;
    for (_, clone, case) in cases(&trace)? {
        for kind in KCMP {
            let row = clone.objects.get(kind).context(kind.name())?;
            ensure!(row.parent.is_some(), "{kind:?} of {case:?}: {clone:?}");
        }
    }
    Ok(())
}

#[test]
fn every_flag_where_some_can_not_be_shared() -> Result<()> {
    let trace = Trace::run(["matrix", "bare"])?;
    cases(&trace)?;
    Ok(())
}

/// The clones of a trace with what the subject says of them, which agrees.
fn cases(trace: &Trace) -> Result<Vec<(&Event, &Clone, &Compared)>> {
    let facts: Vec<_> = trace
        .facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Task(task) => Some((task, compared(trace, task)?)),
            _ => None,
        })
        .collect();
    assert_eq!(facts.len(), 25, "clones in the subject's report");
    facts
        .into_iter()
        .map(|(task, compared)| {
            let (event, clone) =
                agrees(trace, compared, task).with_context(|| format!("{task:?}, {compared:?}"))?;
            Ok((event, clone, compared))
        })
        .collect()
}

fn compared<'a>(trace: &'a Trace, task: &Task) -> Option<&'a Compared> {
    trace.facts.iter().find_map(|fact| match fact {
        Fact::Compared(compared) if compared.other == task.child_tid => Some(compared),
        _ => None,
    })
}

fn agrees<'a>(
    trace: &'a Trace,
    compared: &Compared,
    task: &Task,
) -> Result<(&'a Event, &'a Clone)> {
    let (event, clone) = trace
        .clones()
        .find(|(_, clone)| clone.child_tid == task.child_tid)
        .context("no clone event")?;
    let line = || format!("{event:?}");
    ensure!(
        event.tid == compared.one && clone.child_pid == task.child_pid,
        line()
    );
    ensure!(clone.call == task.call, line());
    ensure!(clone.exit_signal.unwrap_or(0) == task.exit_signal, line());
    let flags: BTreeSet<_> = clone.flags.iter().map(|flag| &**flag).collect();
    ensure!(task.has_flags(flags.iter().copied()), line());

    for kind in KCMP {
        ensure!(compared.same.contains_key(&kind), "{kind:?} isn't compared");
    }
    for (&kind, &same) in &compared.same {
        let row = clone
            .objects
            .get(kind)
            .with_context(|| format!("{kind:?}: {}", line()))?;
        ensure!((row.parent == row.child) == same, "{kind:?}: {row:?}");
        // And so it stays until the two are compared.
        let (one, other) = (
            trace.object_at(compared.one, kind, compared.at)?,
            trace.object_at(compared.other, kind, compared.at)?,
        );
        ensure!(
            (one, other) == (row.parent, row.child),
            "{kind:?}: {one:?}, {other:?}"
        );
    }
    for (kind, row) in &clone.objects.0 {
        ensure!(
            asked(*kind, &flags).is_none_or(|asked| row.asked == Some(asked)),
            "{kind:?}: {row:?}"
        );
        announced(trace, event, clone, *kind, row)?;
    }
    Ok((event, clone))
}

/// What the flags ask for, where that is beyond doubt.
fn asked(kind: ObjectKind, flags: &BTreeSet<&str>) -> Option<Requested> {
    let has = |flag: &str| flags.contains(flag);
    let or = |flag, otherwise| {
        Some(if has(flag) {
            Requested::Share
        } else {
            otherwise
        })
    };
    let unless = |flag| {
        Some(if has(flag) {
            Requested::New
        } else {
            Requested::Share
        })
    };
    match kind {
        Mm => or("CLONE_VM", Requested::Copy),
        Files => or("CLONE_FILES", Requested::Copy),
        Fs => or("CLONE_FS", Requested::Copy),
        Sighand if has("CLONE_CLEAR_SIGHAND") => Some(Requested::Clear),
        Sighand => or("CLONE_SIGHAND", Requested::Copy),
        MntNs => unless("CLONE_NEWNS"),
        UtsNs => unless("CLONE_NEWUTS"),
        IpcNs => unless("CLONE_NEWIPC"),
        PidNs => unless("CLONE_NEWPID"),
        NetNs => unless("CLONE_NEWNET"),
        CgroupNs => unless("CLONE_NEWCGROUP"),
        TimeNs => unless("CLONE_NEWTIME"),
        UserNs => unless("CLONE_NEWUSER"),
        Io if has("CLONE_IO") => Some(Requested::Share),
        Sysvsem if has("CLONE_SYSVSEM") => Some(Requested::Share),
        _ => None,
    }
}

/// What is shared from the clone on is announced for the child, and its end, too, when the child ends.
fn announced(
    trace: &Trace,
    event: &Event,
    clone: &Clone,
    kind: ObjectKind,
    row: &Row,
) -> Result<()> {
    let shared = trace
        .shares()
        .filter(|(share, what)| share.tid == clone.child_tid && what.by == "clone")
        .find_map(|(_, what)| what.objects.get(kind));
    let ended = trace
        .unshares()
        .filter(|(unshare, what)| unshare.tid == clone.child_tid && what.by == "exit")
        .find_map(|(_, what)| what.objects.get(kind));
    if row.got == Obtained::Shared {
        let shared = shared.with_context(|| format!("{kind:?} is not announced as shared"))?;
        ensure!(Some(shared.number) == row.child, "{kind:?}: {shared:?}");
        ensure!(
            shared.with_count as usize > shared.with.len() || shared.with.contains(&event.tid),
            "{kind:?}: {shared:?}"
        );
        let ended = ended.with_context(|| format!("{kind:?}: its sharing has no end"))?;
        ensure!(
            Some(ended.number) == row.child && ended.now.is_none(),
            "{kind:?}: {ended:?}"
        );
        ensure!(
            ended.with_count as usize > ended.with.len() || ended.with.contains(&event.tid),
            "{kind:?}: {ended:?}"
        );
    } else {
        ensure!(shared.is_none(), "{kind:?}: {row:?}, {shared:?}");
        ensure!(ended.is_none(), "{kind:?}: {row:?}, {ended:?}");
    }
    Ok(())
}
