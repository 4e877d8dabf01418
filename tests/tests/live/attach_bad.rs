//! What memtrace can't attach to is said in a line, and the exit status is 125.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tests::harness::{AttachTarget, Memtrace, Run, command, wait_for};

const NOBODY: u32 = 65_534;

#[test]
fn a_process_that_is_gone() -> Result<()> {
    let pid = Run::of(&mut command(["true"])?)?.pid;
    one_line(&attach(pid)?, &pid.to_string())
}

#[test]
fn a_kernel_thread() -> Result<()> {
    ensure!(
        fs::read("/proc/2/cmdline")?.is_empty(),
        "process 2 is none of the kernel's threads here"
    );
    one_line(&attach(2)?, "kernel thread")
}

#[test]
fn a_zombie() -> Result<()> {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn()?;
    let stat = format!("/proc/{}/stat", child.id());
    wait_for("a zombie", || {
        Ok(fs::read_to_string(&stat)?.contains(") Z ").then_some(()))
    })?;
    let run = attach(child.id())?;
    child.wait()?;
    one_line(&run, &child.id().to_string())?;
    one_line(&run, "zombie")
}

#[test]
fn itself() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let mut command = command(["sh", "-c", "exec \"$0\" attach $$"])?;
    let run = Run::of(command.arg(memtrace.binary()))?;
    one_line(&run, "itself")
}

#[test]
fn a_thread_that_is_not_the_first() -> Result<()> {
    let mut program = AttachTarget::start("idle")?;
    let mut tids = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", program.pid()))? {
        tids.push(task?.file_name().to_string_lossy().parse::<u32>()?);
    }
    let tid = tids.iter().max().copied().unwrap_or_default();
    let run = Run::of(&mut Memtrace::new()?.attach([tid]))?;
    one_line(&run, &tid.to_string())?;
    one_line(&run, &program.pid().to_string())?;
    program.work()?;
    program.finish()
}

#[test]
fn its_own_ancestor_with_all_descendants() -> Result<()> {
    let memtrace = Memtrace::new()?
        .options(["--tree", "--duration", "300ms"])
        .with_json();
    // The shell waits for memtrace, which is its descendant, and traces the shell, but not itself.
    let mut command = command(["sh", "-c", "\"$0\" \"$@\" $$; exit $?"])?;
    let attach = memtrace.attach([""; 0]);
    command.arg(attach.get_program()).args(attach.get_args());
    let run = Run::of(&mut command)?;
    let shell = run.pid;
    let trace = memtrace.read(run)?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    assert_eq!(trace.start.attached, [shell]);
    for event in &trace.events {
        ensure!(event.pid == shell, "{event:?}");
    }
    Ok(())
}

#[test]
fn no_process_at_all() -> Result<()> {
    for wrong in ["redis", "0", "-1", "1.5", "99999999999", "4194305"] {
        let memtrace = Memtrace::new()?;
        let run = Run::of(&mut memtrace.attach([wrong]))?;
        ensure!(run.code() == Some(125), "{wrong}: {run:?}");
        ensure!(run.stderr.contains(wrong), "{wrong}: {}", run.stderr);
    }
    let run = Run::of(&mut Memtrace::new()?.attach([""; 0]))?;
    ensure!(run.code() == Some(125), "{run:?}");
    Ok(())
}

#[test]
fn a_duration_that_is_none() -> Result<()> {
    for wrong in ["soon", "-1", "1 fortnight"] {
        let memtrace = Memtrace::new()?.options(["--duration", wrong]);
        let run = Run::of(&mut memtrace.attach([1]))?;
        ensure!(run.code() == Some(125), "{wrong}: {run:?}");
    }
    Ok(())
}

#[test]
fn one_good_and_one_that_is_gone() -> Result<()> {
    let gone = Run::of(&mut command(["true"])?)?.pid;
    let mut program = AttachTarget::start("idle")?;
    let memtrace = Memtrace::new()?;
    let run = Run::of(&mut memtrace.attach([program.pid().to_string(), gone.to_string()]))?;
    one_line(&run, &gone.to_string())?;
    program.work()?;
    program.finish()
}

#[test]
fn without_root() -> Result<()> {
    let memtrace = Memtrace::new()?;
    // The usual place may be in a folder that is closed to others.
    let binary = memtrace.folder().join("memtrace");
    fs::copy(memtrace.binary(), &binary)?;
    let mut command = command([&binary])?;
    command
        .args(["attach", &std::process::id().to_string()])
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/");
    one_line(&Run::of(&mut command)?, "root")
}

fn attach(pid: u32) -> Result<Run> {
    Run::of(&mut Memtrace::new()?.attach([pid]))
}

/// memtrace said one line, which names the thing, and ended with 125.
fn one_line(run: &Run, thing: &str) -> Result<()> {
    ensure!(run.code() == Some(125), "{run:?}");
    ensure!(
        run.stderr.lines().count() == 1,
        "one line expected: {}",
        run.stderr
    );
    ensure!(
        run.stderr.contains(thing),
        "{thing:?} should be named: {}",
        run.stderr
    );
    Ok(())
}
