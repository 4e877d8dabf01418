//! Processes that fault as fast as they can, until they are killed: `flood PROCESSES [FIFO]`. FIFO is there for
//! [`tests::harness::AttachTarget`], and waits for nothing.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result};
use nix::sys::mman::MmapAdvise;
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::note;

/// Pages of each process.
const COUNT: usize = 16384;
/// Faults of them all until they are told to be at it.
const BEGUN: usize = 500_000;

fn main() -> Result<()> {
    process::begin();
    let processes: usize = std::env::args()
        .nth(1)
        .context("usage: flood PROCESSES [FIFO]")?
        .parse()?;
    let shared = Pages::shared(1)?;
    // SAFETY: the page is mapped as long as this runs, zeroed, and used for nothing else.
    let faults = unsafe { shared.page(0).cast::<AtomicUsize>().as_ref() };
    let children = process::children(processes, |_| fault_on(faults))?;
    while faults.load(Relaxed) < BEGUN {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    note("ready", std::process::id())?;
    children.into_iter().try_for_each(process::wait_success)
}

fn fault_on(faults: &AtomicUsize) -> Result<()> {
    let pages = Pages::private(COUNT)?;
    pages.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    loop {
        pages.write_all(1);
        faults.fetch_add(COUNT, Relaxed);
        pages.advise(MmapAdvise::MADV_DONTNEED)?;
    }
}
