//! The sorts of private memory that the kernel's own test of copy-on-write goes through.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, ProtFlags, munmap};

use super::hugetlb::{self, SMALL};
use super::memory::{PAGE, Pages, frame, is_swapped};
use super::process;

/// Sorts of memory, by the names that the kernel's test has for them.
pub const SORTS: [&str; 8] = [
    "base page",
    "swapped out base page",
    "THP",
    "PTE-mapped THP",
    "single PTE of THP",
    "partially mremap()'ed THP",
    "partially shared THP",
    "hugetlb",
];

/// Memory of that sort, written, of which the first page is to be tried; or why there is none.
pub fn prepare(sort: &str) -> Result<Result<Pages, String>> {
    if sort == "hugetlb" {
        let pages = hugetlb::private(1)?;
        pages.write(0, 1);
        return Ok(Ok(pages));
    }
    if sort.ends_with("base page") {
        let page = Pages::private(1)?;
        page.write(0, 1);
        return if sort.starts_with("swapped") {
            swap_out(&page)
        } else {
            Ok(Ok(page))
        };
    }
    let Some(huge) = huge(1)? else {
        return Ok(Err("the kernel gives no huge page".to_owned()));
    };
    let half = SMALL / 2;
    match sort {
        "THP" => Ok(Ok(huge)),
        "PTE-mapped THP" => split(&huge).map(|()| Ok(huge)),
        "single PTE of THP" => {
            // SAFETY: nothing uses the rest.
            unsafe { munmap(huge.page(1).cast(), (SMALL - 1) * PAGE) }?;
            // SAFETY: what is left.
            Ok(Ok(unsafe { Pages::at(huge.addr(0), 1) }?))
        }
        "partially mremap()'ed THP" => {
            let to = Pages::private(half)?;
            // SAFETY: onto memory of this program's own that nothing uses.
            let moved = unsafe {
                libc::mremap(
                    huge.page(half).as_ptr().cast(),
                    half * PAGE,
                    half * PAGE,
                    libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                    to.page(0).as_ptr(),
                )
            };
            ensure!(moved != libc::MAP_FAILED, "mremap: {}", Errno::last());
            Ok(Ok(to))
        }
        "partially shared THP" => {
            // SAFETY: within the huge page.
            let upper = unsafe { Pages::at(huge.addr(half), half) }?;
            upper.advise(MmapAdvise::MADV_DONTFORK)?;
            process::in_child(|| Ok(()))?;
            upper.advise(MmapAdvise::MADV_DOFORK)?;
            Ok(Ok(huge))
        }
        _ => anyhow::bail!("no such sort: {sort}"),
    }
}

/// A huge page, filled by a write of `value`, or by a read for 0; nothing where the kernel gives none.
pub fn huge(value: u8) -> Result<Option<Pages>> {
    let area = Pages::private(2 * SMALL)?;
    let first = area.addr(0).next_multiple_of((SMALL * PAGE) as u64);
    // SAFETY: within the area.
    let huge = unsafe { Pages::at(first, SMALL) }?;
    huge.advise(MmapAdvise::MADV_HUGEPAGE)?;
    if value == 0 {
        huge.read(0);
    } else {
        huge.write(0, value);
    }
    Ok(frame(huge.addr(SMALL - 1))?.is_some().then_some(huge))
}

/// Has a huge page mapped by small entries.
pub fn split(huge: &Pages) -> Result<()> {
    // SAFETY: within the huge page.
    let second = unsafe { Pages::at(huge.addr(1), 1) }?;
    second.protect(ProtFlags::PROT_READ)?;
    second.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
}

fn swap_out(page: &Pages) -> Result<Result<Pages, String>> {
    if fs::read_to_string("/proc/swaps")?.lines().count() < 2 {
        return Ok(Err("no swap is on".to_owned()));
    }
    // SAFETY: advice for a page of this program's own.
    let done = unsafe { libc::madvise(page.page(0).as_ptr().cast(), PAGE, libc::MADV_PAGEOUT) };
    Errno::result(done).context("MADV_PAGEOUT")?;
    ensure!(is_swapped(page.addr(0))?, "the page was not swapped out");
    Ok(Ok(*page))
}
