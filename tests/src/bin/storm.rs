//! A family whose members write the same pages at the same time: `storm`. Each forks, then writes pages in an order of
//! its own.

use anyhow::{Result, ensure};
use nix::unistd::getpid;
use tests::subject::act::tell;
use tests::subject::memory::Pages;
use tests::subject::pagemap::Pagemap;
use tests::subject::process;
use tests::subject::report::Deed;
use tests::subject::witness::now;

const COUNT: usize = 256;
const GENERATIONS: usize = 5;

fn main() -> Result<()> {
    process::begin();
    let pages = Pages::private(COUNT)?;
    pages.write_all(0);
    let addrs: Vec<_> = (0..COUNT).map(|i| pages.addr(i)).collect();
    member(1, &pages, &addrs, &Pagemap::new()?)
}

/// Forks the next generation, twice in the first ones, and writes while that does the same.
fn member(generation: usize, pages: &Pages, addrs: &[u64], pagemap: &Pagemap) -> Result<()> {
    let before = pagemap.frames(addrs)?;
    let mut children = Vec::new();
    if generation < GENERATIONS {
        for _ in 0..if generation < 3 { 2 } else { 1 } {
            children.push(process::child(|| {
                member(generation + 1, pages, addrs, pagemap)?;
                Ok(0)
            })?);
        }
    }
    // Odd steps through a power of two meet each page once.
    let step = getpid().as_raw() as usize * 2 + 1;
    let from = now()?;
    for i in 0..COUNT * 3 / 4 {
        let page = i * step % COUNT;
        ensure!(
            usize::from(pages.read(page)) < generation,
            "another's write shows in {page}"
        );
        pages.write(page, generation as u8);
    }
    let until = now()?;
    let after = pagemap.frames(addrs)?;
    tell(Deed::Write, from, until, addrs, &before, &after)?;
    children.into_iter().try_for_each(process::wait_success)
}
