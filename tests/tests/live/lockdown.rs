//! A kernel that is locked down (`kernel_lockdown(7)`): what it keeps secret is named, and else memtrace works.

use std::fs;

use anyhow::{Result, ensure};
use tests::harness::Memtrace;

#[test]
fn what_lockdown_refuses_is_named() -> Result<()> {
    // Kernels without lockdown have no such file.
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let run = Memtrace::new()?.options(["--summary"]).run(["true"])?;
    if lockdown.contains("[confidentiality]") {
        assert_eq!(run.code(), Some(125), "{run:?}");
        ensure!(
            run.stderr.lines().count() == 1 && run.stderr.contains("lockdown=confidentiality"),
            "{run:?}"
        );
    } else {
        assert_eq!(run.code(), Some(0), "lockdown is {lockdown:?}: {run:?}");
    }
    Ok(())
}
