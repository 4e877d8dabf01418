//! What memtrace must know about the running kernel before it can look at it.

pub mod again;
pub mod btf;
pub mod clock;
pub mod fentry;
pub mod helpers;
pub mod layout;
pub mod locked;
pub mod preemption;
pub mod regular;
pub mod require;
mod same;
pub mod zero_page;

use anyhow::{Context as _, Result, ensure};
use memtrace_ebpf::pte::PAGE_SIZE;
use nix::unistd::{SysconfVar, sysconf};

/// Makes sure that the kernel's pages are those that memtrace knows: arm64's may be larger.
///
/// # Errors
/// They are not.
pub fn check_page_size() -> Result<()> {
    let size = sysconf(SysconfVar::PAGE_SIZE)
        .context("the kernel doesn't tell the size of its pages")?
        .map_or(0, |size| size as u64);
    ensure!(
        size == PAGE_SIZE,
        "this kernel has pages of {} KiB, and memtrace knows those of 4 KiB alone: boot a kernel with pages of 4 KiB (CONFIG_ARM64_4K_PAGES)",
        size >> 10
    );
    Ok(())
}
