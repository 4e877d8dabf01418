//! One fault of each kind comes out as what it is. That frames, counts, files and times are right is checked with each.

use anyhow::{Result, ensure};
use memtrace_events::{Counted, Events, Mode};
use tests::harness::{OneTrace, Trace};

/// All of them in one run: memtrace's start takes longer than they do.
static TRACE: OneTrace = OneTrace::new(|| {
    Trace::in_turn(&[
        &["kinds", "anonymous"],
        &["kinds", "huge"],
        &["kinds", "takeover"],
        &["kinds", "private-file"],
        &["kinds", "shared-file"],
        &["kinds", "major"],
        &["kinds", "shared-memory"],
        &["kinds", "kernel"],
        &["invalid"],
    ])
});

#[test]
fn anonymous_memory() -> Result<()> {
    let trace = TRACE.get()?;
    for (name, kind) in [
        ("read of an untouched page", "zero-read"),
        ("write over the zero page", "cow-zero"),
        ("write to an untouched page", "zero-fill"),
    ] {
        trace.fault(name)?.is(kind, "anon")?;
    }
    Ok(())
}

#[test]
fn a_huge_page() -> Result<()> {
    const HUGE: u64 = 2 << 20;
    let trace = TRACE.get()?;
    let seen = trace
        .fault("write to an untouched huge page")?
        .is("zero-fill", "anon")?;
    if trace.note("huge")? == true {
        assert_eq!(seen.fault.page_size, HUGE);
        let (touch, small_pages) = (
            trace.touches("write to an untouched huge page")?[0],
            HUGE / 4096,
        );
        let (frame, huge_frame) = (
            touch.after,
            touch.after.map(|frame| frame / small_pages * small_pages),
        );
        ensure!(
            seen.fault.pfn_after == frame || seen.fault.pfn_after == huge_frame,
            "frame {frame:?}: {:?}",
            seen.event
        );
    } else {
        assert_eq!(seen.fault.page_size, 4096);
    }
    Ok(())
}

#[test]
fn a_page_made_writable_again() -> Result<()> {
    let trace = TRACE.get()?;
    trace
        .fault("write after mprotect and the child's end")?
        .is("cow-reuse", "anon")?;
    Ok(())
}

#[test]
fn a_private_file() -> Result<()> {
    let trace = TRACE.get()?;
    for (name, kind) in [
        ("read of a cached private file page", "file-map"),
        ("write to a private file page that was read", "cow-copy"),
        ("write to an unmapped private file page", "file-cow"),
    ] {
        trace.fault(name)?.is(kind, "file")?;
    }
    Ok(())
}

#[test]
fn a_shared_file() -> Result<()> {
    let trace = TRACE.get()?;
    for (name, kind) in [
        ("read of a cached shared file page", "file-map"),
        ("write to a shared file page that was read", "shared-write"),
        ("write to an unmapped shared file page", "shared-write"),
        (
            "read of a shared file page that is open for reading alone",
            "file-map",
        ),
    ] {
        trace.fault(name)?.is(kind, "file")?;
    }
    Ok(())
}

#[test]
fn a_file_that_must_be_read_from_disk() -> Result<()> {
    let trace = TRACE.get()?;
    let read = trace
        .fault("read of a file page on disk")?
        .is("file-read", "file")?;
    assert_eq!(read.fault.counted, Some(Counted::Major));
    let written = trace
        .fault("write to a private file page on disk")?
        .is("file-cow", "file")?;
    assert_eq!(written.fault.counted, Some(Counted::Major));
    Ok(())
}

#[test]
fn shared_memory() -> Result<()> {
    let trace = TRACE.get()?;
    for (name, kind) in [
        ("write to fresh shared memory", "shm-fill"),
        ("read of fresh shared memory", "shm-fill"),
        (
            "the child's read of a page that the parent has filled",
            "file-map",
        ),
        (
            "the child's write to a page that the parent has filled",
            "shared-write",
        ),
        ("write to a fresh memfd page", "shm-fill"),
        ("write to fresh SysV shared memory", "shm-fill"),
        (
            "read of a memfd page that is open for reading alone",
            "file-map",
        ),
    ] {
        trace.fault(name)?.is(kind, "shm")?;
    }
    Ok(())
}

#[test]
fn the_kernel_itself_touches_memory() -> Result<()> {
    let trace = TRACE.get()?;
    for (name, kind) in [
        ("read(2) into a page that a fork shared", "cow-copy"),
        ("read(2) into an untouched page", "zero-fill"),
        ("write(2) from an untouched page", "zero-read"),
        ("read(2) over the zero page", "cow-zero"),
        ("write(2) to a file from an untouched page", "zero-read"),
    ] {
        trace.fault(name)?.is(kind, "anon")?.in_mode(Mode::Kernel)?;
    }
    Ok(())
}

#[test]
fn touches_that_end_in_a_signal() -> Result<()> {
    let trace = TRACE.get()?;
    for (name, region) in [
        ("read of unmapped memory", "unmapped"),
        ("write to unmapped memory", "unmapped"),
        ("jump to unmapped memory", "unmapped"),
        ("read at address 0", "unmapped"),
        ("read of PROT_NONE memory", "anon"),
        ("jump to memory that is no code", "anon"),
        ("write to a constant", "rodata"),
        ("read of the kernel's memory", "unmapped"),
        ("read beyond a file's end", "file"),
    ] {
        let (death, seen) = trace.death(name)?;
        seen.is("invalid", region)?;
        let signals: Vec<_> = trace
            .exits()
            .filter(|(event, _)| event.pid == death.pid)
            .map(|(_, exit)| exit.signal)
            .collect();
        assert_eq!(signals, [Some(death.signal)], "{name}");
    }
    Ok(())
}
