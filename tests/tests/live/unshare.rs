//! What ends a sharing: unshare(2), setns(2), exec. Held against kcmp(2) and the links to namespaces, before and after.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use memtrace_events::Events;
use tests::harness::Trace;
use tests::subject::report::{Compared, Fact};

#[test]
fn unshare_of_every_flag_in_a_process() -> Result<()> {
    assert_eq!(acts("process", &["unshare"])?, 12);
    Ok(())
}

#[test]
fn unshare_of_every_flag_in_a_thread() -> Result<()> {
    assert_eq!(acts("thread", &["unshare"])?, 6);
    Ok(())
}

#[test]
fn setns_to_the_namespaces_of_another() -> Result<()> {
    // Each is compared with its maker, and with the task whose namespace it goes to.
    assert_eq!(acts("setns", &["setns"])?, 16);
    Ok(())
}

#[test]
fn exec_in_a_process_and_in_a_thread() -> Result<()> {
    // A second thread's exec ends the first thread, whose place it takes.
    assert_eq!(acts("exec", &["exec", "exit"])?, 3);
    Ok(())
}

/// Checks what each task of the subject did, which memtrace must say was `by` one of these; and counts them.
fn acts(mode: &str, by: &[&str]) -> Result<usize> {
    let trace = Trace::run(["unshares", mode])?;
    let compared = trace.reported("comparison", |fact| match fact {
        Fact::Compared(compared) => Some(compared),
        _ => None,
    })?;
    for compared in &compared {
        same_objects(&trace, compared).with_context(|| format!("{compared:?}"))?;
    }
    let mut acts = 0;
    let mut pairs = BTreeSet::new();
    for before in &compared {
        if pairs.insert((before.one, before.other)) {
            let after = compared
                .iter()
                .filter(|after| (after.one, after.other) == (before.one, before.other))
                .nth(1)
                .with_context(|| format!("not compared again: {before:?}"))?;
            changed(&trace, before, after, by).with_context(|| format!("{before:?}, {after:?}"))?;
            acts += 1;
        }
    }
    Ok(acts)
}

/// The tasks' lives at the trace's end say what was said then.
fn same_objects(trace: &Trace, compared: &Compared) -> Result<()> {
    for (&kind, &same) in &compared.same {
        let one = trace.object_at(compared.one, kind, compared.at)?;
        let other = trace.object_at(compared.other, kind, compared.at)?;
        ensure!((one == other) == same, "{kind:?}: {one:?} and {other:?}");
    }
    Ok(())
}

/// What changed between the two, and nothing else, is in the events.
fn changed(trace: &Trace, before: &Compared, after: &Compared, by: &[&str]) -> Result<()> {
    let (one, other) = (before.one, before.other);
    let unshares: Vec<_> = trace
        .unshares()
        .filter(|(event, _)| event.tid == one && (before.at..after.at).contains(&event.ts))
        .collect();
    let shares: Vec<_> = trace
        .shares()
        .filter(|(event, _)| event.tid == one && (before.at..after.at).contains(&event.ts))
        .collect();
    for (event, what) in &unshares {
        ensure!(by.contains(&&*what.by), "{event:?}");
    }
    for (event, what) in &shares {
        ensure!(by.contains(&&*what.by), "{event:?}");
    }
    for (&kind, &was_same) in &before.same {
        let Some(&is_same) = after.same.get(&kind) else {
            continue;
        };
        // A thread that ends leaves all; what another does in its place is told for itself.
        let ended = unshares.iter().any(|(_, what)| what.by == "exit");
        let left = unshares.iter().find_map(|(_, what)| what.objects.get(kind));
        let joined = shares.iter().find_map(|(_, what)| what.objects.get(kind));
        let was = trace.object_at(one, kind, before.at)?;
        let is = trace.object_at(one, kind, after.at)?;
        if was_same && !is_same {
            let left = left.with_context(|| format!("{kind:?}: its end is not told"))?;
            let now = if ended { None } else { is };
            ensure!(
                Some(left.number) == was && left.now == now,
                "{kind:?}: {left:?}"
            );
            ensure!(left.with.contains(&other), "{kind:?}: {left:?}");
        }
        if is_same && was_same {
            ensure!(left.is_none() || ended, "{kind:?}: {left:?}");
            ensure!(was == is, "{kind:?}: {was:?}, then {is:?}");
        }
        if is_same && !was_same {
            let joined = joined.with_context(|| format!("{kind:?}: its beginning is not told"))?;
            ensure!(Some(joined.number) == is, "{kind:?}: {joined:?}");
            ensure!(joined.with.contains(&other), "{kind:?}: {joined:?}");
        } else {
            ensure!(
                joined.is_none_or(|joined| !joined.with.contains(&other)),
                "{kind:?}: {joined:?}"
            );
        }
    }
    Ok(())
}
