//! A family whose members write the same pages at the same time: `storm [threads]`. Each forks, then writes pages in an
//! order of its own; or two threads of each write, give back and map over pages by chance, each in a half of its own.

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid};
use tests::subject::act::tell;
use tests::subject::chance::Chance;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::pagemap::Pagemap;
use tests::subject::process;
use tests::subject::report::Action;
use tests::subject::witness::now;

const COUNT: usize = 256;
const GENERATIONS: usize = 5;

fn main() -> Result<()> {
    process::begin();
    let pages = Pages::private(COUNT)?;
    pages.write_all(0);
    let addrs: Vec<_> = (0..COUNT).map(|i| pages.addr(i)).collect();
    if std::env::args().nth(1).as_deref() == Some("threads") {
        return threads(1, &pages);
    }
    member(1, &pages, &addrs, &Pagemap::new()?)
}

/// Forks the next generation, twice in the first ones.
fn next(generation: usize, work: impl Fn(usize) -> Result<()>) -> Result<Vec<Pid>> {
    let count = match generation {
        1 | 2 => 2,
        GENERATIONS => 0,
        _ => 1,
    };
    process::children(count, |_| work(generation + 1))
}

fn threads(generation: usize, pages: &Pages) -> Result<()> {
    let children = next(generation, |generation| threads(generation, pages))?;
    let start = pages.addr(0);
    let half = |which: usize| -> Result<()> {
        // SAFETY: mapped for as long as this runs; what is in them doesn't matter.
        let pages = unsafe { Pages::at(start, COUNT) }?;
        let mut chance = Chance::new(getpid().as_raw() as u64 * 2 + which as u64);
        for _ in 0..300 {
            let page = which * COUNT / 2 + chance.below(COUNT / 2);
            let place = pages.page(page).as_ptr().cast();
            match chance.below(10) {
                // SAFETY: this thread's own pages.
                0 => Errno::result(unsafe { libc::madvise(place, PAGE, libc::MADV_DONTNEED) })?,
                1 => {
                    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                    let protection = libc::PROT_READ | libc::PROT_WRITE;
                    // SAFETY: this thread's own pages.
                    let new = unsafe { libc::mmap(place, PAGE, protection, flags, -1, 0) };
                    ensure!(new == place, "mmap: {}", Errno::last());
                    0
                }
                _ => {
                    pages.write(page, generation as u8);
                    0
                }
            };
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|which| scope.spawn(move || half(which)));
        halves
            .into_iter()
            .try_for_each(|half| process::joined(half.join())?)
    })?;
    children.into_iter().try_for_each(process::wait_success)
}

/// Forks the next generation, and writes while that does the same.
fn member(generation: usize, pages: &Pages, addrs: &[u64], pagemap: &Pagemap) -> Result<()> {
    let before = pagemap.frames(addrs)?;
    let children = next(generation, |generation| {
        member(generation, pages, addrs, pagemap)
    })?;
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
    tell(Action::Write, from, until, addrs, &before, &after)?;
    children.into_iter().try_for_each(process::wait_success)
}
