//! In a pid namespace of one's own, ids are those that one sees there, with those of the outer world beside them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use memtrace_events::{Events, FaultKind};
use tests::harness::{Memtrace, Run, Running, Trace, proc, subject, within};

#[test]
fn memtrace_in_a_container() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let file = memtrace.folder().join("go on");
    let mut running = Running::start(&mut in_container(
        &memtrace.command([subject("patient"), file.clone().into()]),
    ))?;
    let inner = running.until("the program's start", || memtrace.note("ready"))?;
    let inner = inner.as_u64().context("a process id")? as u32;
    let outer = outside(running.pid().as_raw() as u32, inner)?;
    ensure!(outer != inner, "{outer} is no other id");
    fs::write(&file, "")?;
    let trace = memtrace.read(running.finish()?)?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    trace.check_accounts()?;

    let (first, _) = trace.execs().next().context("no exec")?;
    assert_eq!(
        (first.pid, first.global.map(|global| global.pid)),
        (inner, Some(outer))
    );
    let both = both_ids(&trace)?;
    assert_eq!(both.get(&inner), Some(&outer));
    let (event, clone) = trace.clones().next().context("no clone")?;
    ensure!(clone.child_pid != inner, "{event:?}");
    ensure!(
        clone.child_global.is_some_and(|global| {
            both.get(&clone.child_pid) == Some(&global.pid)
                && both.get(&clone.child_tid) == Some(&global.tid)
        }),
        "{event:?}; {both:?}"
    );
    for life in &trace.end.tasks {
        ensure!(
            life.global.is_some_and(|global| {
                both.get(&life.pid) == Some(&global.pid) && both.get(&life.tid) == Some(&global.tid)
            }),
            "{life:?}; {both:?}"
        );
    }
    let fork = trace.fork(1)?;
    assert_eq!((fork.parent, fork.child), (inner, clone.child_pid));
    Ok(())
}

/// Starts a program and becomes memtrace when that is ready.
const SCRIPT: &str = "mkfifo \"$1\" || exit
    \"$0\" idle \"$1\" &
    pid=$!
    shift
    until grep -q ready \"$SUBJECT_REPORT\"; do sleep 0.01; done
    exec \"$@\" $pid";

#[test]
fn an_attach_in_a_container() -> Result<()> {
    let memtrace = Memtrace::new()?
        .options(["--duration", "500ms"])
        .with_json();
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT])
        .arg(subject("attach-target"))
        .arg(memtrace.folder().join("fifo"));
    let attach = memtrace.attach([""; 0]);
    command.arg(attach.get_program()).args(attach.get_args());
    command.env(
        tests::subject::report::REPORT,
        memtrace.folder().join("report"),
    );
    let trace = memtrace.read(Run::of(&mut in_container(&command))?)?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    let inner = trace.note("ready")?.as_u64().context("a process id")? as u32;
    assert_eq!(trace.start.attached, [inner]);
    let threads: Vec<_> = trace.tasks().map(|(event, _)| event.pid).collect();
    assert_eq!(threads, [inner; 3]);
    let both = both_ids(&trace)?;
    ensure!(both.contains_key(&inner), "{both:?}");
    Ok(())
}

#[test]
fn a_container_seen_from_outside() -> Result<()> {
    let command = in_container(Command::new(subject("cow")).arg("20"));
    let words: Vec<OsString> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(Into::into)
        .collect();
    let trace = Memtrace::new()?.trace(words)?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    let inner = trace.touches("child first: child")?[0].pid;
    for event in &trace.events {
        ensure!(event.global.is_none(), "{event:?}");
        ensure!(event.pid != inner, "an id from inside: {event:?}");
    }
    // memtrace's child, then the namespace's first process, then its child.
    let born: Vec<_> = trace.clones().map(|(_, clone)| clone.child_pid).collect();
    assert_eq!(born.len(), 2);
    let (parent, copies) = copies(&trace, born[0], born[1]);
    ensure!(parent >= 20 && copies >= 20, "{parent} and {copies} copies");
    trace.check_accounts()
}

fn copies(trace: &Trace, parent: u32, child: u32) -> (usize, usize) {
    let of = |pid| {
        trace
            .faults()
            .filter(|(event, fault)| event.pid == pid && fault.kind == FaultKind::CowCopy)
            .count()
    };
    (of(parent), of(child))
}

/// That command in a pid namespace, with a /proc of its own.
fn in_container(command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--pid", "--fork", "--mount-proc", "--"]);
    within(outer, command)
}

/// The id here of the process that has the id `inner` in a namespace below, and comes from `ancestor`.
fn outside(ancestor: u32, inner: u32) -> Result<u32> {
    for pid in proc::processes()? {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        let ids = field(&status, "NSpid:").unwrap_or_default();
        if ids.len() > 1 && ids.last() == Some(&inner) && comes_from(pid, ancestor) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process from {ancestor} is {inner} inside")
}

fn comes_from(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 && pid != ancestor {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = field(&status, "PPid:").and_then(|ids| ids.first().copied());
        pid = parent.unwrap_or(0);
    }
    pid == ancestor
}

fn field(status: &str, name: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace()
        .map(|id| id.parse().ok())
        .collect()
}

/// Each id inside with that outside: every event has both, and always the same.
fn both_ids(trace: &Trace) -> Result<BTreeMap<u32, u32>> {
    let mut both = BTreeMap::new();
    for event in &trace.events {
        let global = event
            .global
            .with_context(|| format!("only one: {event:?}"))?;
        for (inside, outside) in [(event.pid, global.pid), (event.tid, global.tid)] {
            ensure!(inside != outside, "{event:?}");
            let before = both.insert(inside, outside);
            ensure!(before.is_none_or(|before| before == outside), "{event:?}");
        }
    }
    Ok(both)
}
