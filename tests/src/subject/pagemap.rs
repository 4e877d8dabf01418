//! What /proc/self says of this process's pages: which frames they are in, and how many there are.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::memory::{PAGE, Pages};

/// The frame of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Its number.
    pub number: u64,
    /// Whether the page is private: neither the page cache's, nor shared memory, nor the zero page.
    pub private: bool,
}

/// What is needed to ask.
#[derive(Debug)]
pub struct Pagemap {
    zero: u64,
    text: Vec<u8>,
}

impl Pagemap {
    /// Finds the zero page.
    pub fn new() -> Result<Self> {
        let mut this = Self {
            zero: 0,
            text: vec![1; 1 << 18],
        };
        let untouched = Pages::private(1)?;
        untouched.read(0);
        let zero = this.frame(untouched.addr(0))?.context("no zero page")?;
        this.zero = zero.number;
        Ok(this)
    }

    /// The frame behind `addr`, if there is one.
    pub fn frame(&self, addr: u64) -> Result<Option<Frame>> {
        const PRESENT: u64 = 1 << 63;
        const OF_FILE_OR_SHARED: u64 = 1 << 61;
        const FRAME: u64 = (1 << 55) - 1;
        let mut entry = [0; 8];
        // Opened each time: an open pagemap stays that of the process before a fork.
        File::open("/proc/self/pagemap")
            .and_then(|pagemap| pagemap.read_exact_at(&mut entry, addr / PAGE as u64 * 8))
            .context("cannot read /proc/self/pagemap")?;
        let entry = u64::from_ne_bytes(entry);
        let number = entry & FRAME;
        Ok((entry & PRESENT != 0).then_some(Frame {
            number,
            private: entry & OF_FILE_OR_SHARED == 0 && number != self.zero,
        }))
    }

    /// The frames behind each of `addrs`.
    pub fn frames(&self, addrs: &[u64]) -> Result<Vec<Option<Frame>>> {
        addrs.iter().map(|&addr| self.frame(addr)).collect()
    }

    /// Private pages of the whole process: "Anonymous" in /proc/self/smaps. Asking takes no memory from malloc, which
    /// would be more of them.
    pub fn private_pages(&mut self) -> Result<u64> {
        Ok(self.sum("/proc/self/smaps", "Anonymous:")? / (PAGE as u64 / 1024))
    }

    /// Bytes of its page tables.
    pub fn table_bytes(&mut self) -> Result<u64> {
        Ok(self.sum("/proc/self/status", "VmPTE:")? * 1024)
    }

    /// The sum of all numbers after `field`, which are in KiB.
    fn sum(&mut self, path: &str, field: &str) -> Result<u64> {
        let mut file = File::open(path).context("cannot read in /proc/self")?;
        let mut length = 0;
        loop {
            let rest = &mut self.text[length..];
            ensure!(!rest.is_empty(), "{path} is too long");
            match file.read(rest)? {
                0 => break,
                more => length += more,
            }
        }
        let text = std::str::from_utf8(&self.text[..length])?;
        let mut sum = 0;
        for line in text.lines().filter(|line| line.starts_with(field)) {
            let number = line.split_ascii_whitespace().nth(1);
            sum += number.context("no number")?.parse::<u64>()?;
        }
        Ok(sum)
    }
}
