//! Files to map.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tempfile::NamedTempFile;

use super::memory::PAGE;

/// A file of so many pages, on a disk (not tmpfs), each page filled with its number plus one. It goes when dropped.
pub fn temporary(pages: usize) -> Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("memtrace-subject-")
        .tempfile_in("/var/tmp")
        .context("cannot make a file in /var/tmp")?;
    for page in 0..pages {
        file.write_all(&[page as u8 + 1; PAGE])?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Asks the kernel to drop what it holds of the file's contents.
pub fn drop_from_cache(file: &File) -> Result<()> {
    file.sync_all()?;
    Ok(posix_fadvise(
        file,
        0,
        0,
        PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    )?)
}
