//! A fork that shares huge pages: `huge`.

use anyhow::{Result, ensure};
use nix::sys::mman::MmapAdvise;
use serde_json::json;
use tests::subject::act::{act, tell, write};
use tests::subject::memory::{PAGE, Pages};
use tests::subject::pagemap::Pagemap;
use tests::subject::process;
use tests::subject::report::{Action, note};
use tests::subject::witness::now;

/// Pages of 4 KiB in a huge page.
const HUGE: usize = 512;

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    let all = Pages::private(4 * HUGE)?;
    let first = all.addr(0).next_multiple_of((HUGE * PAGE) as u64);
    // SAFETY: within what was mapped above.
    let pages = unsafe { Pages::at(first, 3 * HUGE) }?;
    pages.advise(MmapAdvise::MADV_HUGEPAGE)?;
    pages.write_all(1);
    let mut pagemap = Pagemap::new()?;
    let addrs: Vec<_> = (0..3 * HUGE).map(|i| pages.addr(i)).collect();
    let some = |start: usize| -> Vec<_> { (start..start + 8).map(|i| pages.addr(i)).collect() };
    for at in [0, HUGE, 2 * HUGE] {
        let frame = |i: usize| pagemap.frame(pages.addr(at + i));
        let (start, end) = (frame(0)?, frame(HUGE - 1)?);
        let is_huge = start
            .zip(end)
            .is_some_and(|(start, end)| start.number + HUGE as u64 - 1 == end.number);
        ensure!(is_huge, "the kernel has no huge pages now");
    }
    note(
        "areas",
        json!([{"file": null, "addr": first, "pages": 3 * HUGE}]),
    )?;
    act(&pagemap, Action::Begin, &addrs, || Ok(()))?;

    let before = pagemap.frames(&addrs)?;
    pagemap.private_pages()?;
    pagemap.table_bytes()?;
    let (parent, from) = (std::process::id(), now()?);
    let turns = [process::Gate::new()?, process::Gate::new()?];
    let child = process::child(|| {
        let private = pagemap.private_pages()?;
        let table_bytes = pagemap.table_bytes()?;
        let until = now()?;
        let deed = Action::Fork {
            parent,
            private,
            table_bytes,
        };
        tell(deed, from, until, &addrs, &before, &pagemap.frames(&addrs)?)?;
        write(&pagemap, &some(0))?;
        turns[0].open()?;
        turns[1].wait()?;
        write(&pagemap, &some(HUGE))?;
        act(&pagemap, Action::Exit, &addrs, || Ok(()))
    })?;
    turns[0].wait()?;
    write(&pagemap, &some(4))?;
    write(&pagemap, &some(HUGE + 4))?;
    turns[1].open()?;
    process::wait_success(child)?;
    write(&pagemap, &some(100))?;
    write(&pagemap, &some(HUGE + 100))?;
    write(&pagemap, &some(2 * HUGE + 100))
}
