//! The options of `memtrace run`. (`--user` is in users.rs, `--summary`'s counts are in accounting.rs.)

use std::fs;

use anyhow::{Context, Result, ensure};
use memtrace_events::{EventKind, Events, FaultKind};
use tests::harness::{Memtrace, subject};

#[test]
fn only_some_events() -> Result<()> {
    for (only, wanted) in [
        ("fault", &["fault"][..]),
        ("clone,exit", &["clone", "exit"]),
        ("exec,brk,mmap", &["exec", "brk", "mmap"]),
        ("cow-copy,clone", &["fault", "clone"]),
    ] {
        let trace = Memtrace::new()?
            .options(["--only", only])
            .trace([subject("fork-write")])?;
        for wanted in wanted {
            ensure!(
                trace
                    .events
                    .iter()
                    .any(|event| event.what.name() == *wanted),
                "{only}: no {wanted}"
            );
        }
        for event in &trace.events {
            ensure!(wanted.contains(&event.what.name()), "{only}: {event:?}");
            let is_other =
                matches!(&event.what, EventKind::Fault(fault) if fault.kind != FaultKind::CowCopy);
            ensure!(only != "cow-copy,clone" || !is_other, "{event:?}");
        }
    }
    Ok(())
}

#[test]
fn not_following_children() -> Result<()> {
    let trace = Memtrace::new()?
        .options(["--no-follow"])
        .trace([subject("cow"), "20".into()])?;
    let (first, _) = trace.execs().next().context("no exec")?;
    let (_, clone) = trace.clones().next().context("no clone")?;
    ensure!(clone.child_pid != first.pid, "{clone:?}");
    for event in &trace.events {
        ensure!(event.pid == first.pid, "{event:?}");
    }
    assert_eq!(
        trace
            .end
            .processes
            .iter()
            .map(|account| account.pid)
            .collect::<Vec<_>>(),
        [first.pid]
    );
    for touch in trace.touches("child first: parent")? {
        trace.fault_of(touch)?.is("cow-reuse", "anon")?;
    }
    trace.check_accounts()
}

#[test]
fn text_into_a_file() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join("trace.txt");
    let output = file.to_str().context("a folder's name")?;
    let memtrace = memtrace.options(["--no-fold", "--format", "text", "-o", output]);
    let run = memtrace.run([subject("cow"), "5".into()])?;
    assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""));

    let text = fs::read_to_string(&file)?;
    ensure!(!text.contains('\u{1b}'), "colour in a file");
    for fact in memtrace.facts()? {
        if let tests::subject::report::Fact::Touch(touch) = fact {
            let addr = format!("{:x}", touch.addr);
            let lines: Vec<_> = text.lines().filter(|line| line.contains(&addr)).collect();
            // The proof: the frame that the page is in now.
            let frame = touch.after.context("a frame")?;
            let proof = [format!("{frame}"), format!("{frame:x}")];
            ensure!(
                lines
                    .iter()
                    .any(|line| proof.iter().any(|frame| line.contains(frame))),
                "no line with {addr} and frame {proof:?} in {lines:#?}"
            );
        }
    }
    Ok(())
}

#[test]
fn runs_of_faults_fold_into_one_line() -> Result<()> {
    let lines = |options: &[&str]| -> Result<usize> {
        // Its processes take turns: faults of others between would end a run.
        let run = Memtrace::new()?
            .options(options)
            .run([subject("cow"), "50".into()])?;
        assert_eq!(run.code(), Some(0), "{run:?}");
        Ok(run.stderr.lines().count())
    };
    let (folded, each) = (lines(&[])?, lines(&["--no-fold"])?);
    ensure!(folded * 2 < each, "{folded} lines folded, {each} lines not");
    Ok(())
}

#[test]
fn the_text_goes_to_stderr_alone() -> Result<()> {
    let run = Memtrace::new()?.run(["echo", "hello"])?;
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "hello\n"));
    ensure!(run.stderr.lines().count() > 5, "{}", run.stderr);
    Ok(())
}

#[test]
fn a_summary_is_a_table_without_events() -> Result<()> {
    let text = Memtrace::new()?
        .options(["--summary"])
        .run([subject("cow"), "50".into()])?;
    assert_eq!(text.code(), Some(0), "{text:?}");
    ensure!(text.stderr.contains("cow"), "{}", text.stderr);
    let all = Memtrace::new()?
        .options(["--no-fold"])
        .run([subject("cow"), "50".into()])?;
    ensure!(
        text.stderr.lines().count() * 4 < all.stderr.lines().count(),
        "{}",
        text.stderr
    );
    Ok(())
}
