//! Real programs: every line of the trace parses, the accounts add up, and the program is none the worse.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use memtrace_events::{Events, FaultKind, Region};
use tests::harness::Run;
use tests::harness::{Memtrace, Trace, command, subject};

#[test]
fn python() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "import os, sys, json\n\
        data = [str(i) * 10 for i in range(20000)]\n\
        if os.fork() == 0: data[:] = [x + 'y' for x in data]; os._exit(0)\n\
        os.wait(); print(len(data), sum(map(len, data))); sys.exit(7)";
    let trace = same_as_untraced(folder.path(), ["python3", "-c", script])?;
    assert_eq!(trace.run.code(), Some(7));
    let copies = trace
        .faults()
        .filter(|(_, fault)| fault.kind == FaultKind::CowCopy)
        .count();
    ensure!(
        copies > 100,
        "{copies} copies in a child that writes thousands of objects"
    );
    Ok(())
}

#[test]
fn gcc() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let source = "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n";
    fs::write(folder.path().join("hello.c"), source)?;
    let trace = same_as_untraced(folder.path(), ["gcc", "-O1", "-o", "hello", "hello.c"])?;
    assert_eq!(trace.run.code(), Some(0));
    // The compiler proper, the assembler, the linker.
    ensure!(
        trace.execs().count() >= 4,
        "{} execs",
        trace.execs().count()
    );
    Ok(())
}

#[test]
fn git() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "rm -rf work && git init -q work && cd work && echo text > file && git add file && \
        git -c maintenance.auto=false -c gc.auto=0 -c user.name=A -c user.email=a@b.c commit -q -m message && git log --format=%s%n%an";
    let trace = same_as_untraced(folder.path(), ["sh", "-c", script])?;
    assert_eq!(trace.run.stdout, "message\nA\n");
    Ok(())
}

#[test]
fn a_shell_pipeline() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "seq 1 20000 | sort -r | uniq | (while read a; do echo $a; done) | wc -l; exit 3";
    let trace = same_as_untraced(folder.path(), ["sh", "-c", script])?;
    assert_eq!(trace.run.code(), Some(3));
    assert_eq!(trace.run.stdout, "20000\n");
    Ok(())
}

/// Runs a program untraced and traced: it must print and end alike, and the account of all its processes must be what
/// wait4(2) says of it.
fn same_as_untraced<const N: usize>(folder: &Path, program: [&str; N]) -> Result<Trace> {
    let plain = Run::of(command(program)?.current_dir(folder))?;

    let memtrace = Memtrace::new()?.with_json();
    let command: Vec<_> = [subject("usage")]
        .into_iter()
        .chain(program.iter().map(Into::into))
        .collect();
    let run = Run::of(
        memtrace
            .command::<&OsStr>(command.iter().map(AsRef::as_ref))
            .current_dir(folder),
    )?;
    let trace = memtrace.read(run)?;
    trace.check_accounts()?;
    for (event, fault) in trace.faults() {
        ensure!(fault.region != Region::Unknown, "{event:?}");
    }
    assert_eq!(trace.run.stdout, plain.stdout);
    assert_eq!(trace.run.stderr, plain.stderr);
    assert_eq!(trace.run.code(), plain.code());

    let usage = trace.usages()?[0];
    let (wrapper, _) = trace
        .execs()
        .next()
        .ok_or_else(|| anyhow::anyhow!("no exec"))?;
    let accounts = || {
        trace
            .end
            .processes
            .iter()
            .filter(|account| account.pid != wrapper.pid)
    };
    let minor: u64 = accounts().map(|account| account.min_flt).sum();
    let major: u64 = accounts().map(|account| account.maj_flt).sum();
    ensure!(
        (minor, major) == (usage.minor, usage.major),
        "minor {minor}, major {major} is not {usage:?}"
    );
    Ok(trace)
}
