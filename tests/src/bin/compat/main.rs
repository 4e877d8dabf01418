//! 32-bit calls: `compat calls|program`, by a 64-bit program or a 32-bit one.

use anyhow::{Result, bail};
use tests::subject::process;

#[cfg(target_arch = "x86_64")]
mod i386;
#[cfg(target_arch = "x86_64")]
mod program;

fn main() -> Result<()> {
    process::begin();
    match std::env::args().nth(1).as_deref() {
        Some("calls") => calls(),
        Some("program") => program(),
        _ => bail!("usage: compat calls|program"),
    }
}

#[cfg(target_arch = "x86_64")]
use {i386::calls, program::program};

/// Few processors of this architecture have a 32-bit mode.
#[cfg(not(target_arch = "x86_64"))]
fn calls() -> Result<()> {
    tests::subject::report::without("32-bit calls", "another architecture")
}

#[cfg(not(target_arch = "x86_64"))]
fn program() -> Result<()> {
    tests::subject::report::without("32-bit programs", "another architecture")
}
