//! Where a test says how to go on.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};

/// A byte that has a subject go on.
pub const GO_ON: u8 = 1;
/// A byte that has a subject do what it does once more, and wait again.
pub const MORE: u8 = 2;

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

    /// Waits for a byte. Whether it asks for more of the same, before the subject goes on.
    pub fn wants_more(&mut self) -> Result<bool> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        Ok(byte == [MORE])
    }
}
