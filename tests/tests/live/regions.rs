//! Each region of the address space is called what it is.

use anyhow::{Context, Result, ensure};
use memtrace_events::{Events, Region};
use tests::harness::{OneTrace, Trace};
use tests::subject::arch::LIBRARIES_HAVE_RODATA;

/// All of them in one run: memtrace's start takes longer than they do.
static TRACE: OneTrace = OneTrace::new(|| {
    Trace::in_turn(&[
        &["regions", "program"],
        &["regions", "anonymous"],
        &["regions", "stacks"],
        &["regions", "library"],
        &["regions", "vdso"],
    ])
});

#[test]
fn the_program_itself() -> Result<()> {
    are_the_programs(TRACE.get()?)
}

/// Fails unless what `regions program` touches is called what it is.
pub fn are_the_programs(trace: &Trace) -> Result<()> {
    trace.fault("text")?.is("file-map", "text")?;
    trace.fault("rodata")?.is("file-map", "rodata")?;
    trace.fault("data")?.is("file-cow", "data")?;
    trace.fault("bss, read")?.is("zero-read", "bss")?;
    trace.fault("bss, written")?.is("cow-zero", "bss")?;
    Ok(())
}

#[test]
fn heap_anonymous_memory_files_and_shared_memory() -> Result<()> {
    let trace = TRACE.get()?;
    trace.fault("heap")?.is("zero-fill", "heap")?;
    trace.fault("anonymous")?.is("zero-fill", "anon")?;
    trace.fault("file")?.is("file-map", "file")?;
    trace.fault("shared memory")?.is("shm-fill", "shm")?;
    Ok(())
}

#[test]
fn stacks_of_the_first_and_of_other_threads() -> Result<()> {
    let trace = TRACE.get()?;
    trace.fault("stack")?.is("zero-fill", "stack")?;
    trace
        .fault("thread stack")?
        .is("zero-fill", "thread-stack")?;
    Ok(())
}

#[test]
fn a_library_and_its_parts() -> Result<()> {
    let trace = TRACE.get()?;
    trace
        .fault("library text")?
        .is("file-map", "lib")?
        .in_part("text")?;
    if LIBRARIES_HAVE_RODATA {
        trace
            .fault("library rodata")?
            .is("file-map", "lib")?
            .in_part("rodata")?;
    }
    trace
        .fault("library data")?
        .is("cow-copy", "lib")?
        .in_part("data")?;
    trace
        .fault("library bss")?
        .is("cow-copy", "lib")?
        .in_part("bss")?;
    Ok(())
}

#[test]
fn the_vdso() -> Result<()> {
    let trace = TRACE.get()?;
    let seen = trace.fault("vdso")?;
    assert_eq!(seen.fault.region, Region::Vdso, "{:?}", seen.event);
    Ok(())
}

/// A process that is over before anybody could look at its /proc.
#[test]
fn a_process_that_lives_for_a_millisecond() -> Result<()> {
    for _ in 0..5 {
        let trace = Trace::program(["/bin/true"])?;
        let exe = std::fs::canonicalize("/bin/true")?;
        for region in [Region::Text, Region::Data, Region::Stack, Region::Lib] {
            let fault = trace.faults().find(|(_, fault)| fault.region == region);
            let (event, fault) = fault.with_context(|| format!("no fault in region {region:?}"))?;
            if [Region::Text, Region::Data].contains(&region) {
                ensure!(fault.file.as_deref() == exe.to_str(), "{event:?}");
            }
        }
        for (event, fault) in trace.faults() {
            ensure!(fault.region != Region::Unmapped, "{event:?}");
        }
    }
    Ok(())
}
