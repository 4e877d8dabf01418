//! Doing something to many pages, and reporting it with their frames.

use std::fs;

use anyhow::Result;
use nix::unistd::{getpid, gettid};

use super::memory::Pages;
use super::pagemap::{Frame, Pagemap};
use super::report::{Act, Action, Fact, report};
use super::witness::now;

/// Does something to the pages at `addrs` and reports it.
pub fn act(
    pagemap: &Pagemap,
    deed: Action,
    addrs: &[u64],
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = pagemap.frames(addrs)?;
    let from = now()?;
    work()?;
    let until = now()?;
    let after = pagemap.frames(addrs)?;
    tell(deed, from, until, addrs, &before, &after)
}

/// Writes a byte into each of the pages at `addrs`, and reports it.
pub fn write(pagemap: &Pagemap, addrs: &[u64]) -> Result<()> {
    // SAFETY: the caller's own pages, whose contents don't matter.
    let page = |addr: &u64| unsafe { Pages::at(*addr, 1) };
    let pages = addrs.iter().map(page).collect::<Result<Vec<_>>>()?;
    act(pagemap, Action::Write, addrs, || {
        for page in &pages {
            page.write(0, 2);
        }
        Ok(())
    })
}

/// Reports what was done.
pub fn tell(
    deed: Action,
    from: u64,
    until: u64,
    addrs: &[u64],
    before: &[Option<Frame>],
    after: &[Option<Frame>],
) -> Result<()> {
    let pages = addrs.iter().zip(before).zip(after);
    report(&Fact::Act(Act {
        deed,
        pid: getpid().as_raw() as u32,
        tid: gettid().as_raw() as u32,
        from,
        until,
        pages: pages
            .map(|((&addr, &before), &after)| (addr, before, after))
            .collect(),
        migrated: migrated()?,
    }))
}

/// Pages that the kernel has moved to other frames since the machine's start; 0 where it moves none.
fn migrated() -> Result<u64> {
    let counts = fs::read_to_string("/proc/vmstat")?;
    let mut counts = counts.lines();
    let count = counts.find_map(|line| line.strip_prefix("pgmigrate_success "));
    Ok(count.map_or(Ok(0), str::parse)?)
}
