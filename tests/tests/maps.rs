//! System calls on the address space, and the mappings that exec makes.

use anyhow::{Result, ensure};
use tests::harness::{Trace, What, subject};

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
    let by_exec: Vec<_> = trace
        .events
        .iter()
        .filter(|event| matches!(&event.what, What::Mmap(mmap) if mmap.by == "exec"))
        .map(|event| &event.line)
        .collect();
    let code = by_exec.iter().find(|line| {
        line["file"].as_str() == exe.to_str()
            && line["prot"]
                .as_array()
                .is_some_and(|prot| prot.contains(&"PROT_EXEC".into()))
    });
    ensure!(
        code.is_some(),
        "the program's code is not among {by_exec:?}"
    );
    let linker = by_exec.iter().any(|line| {
        line["file"]
            .as_str()
            .is_some_and(|file| file.contains("ld-linux"))
    });
    ensure!(linker, "the dynamic linker is not among {by_exec:?}");
    Ok(())
}
