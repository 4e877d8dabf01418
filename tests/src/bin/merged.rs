//! Equal pages that KSM has merged, and that are written, or given back: `merged`. KSM runs meanwhile.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::mman::MmapAdvise;
use nix::unistd::getpid;
use tests::subject::memory::{Pages, frame};
use tests::subject::wanted::wanted;
use tests::subject::{process, witness};

const RUN: &str = "/sys/kernel/mm/ksm/run";

fn main() -> Result<()> {
    process::begin();
    let pages = Pages::private(8)?;
    for i in 0..8 {
        // No other pages are like these.
        // SAFETY: a page of its own.
        unsafe {
            pages
                .page(i)
                .cast::<[u32; 1024]>()
                .write([std::process::id(); 1024]);
        };
    }
    pages.advise(MmapAdvise::MADV_MERGEABLE)?;
    let before = fs::read_to_string(RUN).context("live tests need KSM")?;
    fs::write(RUN, "1")?;
    let merged = merged(&pages);
    // It would merge again what has been parted.
    fs::write(RUN, "0")?;
    let parted = merged.and_then(|()| part(&pages));
    // Not before: 2 takes apart what was merged.
    fs::write(RUN, before.trim())?;
    parted
}

/// Ends the sharing: of some pages by writes, of the others by a call.
fn part(pages: &Pages) -> Result<()> {
    for i in 0..4 {
        witness::write("merged", pages, i)?;
    }
    let rest: Vec<_> = (4..8).map(|i| pages.addr(i)).collect();
    wanted("unmerged", "madvise", getpid(), &rest, || {
        pages.advise(MmapAdvise::MADV_UNMERGEABLE)
    })
}

/// Full scans by which KSM has merged the pages, with some to spare: it takes those that have not changed since the scan before. How
/// long they take depends on what else is to be merged on the machine, such as the memory of virtual ones.
const SCANS: u64 = 10;

fn merged(pages: &Pages) -> Result<()> {
    let end = full_scans()? + SCANS;
    loop {
        let scans = full_scans()?;
        let mut frames = Vec::new();
        for i in 0..pages.count() {
            frames.push(frame(pages.addr(i))?);
        }
        frames.dedup();
        if frames.len() == 1 {
            return Ok(());
        }
        ensure!(scans < end, "KSM doesn't merge: {frames:?}");
        sleep(Duration::from_millis(20));
    }
}

fn full_scans() -> Result<u64> {
    let text = fs::read_to_string("/sys/kernel/mm/ksm/full_scans")?;
    Ok(text.trim().parse()?)
}
