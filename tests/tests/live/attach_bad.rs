//! What memtrace can't attach to is said in a line, and the exit status is 125.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tests::harness::{AttachTarget, Memtrace, Run, command, wait_for};

#[test]
fn a_process_that_is_gone() -> Result<()> {
    let pid = Run::of(&mut command(["true"])?)?.pid;
    attach(pid)?.said_one_line(125, &pid.to_string())
}

#[test]
fn a_kernel_thread() -> Result<()> {
    ensure!(
        fs::read("/proc/2/cmdline")?.is_empty(),
        "process 2 is none of the kernel's threads here"
    );
    attach(2)?.said_one_line(125, "kernel thread")
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
    run.said_one_line(125, &child.id().to_string())?;
    run.said_one_line(125, "zombie")
}

#[test]
fn itself() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let mut command = command(["sh", "-c", "exec \"$0\" attach $$"])?;
    let run = Run::of(command.arg(memtrace.binary()))?;
    run.said_one_line(125, "itself")
}

#[test]
fn a_thread_that_is_not_the_first() -> Result<()> {
    let program = AttachTarget::start("idle")?;
    let mut tids = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", program.pid()))? {
        tids.push(task?.file_name().to_string_lossy().parse::<u32>()?);
    }
    let tid = tids.iter().max().copied().unwrap_or_default();
    let run = Run::of(&mut Memtrace::new()?.attach([tid]))?;
    run.said_one_line(125, &tid.to_string())?;
    run.said_one_line(125, &program.pid().to_string())?;
    program.work_and_finish()
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
    let program = AttachTarget::start("idle")?;
    let memtrace = Memtrace::new()?;
    let run = Run::of(&mut memtrace.attach([program.pid().to_string(), gone.to_string()]))?;
    run.said_one_line(125, &gone.to_string())?;
    program.work_and_finish()
}

#[test]
fn without_root() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let mut command = memtrace.of_nobody()?;
    command.args(["attach", &std::process::id().to_string()]);
    Run::of(&mut command)?.said_one_line(125, "root")
}

fn attach(pid: u32) -> Result<Run> {
    Run::of(&mut Memtrace::new()?.attach([pid]))
}
