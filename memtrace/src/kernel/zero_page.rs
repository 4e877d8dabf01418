//! Frames of memtrace's own pages, from `/proc/self/pagemap`: of the zero page, of two pages by which the direct
//! map is found, and of two pages of files by which the array of `struct page` is.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, PipeReader, PipeWriter},
    num::NonZeroUsize,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
};

use anyhow::{Context as _, Result, ensure};
use memtrace_ebpf::pte::PAGE_SIZE;
use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
};

/// Bit 63 of a pagemap entry: the page is present. Bits 0 to 54: its frame.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
/// Pages of the mapping that is looked at.
const PAGES: usize = 5;
/// Where in it the pages of files are: the first of them.
const FILE_PAGES: usize = 3;
/// What the files are called, where anybody should look.
const FILE_NAME: &CStr = c"memtrace";

/// A mapping of memtrace's own: two pages written, one only read, and two of files of one page each.
pub struct Sample {
    start: std::ptr::NonNull<std::ffi::c_void>,
    /// Frames of the two written pages.
    pub frames: [u64; 2],
    /// Frames of the two pages of files.
    pub file_frames: [u64; 2],
    /// Frame of the zero page, which the third page maps.
    pub zero: u64,
    /// What keeps the pages in their frames.
    held: Option<Pipe>,
}

/// A pipe, and where it is filled.
type Pipe = (PipeReader, PipeWriter);

impl Sample {
    /// Makes the mapping and looks up its frames.
    ///
    /// # Errors
    /// No memory, or the kernel doesn't show frames to this user (`CAP_SYS_ADMIN` in the initial user namespace).
    pub fn new() -> Result<Self> {
        let page = PAGE_SIZE as usize;
        let len = NonZeroUsize::new(PAGES * page).context("no pages")?;
        // SAFETY: a fresh private mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap_anonymous(
                None,
                len,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
        }
        .context("no memory for five pages")?;
        let bytes: *mut u8 = start.as_ptr().cast();
        let mut sample = Self {
            start,
            frames: [0; 2],
            file_frames: [0; 2],
            zero: 0,
            held: None,
        };
        for at in FILE_PAGES..PAGES {
            sample.map_file(at)?;
        }
        // SAFETY: within the mapping.
        unsafe {
            bytes.write_volatile(1);
            bytes.add(page).write_volatile(1);
            bytes.add(2 * page).read_volatile();
        }
        sample.held = sample.hold();
        [
            sample.frames[0],
            sample.frames[1],
            sample.zero,
            sample.file_frames[0],
            sample.file_frames[1],
        ] = sample.read_frames()?;
        Ok(sample)
    }

    /// The frames of all its pages.
    fn read_frames(&self) -> Result<[u64; PAGES]> {
        let pagemap = File::open("/proc/self/pagemap").context("can't read /proc/self/pagemap")?;
        let mut entries = [0; 8 * PAGES];
        pagemap
            .read_exact_at(&mut entries, self.address() / PAGE_SIZE * 8)
            .context("can't read /proc/self/pagemap")?;
        let mut frames = [0; PAGES];
        for (frame, entry) in frames.iter_mut().zip(entries.as_chunks().0) {
            let entry = u64::from_ne_bytes(*entry);
            *frame = entry & FRAME;
            ensure!(
                entry & PRESENT != 0 && *frame != 0,
                "the kernel doesn't show frame numbers in /proc/self/pagemap: memtrace needs root (CAP_SYS_ADMIN) in the initial \
                 user namespace"
            );
        }
        Ok(frames)
    }

    /// Puts all but the zero page into a pipe. The kernel moves pages about to have larger ones free, but none that has a user
    /// whom it doesn't know (`folio_migrate_mapping` in `mm/migrate.c`). Where it refuses, they may be moved.
    fn hold(&self) -> Option<Pipe> {
        let pipe = io::pipe().ok()?;
        let page = PAGE_SIZE as usize;
        let first: *mut u8 = self.start.as_ptr().cast();
        let pages = |at: usize| libc::iovec {
            iov_base: first.wrapping_add(at * page).cast(),
            iov_len: 2 * page,
        };
        let pages = [pages(0), pages(FILE_PAGES)];
        // SAFETY: the kernel takes references to pages of the mapping's own, which nothing writes to any more.
        let taken = unsafe { libc::vmsplice(pipe.1.as_raw_fd(), pages.as_ptr(), pages.len(), 0) };
        (taken > 0).then_some(pipe)
    }

    /// Puts a page of a file of its own in the place of one of the mapping's pages, and writes to it.
    fn map_file(&self, at: usize) -> Result<()> {
        let page = PAGE_SIZE as usize;
        let file = memfd_create(FILE_NAME, MFdFlags::MFD_CLOEXEC)
            .and_then(|file| nix::unistd::ftruncate(&file, page as i64).map(|()| file))
            .context("can't make a file in memory")?;
        let address = NonZeroUsize::new(self.address() as usize + at * page);
        // SAFETY: over a page of the mapping's own, which nothing refers to.
        let mapped = unsafe {
            mmap(
                address,
                NonZeroUsize::new(page).context("no pages")?,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                &file,
                0,
            )
        }
        .context("can't map a file in memory")?;
        let bytes: *mut u8 = mapped.as_ptr().cast();
        // SAFETY: the page that was just mapped.
        unsafe { bytes.write_volatile(1) };
        Ok(())
    }

    /// The address of the two written pages.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing else refers to it. A failure leaves five pages mapped.
        let _ = unsafe { munmap(self.start, PAGES * PAGE_SIZE as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_held_where_they_are() {
        if !nix::unistd::geteuid().is_root() {
            assert!(Sample::new().is_err());
            return;
        }
        let sample = Sample::new().expect("pages");
        let before = (sample.frames, sample.file_frames);
        // Has the kernel move what it can.
        let _ = std::fs::write("/proc/sys/vm/compact_memory", "1");
        let after = sample.read_frames().expect("frames");
        assert_eq!([after[0], after[1]], before.0);
        assert_eq!([after[FILE_PAGES], after[FILE_PAGES + 1]], before.1);
    }
}
