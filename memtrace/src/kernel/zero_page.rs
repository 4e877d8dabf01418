//! Frames of memtrace's own pages, from `/proc/self/pagemap`: of the zero page, of two pages by which the direct
//! map is found, and of two pages of files by which the array of `struct page` is.

use std::{ffi::CStr, fs::File, num::NonZeroUsize, os::unix::fs::FileExt as _};

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
}

impl Sample {
    /// Makes the mapping and looks up its frames.
    ///
    /// # Errors
    /// No memory, or the kernel doesn't show frames to this user (`CAP_SYS_ADMIN`).
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
        let pagemap = File::open("/proc/self/pagemap").context("can't read /proc/self/pagemap")?;
        let mut entries = [0; 8 * PAGES];
        pagemap
            .read_exact_at(&mut entries, sample.address() / PAGE_SIZE * 8)
            .context("can't read /proc/self/pagemap")?;
        let mut frames = [0; PAGES];
        for (frame, entry) in frames.iter_mut().zip(entries.as_chunks().0) {
            let entry = u64::from_ne_bytes(*entry);
            *frame = entry & FRAME;
            ensure!(
                entry & PRESENT != 0 && *frame != 0,
                "the kernel doesn't show frame numbers in /proc/self/pagemap: memtrace needs root (CAP_SYS_ADMIN)"
            );
        }
        [
            sample.frames[0],
            sample.frames[1],
            sample.zero,
            sample.file_frames[0],
            sample.file_frames[1],
        ] = frames;
        Ok(sample)
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
