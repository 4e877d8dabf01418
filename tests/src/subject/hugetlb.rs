//! Memory in pages of 2 MiB from the kernel's pool.

use std::fs;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

use super::memory::{PAGE, Pages};

/// Pages of 4 KiB in one of these.
pub const SMALL: usize = 512;
const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Pages that were added to the pool, which get back to the kernel when it is dropped.
#[derive(Debug)]
pub struct Pool {
    before: String,
}

impl Pool {
    /// Adds `count` pages; nothing where the kernel hasn't that many together, or no pool.
    pub fn reserve(count: usize) -> Result<Option<Self>> {
        let Ok(before) = fs::read_to_string(POOL) else {
            return Ok(None);
        };
        let wanted = before.trim().parse::<usize>().context(POOL)? + count;
        let pool = Self { before };
        fs::write(POOL, wanted.to_string())?;
        let got: usize = fs::read_to_string(POOL)?.trim().parse()?;
        Ok((got >= wanted).then_some(pool))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(error) = fs::write(POOL, self.before.trim()) {
            eprintln!("cannot give back pages to {POOL}: {error}");
        }
    }
}

/// Fresh private memory of `count` pages of 2 MiB, as pages of 4 KiB.
pub fn private(count: usize) -> Result<Pages> {
    map(count, libc::MAP_PRIVATE)
}

/// Fresh memory of `count` such pages that children share.
pub fn shared(count: usize) -> Result<Pages> {
    map(count, libc::MAP_SHARED)
}

/// A file of `count` such pages, none of them there yet.
pub fn file(count: usize) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
    let file = memfd_create(c"memtrace-subject", flags)?;
    ftruncate(&file, (count * SMALL * PAGE) as i64)?;
    Ok(file)
}

fn map(count: usize, flags: i32) -> Result<Pages> {
    let flags = flags | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let length = count * SMALL * PAGE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    ensure!(start != libc::MAP_FAILED, "MAP_HUGETLB: {}", Errno::last());
    // SAFETY: just mapped.
    unsafe { Pages::at(start as u64, count * SMALL) }
}
