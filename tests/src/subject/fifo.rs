//! Where a test says how to go on.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use nix::errno::Errno;

/// A named pipe, and a byte in it for each time that a subject may go on.
#[derive(Debug)]
pub struct Fifo(File);

impl Fifo {
    /// Opens it.
    pub fn open(path: &str) -> Result<Self> {
        // For writing, too: so it neither waits for the test here nor sees an end.
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_CLOEXEC);
        Ok(Self(options.open(path).context("cannot open FIFO")?))
    }

    /// Waits for a byte.
    pub fn wait(&mut self) -> Result<()> {
        Ok(self.0.read_exact(&mut [0])?)
    }

    /// Whether there is a byte, which it takes.
    pub fn poll(&mut self) -> Result<bool> {
        let mut waiting = 0;
        // SAFETY: the kernel fills in a number.
        let asked = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
        Errno::result(asked)?;
        if waiting > 0 {
            self.wait()?;
        }
        Ok(waiting > 0)
    }
}
