//! Attaching to programs of known acts: what was there, and what happened since.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use memtrace_events::{By, CowCause, Events, FaultKind, Mmap, Region};
use nix::unistd::Pid;
use tests::harness::{AttachTarget, Attached, Memtrace, Trace, proc};
use tests::subject::kcmp;
use tests::subject::memory::PAGE;
use tests::subject::report::{Act, Fact};

#[test]
fn the_snapshot_is_what_proc_says() -> Result<()> {
    let program = AttachTarget::start("idle")?;
    let memtrace = Attached::to(Memtrace::new()?, &[program.pid()])?;
    let mappings = proc::mappings(program.pid())?;
    let trace = memtrace.interrupt()?;
    assert_eq!(trace.start.attached, [program.pid()]);

    let told: BTreeMap<_, _> = there(&trace, program.pid())
        .map(|mmap| (mmap.addr.0, mmap))
        .collect();
    assert_eq!(
        told.keys().copied().collect::<Vec<_>>(),
        mappings
            .iter()
            .map(|mapping| mapping.addr)
            .collect::<Vec<_>>()
    );
    for mapping in &mappings {
        let mmap = told.get(&mapping.addr).context("not told")?;
        let context = || format!("{mmap:?} is not {mapping:?}");
        ensure!(mmap.len == mapping.len, context());
        ensure!(mmap.resident == Some(mapping.resident), context());
        ensure!(mmap.private == Some(mapping.anonymous), context());
        if mapping.name.starts_with('/') {
            ensure!(mmap.file.as_deref() == Some(&mapping.name), context());
        }
    }
    let (_, task) = trace
        .tasks()
        .find(|(event, _)| event.tid == program.pid())
        .context("no first thread")?;
    let sum = |of: fn(&proc::Mapping) -> u64| Some(mappings.iter().map(of).sum::<u64>());
    assert_eq!(task.resident, sum(|mapping| mapping.resident));
    assert_eq!(task.private, sum(|mapping| mapping.anonymous));
    program.work_and_finish()
}

#[test]
fn the_tasks_share_what_kcmp_says() -> Result<()> {
    let mut program = AttachTarget::start("prefork")?;
    let old = program.until("old")?.as_u64().context("a pid")? as u32;
    let threads = AttachTarget::start("idle")?;
    let pids = [program.pid(), old, threads.pid()];
    let memtrace = Attached::to(Memtrace::new()?, &pids)?;
    let mut tids = Vec::new();
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            tids.push(task?.file_name().to_string_lossy().parse::<u32>()?);
        }
    }
    tids.sort_unstable();
    let mut answers = BTreeMap::new();
    for (i, &one) in tids.iter().enumerate() {
        for &other in &tids[i + 1..] {
            let [one_task, other_task] = [one, other].map(|tid| Pid::from_raw(tid as i32));
            let compared = kcmp::compare_tasks(one_task, other_task);
            answers.insert((one, other), kcmp::by_kind(compared)?);
        }
    }
    let trace = memtrace.interrupt()?;

    let tasks: BTreeMap<_, _> = trace
        .tasks()
        .map(|(event, task)| (event.tid, task))
        .collect();
    assert_eq!(tasks.keys().copied().collect::<Vec<_>>(), tids);
    assert_eq!(trace.tasks().count(), tids.len());
    for ((one, other), same) in answers {
        for (kind, is_same) in same {
            let objects = [one, other].map(|tid| tasks[&tid].objects.get(kind));
            ensure!(
                (objects[0] == objects[1]) == is_same,
                "{kind:?} of {one}, {other}: {objects:?}"
            );
            let [Some(number), _] = objects else {
                continue;
            };
            // It is told of the one that was looked at later.
            let tells = |this: u32, that: u32| {
                trace.shares().any(|(event, share)| {
                    share.by == "attach"
                        && event.tid == this
                        && share.objects.get(kind).is_some_and(|object| {
                            object.number == *number && object.with.contains(&that)
                        })
                })
            };
            let is_told = tells(one, other) || tells(other, one);
            ensure!(
                is_told == is_same,
                "{kind:?} of {one} and {other}: is it told? {is_told}"
            );
        }
    }
    let of_child = &tasks[&old];
    ensure!(of_child.ppid == program.pid(), "{of_child:?}");
    threads.work_and_finish()?;
    program.work_and_finish()
}

#[test]
fn what_happens_after_is_told_as_ever() -> Result<()> {
    let mut program = AttachTarget::start("idle")?;
    let memtrace = Attached::to(Memtrace::new()?, &[program.pid()])?;
    let trace = memtrace.interrupt_after(&mut program)?;
    let mut kinds: BTreeMap<_, u64> = BTreeMap::new();
    for act in acts(&trace) {
        for &(addr, before, after) in &act.pages {
            let found = faults(&trace, act, addr);
            for kind in &found {
                *kinds.entry((*kind).to_owned()).or_default() += 1;
            }
            let numbers = [before, after].map(|frame| frame.map(|frame| frame.number));
            ensure!(found.len() <= 1, "{addr:#x}: {found:?}");
            ensure!(
                numbers[0] == numbers[1] || found.len() == 1,
                "{addr:#x} is now in another frame, and nothing told of it"
            );
        }
    }
    let wanted = [
        // 200 to 220 had the zero page; after that nothing.
        ("cow-zero", 20),
        ("zero-fill", 20),
        // 30 by the child; and those of the file that had been read before.
        ("cow-copy", 30 + 5),
        ("cow-reuse", 10),
        // Of the shared ones five were there, and five not.
        ("shm-fill", 5),
    ];
    let wanted: BTreeMap<_, u64> = wanted
        .into_iter()
        .map(|(kind, count)| (kind.to_owned(), count))
        .collect();
    assert_eq!(kinds, wanted);
    let account = trace.fork(1)?;
    assert_eq!(
        (account.parent, account.still_shared, account.unknown),
        (program.pid(), 0, 0)
    );
    program.finish()
}

#[test]
fn a_fork_before_the_trace_is_blamed_as_such() -> Result<()> {
    for by_tree in [false, true] {
        let mut program = AttachTarget::start("prefork")?;
        let old = program.until("old")?.as_u64().context("a pid")? as u32;
        let memtrace = if by_tree {
            Attached::to(Memtrace::new()?.options(["--tree"]), &[program.pid()])?
        } else {
            Attached::to(Memtrace::new()?, &[program.pid(), old])?
        };
        let trace = memtrace.interrupt_after(&mut program)?;
        blamed(&trace, program.pid(), old)?;
        program.finish()?;
    }
    Ok(())
}

/// Who has which page is plain from the subject: the old child until it writes, the new one from its fork on.
fn blamed(trace: &Trace, parent: u32, old: u32) -> Result<()> {
    let new = trace.note("new")?.as_u64().context("a pid")? as u32;
    let start = trace.note("area")?.as_u64().context("an address")?;
    let mut seen = BTreeSet::new();
    for (i, act) in acts(trace).enumerate() {
        for &(addr, before, after) in &act.pages {
            let is_copy = before.map(|frame| frame.number) != after.map(|frame| frame.number);
            let page = (addr - start) / PAGE as u64;
            // The acts, in the order of the subject: which cause, and how many have the page.
            let wanted = match (i, page) {
                (3, 100..120) => Some((CowCause::Fork, 3)),
                (4, 0..5) => Some((CowCause::Fork, 2)),
                (0 | 1 | 5, _) | (6, 110..115) => Some((CowCause::ForkBefore, 2)),
                _ => None,
            };
            ensure!(
                is_copy == wanted.is_some(),
                "act {i}, page {page}: copied? {is_copy}"
            );
            let Some((cause, count)) = wanted else {
                continue;
            };
            let (event, fault) = trace
                .faults()
                .find(|(event, fault)| {
                    event.pid == act.pid
                        && (act.from..act.until).contains(&event.ts)
                        && fault.addr.0 / PAGE as u64 == addr / PAGE as u64
                        && fault.kind == FaultKind::CowCopy
                })
                .with_context(|| format!("act {i}, page {page}: not told"))?;
            let told = fault.cause.as_ref().context("no cause")?;
            ensure!(
                told.cause == cause && told.map_count == Some(count),
                "{event:?}"
            );
            if let Some(fork) = &told.fork {
                ensure!(
                    (fork.number, fork.parent, fork.child) == (1, parent, new),
                    "{event:?}"
                );
                ensure!(told.sharers.contains(&parent), "{event:?}");
            }
            seen.insert(told.cause.name());
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");

    let account = trace.fork(1)?;
    let is_anon =
        |area: &&memtrace_events::Area| area.region == Region::Anon && area.file.is_none();
    let area = account
        .areas
        .iter()
        .find(is_anon)
        .context("no anonymous memory")?;
    // 25 were copied, the rest was not written: the parent and the new child have it still.
    ensure!(
        area.pages >= 200 && area.copied >= 25 && area.still_shared >= 175,
        "{account:?}"
    );
    ensure!(
        (account.unknown, account.execed) == (0, false),
        "{account:?}"
    );
    ensure!(
        trace.lives(old).all(|life| life.until.is_none()),
        "it still runs"
    );
    Ok(())
}

#[test]
fn no_gap_and_no_overlap() -> Result<()> {
    let mut program = AttachTarget::start("stream")?;
    let memtrace = Attached::to_busy(Memtrace::new()?, &mut program)?;
    let trace = memtrace.interrupt_after(&mut program)?;
    let numbers = |name: &str| -> Result<Vec<u64>> {
        let note = trace.note(name)?.as_array().context("a list")?;
        Ok(note.iter().filter_map(serde_json::Value::as_u64).collect())
    };
    for (start, written) in numbers("areas")?.into_iter().zip(numbers("written")?) {
        let mmap = there(&trace, program.pid())
            .find(|mmap| mmap.addr.0 == start)
            .context("not in the snapshot")?;
        let filled: Vec<_> = trace
            .faults()
            .filter(|(_, fault)| (start..start + (1 << 30)).contains(&fault.addr.0))
            .map(|(_, fault)| (fault.addr.0 - start) / PAGE as u64)
            .collect();
        let first = *filled.first().context("no page was written after")?;
        assert_eq!(filled, (first..written).collect::<Vec<_>>());
        ensure!(first > 0, "no page was written before");
        assert_eq!(
            (mmap.resident, mmap.private),
            (Some(first), Some(first)),
            "{mmap:?}"
        );
    }
    program.finish()
}

#[test]
fn a_program_that_forks_all_the_time() -> Result<()> {
    for options in [&[][..], &["--tree"]] {
        let mut program = AttachTarget::start("forks")?;
        let memtrace = Attached::to_busy(Memtrace::new()?.options(options), &mut program)?;
        let trace = memtrace.interrupt_after(&mut program)?;
        let children = trace.note("children")?.as_array().context("a list")?;
        let children: Vec<_> = children
            .iter()
            .filter_map(serde_json::Value::as_u64)
            .map(|pid| pid as u32)
            .collect();
        let start = trace.note("area")?.as_u64().context("an address")?;

        // What was seen from the beginning is the end of the list, without a gap.
        let born: Vec<_> = trace.clones().map(|(_, clone)| clone.child_pid).collect();
        let known: BTreeSet<_> = trace
            .tasks()
            .map(|(event, _)| event.tid)
            .chain(born.iter().copied())
            .collect();
        ensure!(born.len() >= 20, "{} children", born.len());
        ensure!(children.ends_with(&born), "{born:?}");
        for event in &trace.events {
            ensure!(known.contains(&event.tid), "of nobody: {event:?}");
        }
        for (event, clone) in trace.clones() {
            let copies = trace
                .faults()
                .filter(|(_, fault)| {
                    let fork = fault.cause.as_ref().and_then(|cause| cause.fork.as_ref());
                    (start..start + 5 * PAGE as u64).contains(&fault.addr.0)
                        && fork.is_some_and(|fork| Some(fork.number) == clone.fork)
                })
                .count();
            ensure!(copies == 5, "{copies} copies: {event:?}");
        }
        program.finish()?;
    }
    Ok(())
}

#[test]
fn a_program_that_maps_all_the_time() -> Result<()> {
    let mut program = AttachTarget::start("maps")?;
    let memtrace = Attached::to_busy(Memtrace::new()?, &mut program)?;
    program.work()?;
    let trace = memtrace.interrupt()?;
    let unknown = trace
        .faults()
        .filter(|(_, fault)| fault.region == Region::Unknown);
    let unknown = unknown.count();
    let mut fills = 0;
    for (event, fault) in trace
        .faults()
        .filter(|(_, fault)| fault.kind == FaultKind::ZeroFill)
    {
        ensure!(
            [
                Region::Anon,
                Region::Heap,
                Region::ThreadStack,
                Region::Stack
            ]
            .contains(&fault.region),
            "{event:?}"
        );
        fills += 1;
    }
    ensure!(fills > 1000, "{fills} pages filled");
    ensure!(
        unknown * 100 <= fills,
        "{unknown} of no known region beside {fills}"
    );
    program.finish()
}

#[test]
fn a_program_that_starts_threads_all_the_time() -> Result<()> {
    let mut program = AttachTarget::start("threads")?;
    let memtrace = Attached::to_busy(Memtrace::new()?, &mut program)?;
    let trace = memtrace.interrupt_after(&mut program)?;
    let tids = trace.note("tids")?.as_array().context("a list")?;
    let tids: Vec<_> = tids
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .map(|tid| tid as u32)
        .collect();
    let start = trace.note("area")?.as_u64().context("an address")?;
    // One may have been there at attach; all later ones were seen from the beginning.
    let born: Vec<_> = trace.clones().map(|(_, clone)| clone.child_tid).collect();
    ensure!(born.len() >= 20 && tids.ends_with(&born), "{born:?}");
    let there: BTreeSet<_> = trace.tasks().map(|(event, _)| event.tid).collect();
    ensure!(
        there.contains(&program.pid()) && there.len() <= 2,
        "{there:?}"
    );
    ensure!(
        born.iter().all(|tid| !there.contains(tid)),
        "{there:?}, {born:?}"
    );
    // What a thread did before the snapshot was complete is part of that.
    let complete = trace.tasks().map(|(event, _)| event.ts).max();
    let after: BTreeSet<_> = trace
        .clones()
        .filter(|(event, _)| Some(event.ts) > complete)
        .map(|(_, clone)| clone.child_tid)
        .collect();
    for tid in born {
        let fills = trace.faults().filter(|(event, fault)| {
            event.tid == tid
                && fault.addr.0 / PAGE as u64 == start / PAGE as u64
                && fault.kind == FaultKind::ZeroFill
        });
        let fills = fills.count();
        ensure!(
            fills == 1 || fills == 0 && !after.contains(&tid),
            "thread {tid} has written once, {fills} are told"
        );
        ensure!(
            trace.lives(tid).any(|life| life.until.is_some()),
            "thread {tid} has ended"
        );
    }
    program.finish()
}

#[test]
fn a_thousand_threads() -> Result<()> {
    let mut program = AttachTarget::start("crowd")?;
    let memtrace = Attached::to(Memtrace::new()?, &[program.pid()])?;
    program.work()?;
    program.go_on()?;
    // It ends by itself, as the program does.
    let mut trace = memtrace.finish()?;
    trace.facts = program.facts()?;
    let start = trace.note("area")?.as_u64().context("an address")?;
    let tids = trace.note("tids")?.as_array().context("a list")?;
    let tids: BTreeSet<_> = tids
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .map(|tid| tid as u32)
        .collect();
    assert_eq!(tids.len(), 1000);
    let told: BTreeSet<_> = trace.tasks().map(|(event, _)| event.tid).collect();
    assert_eq!(told, tids.iter().copied().chain([program.pid()]).collect());
    let fills: BTreeSet<_> = trace
        .faults()
        .filter(|(_, fault)| {
            fault.kind == FaultKind::ZeroFill
                && (start..start + 1000 * PAGE as u64).contains(&fault.addr.0)
        })
        .map(|(event, _)| event.tid)
        .collect();
    assert_eq!(fills, tids);
    let ends: BTreeSet<_> = trace.exits().map(|(event, _)| event.tid).collect();
    assert_eq!(ends, told);
    Ok(())
}

/// The mappings of a process that were there at attach.
fn there(trace: &Trace, pid: u32) -> impl Iterator<Item = &Mmap> {
    let there = trace.mmaps();
    there
        .filter(move |(event, mmap)| mmap.by == By::Attach && event.pid == pid)
        .map(|(_, mmap)| mmap)
}

fn acts(trace: &Trace) -> impl Iterator<Item = &Act> {
    trace.facts.iter().filter_map(|fact| match fact {
        Fact::Act(act) => Some(act),
        _ => None,
    })
}

/// The kinds of the faults on a page while it was touched.
fn faults(trace: &Trace, act: &Act, addr: u64) -> Vec<&'static str> {
    trace
        .faults()
        .filter(|(event, fault)| {
            event.tid == act.tid
                && (act.from..act.until).contains(&event.ts)
                && fault.addr.0 / PAGE as u64 == addr / PAGE as u64
        })
        .map(|(_, fault)| fault.kind.name())
        .collect()
}
