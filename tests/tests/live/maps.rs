//! System calls on the address space, and the mappings that exec makes.

use anyhow::{Result, ensure};
use memtrace_events::{By, Events};
use tests::harness::{Trace, subject};

#[test]
fn calls_that_succeed_and_calls_that_fail() -> Result<()> {
    let trace = Trace::run(["maps"])?;
    let failed = trace.check_calls()?;
    assert_eq!(failed, 7, "failing calls in the subject's report");
    Ok(())
}

#[test]
fn exec_maps_the_program_and_its_linker() -> Result<()> {
    let trace = Trace::run(["lives", "return", "0"])?;
    let exe = std::fs::canonicalize(subject("lives"))?;
    let by_exec = trace.mmaps().filter(|(_, mmap)| mmap.by == By::Exec);
    let by_exec: Vec<_> = by_exec.map(|(_, mmap)| mmap).collect();
    let code = by_exec.iter().find(|mmap| {
        let mut prot = mmap.prot.iter();
        mmap.file.as_deref() == exe.to_str() && prot.any(|one| &**one == "PROT_EXEC")
    });
    ensure!(
        code.is_some(),
        "the program's code is not among {by_exec:?}"
    );
    let mut files = by_exec.iter().filter_map(|mmap| mmap.file.as_ref());
    ensure!(
        files.any(|file| file.contains("ld-linux")),
        "the dynamic linker is not among {by_exec:?}"
    );
    Ok(())
}
