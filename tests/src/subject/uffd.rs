//! A handler of userfaultfd: a thread that supplies missing pages, or lets writes through.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use serde_json::json;

use super::memory::{PAGE, Pages};
use super::report::note;

// Numbers of `include/uapi/linux/userfaultfd.h`.
const API: (u64, u64) = (0xc018_aa3f, 0xaa);
const REGISTER: u64 = 0xc020_aa00;
const COPY: u64 = 0xc028_aa03;
const ZEROPAGE: u64 = 0xc020_aa04;
const WRITEPROTECT: u64 = 0xc018_aa06;
const REGISTER_MISSING: u64 = 1;
const REGISTER_WP: u64 = 2;
const PROTECT: u64 = 1;
const PAGEFAULT: u8 = 0x12;
const OF_PROTECTION: u64 = 2;

/// How long a handler makes the fault wait, at the least.
pub const WAIT: Duration = Duration::from_millis(20);

/// What a handler does about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It copies a page of its own there.
    Copy,
    /// It has the zero page mapped.
    Zero,
    /// It takes the write protection away.
    Unprotect,
}

/// Pages whose faults a handler is told of.
#[derive(Debug)]
pub struct Handler {
    uffd: File,
    /// The address of the page that it copies.
    source: u64,
}

impl Handler {
    /// A handler for `pages`: of missing pages, or of writes, for which the pages that are there are protected.
    /// `Err(errno)` where the kernel has no such thing.
    pub fn new(pages: &Pages, answer: Answer) -> Result<Result<Self, Errno>> {
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        if fd < 0 {
            return Ok(Err(Errno::last()));
        }
        let source = Pages::private(1)?;
        source.write(0, 0x33);
        let handler = Self {
            // SAFETY: a new file descriptor, which nobody else has.
            uffd: unsafe { File::from_raw_fd(fd as i32) },
            source: source.addr(0),
        };
        let (start, length) = (pages.addr(0), (pages.count() * PAGE) as u64);
        let mode = if answer == Answer::Unprotect {
            REGISTER_WP
        } else {
            REGISTER_MISSING
        };
        let registered = handler
            .ioctl(API.0, &mut [API.1, 0, 0])
            .and_then(|()| handler.ioctl(REGISTER, &mut [start, length, mode, 0]));
        if let Err(errno) = registered {
            return Ok(Err(errno));
        }
        if answer == Answer::Unprotect {
            handler.ioctl(WRITEPROTECT, &mut [start, length, PROTECT])?;
        }
        Ok(Ok(handler))
    }

    /// Waits for the next fault, lets it wait, answers it, and reports a note of that name with the address.
    pub fn answer(&self, name: &str, answer: Answer) -> Result<()> {
        let mut message = [0; 32];
        (&self.uffd).read_exact(&mut message)?;
        ensure!(message[0] == PAGEFAULT, "another message: {message:?}");
        let word = |at: usize| -> Result<u64> {
            let bytes = message.get(at..at + 8).context("a short message")?;
            Ok(u64::from_ne_bytes(bytes.try_into()?))
        };
        let (flags, address) = (word(8)?, word(16)?);
        ensure!(
            (flags & OF_PROTECTION != 0) == (answer == Answer::Unprotect),
            "another fault: {flags:#x}"
        );
        note(name, json!({ "addr": address }))?;
        sleep(WAIT);
        let (page, size) = (address & !(PAGE as u64 - 1), PAGE as u64);
        match answer {
            Answer::Copy => self.ioctl(COPY, &mut [page, self.source, size, 0, 0])?,
            Answer::Zero => self.ioctl(ZEROPAGE, &mut [page, size, 0, 0])?,
            Answer::Unprotect => self.ioctl(WRITEPROTECT, &mut [page, size, 0])?,
        }
        Ok(())
    }

    fn ioctl(&self, request: u64, words: &mut [u64]) -> Result<(), Errno> {
        // SAFETY: as many words as the request's structure has.
        let done = unsafe { libc::ioctl(self.uffd.as_raw_fd(), request, words.as_mut_ptr()) };
        Errno::result(done).map(drop)
    }
}
