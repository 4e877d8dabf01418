//! Files that the user names.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Result, ensure};

/// Bytes of a BTF file at most: kernels have 5 to 10 MiB.
const LIMIT: u64 = 32 << 20;

/// Opens a file on a disk: the others (a pipe, a device) may have no end, or no beginning.
///
/// # Errors
/// It is none, or can't be read.
pub fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        // A pipe that nobody writes to would not be opened.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let is = file.metadata()?;
    ensure!(!is.is_dir(), "it is a directory");
    ensure!(is.is_file(), "it is not a regular file");
    Ok(file)
}

/// Reads a BTF file.
///
/// # Errors
/// It is no file on a disk, or is larger than any such file, or can't be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut file = open(path)?;
    let len = file.metadata()?.len();
    ensure!(
        len <= LIMIT,
        "it has {} MiB, more than any kernel's BTF",
        len >> 20
    );
    let mut bytes = Vec::new();
    // It may be one of those in /proc and /sys, which have no size.
    file.by_ref().take(LIMIT + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= LIMIT,
        "it is larger than any kernel's BTF"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_no_file_on_a_disk_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        for path in [&pipe, Path::new("/dev/zero")] {
            let error = read(path).expect_err("it isn't read");
            assert_eq!(error.to_string(), "it is not a regular file");
        }
        let large = folder.path().join("large");
        let file = fs::File::create(&large).expect("a file");
        file.set_len(1 << 40).expect("room for a hole");
        let error = read(&large).expect_err("it isn't read");
        assert!(format!("{error:#}").contains("MiB"), "{error:#}");
    }
}
