//! Equal pages that KSM has merged, and that are written, or given back: `merged`. KSM runs meanwhile.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

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
    fs::write(RUN, before.trim())?;
    merged?;
    for i in 0..4 {
        witness::write("merged", &pages, i)?;
    }
    let rest: Vec<_> = (4..8).map(|i| pages.addr(i)).collect();
    wanted("unmerged", "madvise", getpid(), &rest, || {
        pages.advise(MmapAdvise::MADV_UNMERGEABLE)
    })
}

fn merged(pages: &Pages) -> Result<()> {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let mut frames = Vec::new();
        for i in 0..pages.count() {
            frames.push(frame(pages.addr(i))?);
        }
        frames.dedup();
        if frames.len() == 1 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "KSM doesn't merge: {frames:?}");
        sleep(Duration::from_millis(20));
    }
}
