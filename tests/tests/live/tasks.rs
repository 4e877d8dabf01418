//! How tasks are made, begin anew and end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use memtrace_events::{Clone, Event, EventKind, Events, Exec};
use tests::harness::{Trace, subject};
use tests::subject::ARGUMENTS;
use tests::subject::report::{Exit, Fact, Task};

#[test]
fn clones_of_every_sort_share_what_kcmp_says() -> Result<()> {
    let trace = Trace::run(["clones", "raw"])?;
    let tasks = tasks(&trace)?;
    ensure!(tasks.len() >= 20, "{} tasks", tasks.len());
    for task in tasks {
        let (event, clone) = made(&trace, task)?;
        let context = || format!("{task:?} is not {event:?}");
        ensure!(clone.call == task.call, context());
        let flags = clone.flags.iter().map(|flag| &**flag);
        ensure!(task.has_flags(flags), context());
    }
    Ok(())
}

#[test]
fn threads_share_nearly_everything() -> Result<()> {
    let trace = Trace::run(["clones", "threads"])?;
    for task in tasks(&trace)? {
        let (event, clone) = made(&trace, task)?;
        ensure!(["clone", "clone3"].contains(&&*clone.call), "{event:?}");
        ensure!(
            clone.thread && clone.flags.iter().any(|flag| &**flag == "CLONE_THREAD"),
            "{event:?}"
        );
        ensure!(clone.shared.signal, "{event:?}");
    }
    Ok(())
}

fn tasks(trace: &Trace) -> Result<Vec<&Task>> {
    trace.reported("task", |fact| match fact {
        Fact::Task(task) => Some(task),
        _ => None,
    })
}

/// The clone event of that task, which must agree with the subject's report.
fn made<'a>(trace: &'a Trace, task: &Task) -> Result<(&'a Event, &'a Clone)> {
    let mut clones = trace
        .clones()
        .filter(|(_, clone)| clone.child_tid == task.child_tid);
    let (event, clone) = clones
        .next()
        .with_context(|| format!("no clone event of {task:?}"))?;
    let context = || format!("{task:?} is not {event:?}");
    ensure!(clones.next().is_none(), "two clone events of {task:?}");
    ensure!(
        event.pid == task.pid && clone.child_pid == task.child_pid,
        context()
    );
    let is_thread = task.child_pid == task.pid;
    ensure!(clone.thread == is_thread, context());
    ensure!(
        clone.exit_signal.unwrap_or(0) == task.exit_signal,
        context()
    );
    let told = BTreeMap::from(clone.shared.parts());
    for (part, is_shared) in &task.shared {
        ensure!(told.get(part) == Some(is_shared), "{part:?}: {}", context());
    }
    ensure!(clone.shared.signal == is_thread, context());
    Ok((event, clone))
}

#[test]
fn each_end_has_its_code_or_signal() -> Result<()> {
    let trace = Trace::run(["lives", "exits"])?;
    for end in ends(&trace)? {
        let exits: Vec<_> = trace
            .exits()
            .filter(|(event, _)| event.pid == end.pid)
            .collect();
        let (last, others) = exits
            .split_last()
            .with_context(|| format!("no exit event of {end:?}"))?;
        let (event, exit) = last;
        ensure!(
            !exit.thread && exit.code == end.code && exit.signal == end.signal,
            "{end:?} is not {event:?}"
        );
        let threads = usize::from(end.name == "exit with a thread left");
        ensure!(
            others.len() == threads && others.iter().all(|(_, exit)| exit.thread),
            "{others:?}"
        );
    }
    Ok(())
}

fn ends(trace: &Trace) -> Result<Vec<&Exit>> {
    trace.reported("end", |fact| match fact {
        Fact::Exit(exit) => Some(exit),
        _ => None,
    })
}

fn only_end(trace: &Trace) -> Result<&Exit> {
    let [end] = ends(trace)?[..] else {
        anyhow::bail!("one end expected")
    };
    Ok(end)
}

fn only_exec(trace: &Trace, pid: u32) -> Result<(&Event, &Exec)> {
    let mut execs = trace.execs().filter(|(event, _)| event.pid == pid);
    let exec = execs.next().context("no exec")?;
    ensure!(execs.next().is_none(), "more than one exec");
    Ok(exec)
}

#[test]
fn an_exec_tells_file_and_arguments() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let link = folder.path().join("a link");
    std::os::unix::fs::symlink(subject("lives"), &link)?;
    let link = link.to_str().context("a folder's name")?;

    let trace = Trace::run(["lives", "exec", link])?;
    let end = only_end(&trace)?;
    let (event, exec) = only_exec(&trace, end.pid)?;
    assert_eq!(exec.file, link);
    assert_eq!(
        exec.exe.as_deref(),
        std::fs::canonicalize(link)?.to_str(),
        "{event:?}"
    );
    assert_eq!(exec.args, ARGUMENTS);
    assert_eq!(end.code, Some(5));
    Ok(())
}

#[test]
fn an_exec_of_a_script_tells_its_interpreter() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    let script = script.to_str().context("a folder's name")?;

    let trace = Trace::program([script])?;
    let (event, exec) = trace.execs().next().context("no exec")?;
    assert_eq!(exec.file, script, "{event:?}");
    assert_eq!(
        exec.exe.as_deref(),
        std::fs::canonicalize("/bin/sh")?.to_str(),
        "{event:?}"
    );
    Ok(())
}

#[test]
fn the_first_exec_is_that_of_the_program() -> Result<()> {
    let trace = Trace::run(["lives", "return", "0", "argument"])?;
    let (event, exec) = trace.execs().next().context("no exec")?;
    let program = subject("lives")
        .into_string()
        .ok()
        .context("a folder's name")?;
    assert_eq!(exec.file, program);
    assert_eq!(exec.args, [program.as_str(), "return", "0", "argument"]);
    assert_eq!(trace.start.command, exec.args);
    // Exec itself touches pages of the new program; all else comes after it.
    let first = trace
        .events
        .iter()
        .find(|other| !matches!(other.what, EventKind::Fault(_)))
        .context("no event")?;
    ensure!(std::ptr::eq(first, event), "before the exec: {first:?}");
    Ok(())
}

#[test]
fn an_exec_in_a_thread_keeps_the_process() -> Result<()> {
    let trace = Trace::run(["lives", "exec-in-thread"])?;
    let end = only_end(&trace)?;
    assert_eq!(end.code, Some(6));
    let (event, exec) = only_exec(&trace, end.pid)?;
    assert_eq!(event.tid, end.pid, "{event:?}");
    assert_eq!(exec.args, ["lives", "return", "6"]);
    // Two threads end by the exec, whose status the kernel doesn't give; one had ended before; the last is the new program's.
    let execs = exec.old_tid;
    let ends = trace.note("ends")?.as_u64().context("a thread's id")? as u32;
    let exits: Vec<_> = trace
        .exits()
        .filter(|(event, _)| event.pid == end.pid)
        .map(|(event, exit)| (event.tid, exit.code, exit.signal, exit.by_exec))
        .collect();
    let (last, others) = exits.split_last().context("no exit")?;
    assert_eq!(*last, (end.pid, Some(6), None, None));
    let by_exec = others.iter().filter(|(.., by_exec)| by_exec.is_some());
    assert_eq!(by_exec.count(), 2, "{exits:?}");
    ensure!(
        others.contains(&(ends, Some(0), None, None))
            && others.contains(&(end.pid, None, None, execs)),
        "{exits:?}"
    );

    // The first thread's life is over, and the other one's goes on with its id.
    let lives: Vec<_> = trace.lives(end.pid).collect();
    let [first, other] = lives[..] else {
        anyhow::bail!("{lives:?}")
    };
    assert_eq!((first.born_tid, other.born_tid), (None, execs));
    assert_eq!(other.parent_number, Some(first.number), "{other:?}");
    ensure!(first.until <= Some(event.ts), "{first:?}");
    assert_eq!(
        other.until,
        trace
            .exits()
            .find(|(_, exit)| exit.code == Some(6))
            .map(|(event, _)| event.ts)
    );
    same_as_wait4(&trace)
}

#[test]
fn a_sibling_has_its_makers_parent_and_signal() -> Result<()> {
    let trace = Trace::run(["lives", "sibling"])?;
    let maker = trace.note("maker")?.as_u64().context("the maker")? as u32;
    let kin: [u32; 3] = serde_json::from_value(trace.note("sibling")?.clone())?;
    let [sibling, parent, signal] = kin;
    let signal = signal as i32;
    let (event, clone) = trace
        .clones()
        .find(|(_, clone)| clone.child_pid == sibling)
        .context("no clone event")?;
    assert_eq!(event.pid, maker);
    assert_eq!(
        (clone.ppid, clone.exit_signal),
        (Some(parent), Some(signal)),
        "{event:?}"
    );
    assert_eq!(signal, libc::SIGCHLD, "not the one asked for");
    let (_, made) = trace
        .clones()
        .find(|(_, clone)| clone.child_pid == maker)
        .context("no clone event of the maker")?;
    assert_eq!(made.ppid, Some(parent));
    let parents: Vec<_> = [maker, sibling]
        .iter()
        .flat_map(|&tid| trace.lives(tid))
        .map(|life| (life.parent, life.parent_number))
        .collect();
    assert_eq!(parents, [(Some(parent), Some(1)); 2]);
    Ok(())
}

#[test]
fn a_thousand_forks() -> Result<()> {
    let trace = Trace::run(["lives", "forks", "1000"])?;
    let parent = trace.note("pid")?.as_u64().context("the subject's pid")? as u32;
    let children: BTreeSet<_> = trace.clones().map(|(_, clone)| clone.child_pid).collect();
    assert_eq!(trace.clones().count(), 1000);
    assert_eq!(children.len(), 1000);
    let ended: BTreeSet<_> = trace.exits().map(|(event, _)| event.pid).collect();
    assert_eq!(trace.exits().count(), 1001);
    assert!(children.is_subset(&ended) && ended.contains(&parent));

    let accounts: Vec<_> = children
        .iter()
        .map(|&pid| trace.account(pid))
        .collect::<Result<_>>()?;
    let usage = trace.usages()?[0];
    assert_eq!(
        accounts.iter().map(|account| account.min_flt).sum::<u64>(),
        usage.minor
    );
    assert_eq!(
        accounts.iter().map(|account| account.maj_flt).sum::<u64>(),
        usage.major
    );
    for account in accounts {
        assert_eq!(account.unobserved, 0, "{account:?}");
    }
    Ok(())
}

/// The kernel's count of each process that the subject waited for.
fn same_as_wait4(trace: &Trace) -> Result<()> {
    for usage in trace.usages()? {
        let account = trace.account(usage.pid)?;
        ensure!(
            account.min_flt == usage.minor && account.maj_flt == usage.major,
            "{account:?} is not {usage:?}"
        );
    }
    Ok(())
}
