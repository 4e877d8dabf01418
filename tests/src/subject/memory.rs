//! Pages to touch, and what the kernel says of them.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use anyhow::{Context, Result, bail};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect};
use nix::unistd::Pid;

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Whole pages of memory. They stay mapped until the program ends.
#[derive(Debug, Clone, Copy)]
pub struct Pages {
    start: NonNull<u8>,
    count: usize,
}

impl Pages {
    /// Fresh private memory.
    pub fn private(count: usize) -> Result<Self> {
        Self::anonymous(count, MapFlags::MAP_PRIVATE)
    }

    /// The same, for more than the machine has: few of the pages are to be touched.
    pub fn reserved(count: usize) -> Result<Self> {
        Self::anonymous(count, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)
    }

    /// Fresh memory that children share.
    pub fn shared(count: usize) -> Result<Self> {
        Self::anonymous(count, MapFlags::MAP_SHARED)
    }

    fn anonymous(count: usize, flags: MapFlags) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(None, bytes(count)?, read_write(), flags) }?;
        let pages = Self {
            start: start.cast(),
            count,
        };
        pages.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
        Ok(pages)
    }

    /// A private view of `file` from its page `first` on.
    pub fn private_file(file: impl AsFd, first: usize, count: usize) -> Result<Self> {
        Self::file(file, first, count, MapFlags::MAP_PRIVATE)
    }

    /// A shared view of `file` from its page `first` on.
    pub fn shared_file(file: impl AsFd, first: usize, count: usize) -> Result<Self> {
        Self::file(file, first, count, MapFlags::MAP_SHARED)
    }

    /// A shared view, not to be written, of `file`, which may be open for reading alone.
    pub fn shared_file_to_read(file: impl AsFd, first: usize, count: usize) -> Result<Self> {
        Self::view(
            file,
            first,
            count,
            (MapFlags::MAP_SHARED, ProtFlags::PROT_READ),
        )
    }

    fn file(file: impl AsFd, first: usize, count: usize, flags: MapFlags) -> Result<Self> {
        Self::view(file, first, count, (flags, read_write()))
    }

    fn view(
        file: impl AsFd,
        first: usize,
        count: usize,
        (flags, protection): (MapFlags, ProtFlags),
    ) -> Result<Self> {
        let offset = (first * PAGE) as i64;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, bytes(count)?, protection, flags, file, offset) }?;
        Ok(Self {
            start: start.cast(),
            count,
        })
    }

    /// The `count` pages from the one that holds `addr` on.
    ///
    /// # Safety
    /// They must be mapped for as long as they are used, and hold nothing that another byte at their start breaks.
    pub unsafe fn at(addr: u64, count: usize) -> Result<Self> {
        let start =
            NonNull::new((addr & !(PAGE as u64 - 1)) as *mut u8).context("no page at address 0")?;
        Ok(Self { start, count })
    }

    /// How many pages these are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A pointer to the first byte of page `i`.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn page(&self, i: usize) -> NonNull<u8> {
        assert!(i < self.count, "page {i} of {}", self.count);
        // SAFETY: the page lies within the mapping.
        unsafe { self.start.add(i * PAGE) }
    }

    /// The address of page `i`.
    pub fn addr(&self, i: usize) -> u64 {
        self.page(i).as_ptr() as u64
    }

    /// Reads the first byte of page `i`.
    pub fn read(&self, i: usize) -> u8 {
        // SAFETY: the page is mapped. Volatile, since the access itself is the point.
        unsafe { self.page(i).read_volatile() }
    }

    /// Writes the first byte of page `i`.
    pub fn write(&self, i: usize, value: u8) {
        // SAFETY: the page is mapped, and nothing else depends on its bytes. Volatile, as above.
        unsafe { self.page(i).write_volatile(value) }
    }

    /// Writes every page.
    pub fn write_all(&self, value: u8) {
        (0..self.count).for_each(|i| self.write(i, value));
    }

    /// Changes what may be done with the pages.
    pub fn protect(&self, protection: ProtFlags) -> Result<()> {
        // SAFETY: the pages are this program's own, and it knows what it does to them.
        Ok(unsafe { mprotect(self.start.cast(), self.count * PAGE, protection) }?)
    }

    /// Takes the pages out of the page table, so that the next touch faults. Private changes are lost.
    pub fn unmap_frames(&self) -> Result<()> {
        self.advise(MmapAdvise::MADV_DONTNEED)
    }

    /// Tells the kernel how the pages will be used.
    pub fn advise(&self, advice: MmapAdvise) -> Result<()> {
        // SAFETY: the pages are mapped.
        Ok(unsafe { madvise(self.start.cast(), self.count * PAGE, advice) }?)
    }

    /// Whether page `i` of a file mapping is in the page cache.
    pub fn is_cached(&self, i: usize) -> Result<bool> {
        let mut resident = 0u8;
        // SAFETY: one page, one byte of answer.
        match unsafe { libc::mincore(self.page(i).as_ptr().cast(), PAGE, &raw mut resident) } {
            0 => Ok(resident & 1 == 1),
            _ => bail!("mincore: {}", std::io::Error::last_os_error()),
        }
    }
}

/// The frame behind `addr` in this process, if there is one. Root only: the kernel hides frames from others.
pub fn frame(addr: u64) -> Result<Option<u64>> {
    frame_in("self", addr)
}

/// The same in another process.
pub fn frame_of(process: Pid, addr: u64) -> Result<Option<u64>> {
    frame_in(&process.to_string(), addr)
}

fn frame_in(process: &str, addr: u64) -> Result<Option<u64>> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let entry = entry(process, addr)?;
    Ok((entry & PRESENT != 0).then_some(entry & FRAME))
}

/// Whether the page of `addr` is in swap.
pub fn is_swapped(addr: u64) -> Result<bool> {
    Ok(entry("self", addr)? & 1 << 62 != 0)
}

/// Whether the page of `addr` was written since the process's soft-dirty bits were cleared.
pub fn is_soft_dirty(addr: u64) -> Result<bool> {
    Ok(entry("self", addr)? & 1 << 55 != 0)
}

/// What the pagemap of a process, or of `self`, says of the page of `addr`.
fn entry(process: &str, addr: u64) -> Result<u64> {
    let mut entry = [0; 8];
    File::open(format!("/proc/{process}/pagemap"))
        .and_then(|pagemap| pagemap.read_exact_at(&mut entry, addr / PAGE as u64 * 8))
        .with_context(|| format!("cannot read /proc/{process}/pagemap"))?;
    Ok(u64::from_ne_bytes(entry))
}

/// The file that is mapped at `addr` in this process, and the offset of `addr` in it.
pub fn mapped_file(addr: u64) -> Result<Option<(String, u64)>> {
    Ok(mapped(addr)?
        .filter(|mapping| mapping.path.starts_with('/'))
        .map(|mapping| (mapping.path, mapping.offset + addr - mapping.start)))
}

/// Where this program's own code is: its first address, and the first one after it.
pub fn code() -> Result<(u64, u64)> {
    let mapping = mapped(code as *const () as u64)?.context("no code in /proc/self/maps")?;
    Ok((mapping.start, mapping.end))
}

/// A line of /proc/self/maps.
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

/// The one that `addr` is in.
fn mapped(addr: u64) -> Result<Option<Mapping>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines() {
        let mapping = mapping(line).with_context(|| format!("/proc/self/maps: {line}"))?;
        if (mapping.start..mapping.end).contains(&addr) {
            return Ok(Some(mapping));
        }
    }
    Ok(None)
}

fn mapping(line: &str) -> Option<Mapping> {
    // start-end permissions offset device inode path
    let words: Vec<_> = line.splitn(6, ' ').collect();
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = words.first()?.split_once('-')?;
    Some(Mapping {
        start: number(start)?,
        end: number(end)?,
        offset: number(words.get(2)?)?,
        path: words.get(5).map_or("", |path| path.trim()).to_owned(),
    })
}

fn bytes(pages: usize) -> Result<NonZeroUsize> {
    NonZeroUsize::new(pages * PAGE).context("no pages asked for")
}

fn read_write() -> ProtFlags {
    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
}

/// Nodes of memory that the machine has.
pub fn nodes() -> usize {
    let is_node = |name: &str| {
        let number = name.strip_prefix("node");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    // Without CONFIG_NUMA there is no such folder.
    let Ok(entries) = fs::read_dir("/sys/devices/system/node") else {
        return 1;
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter(|name| name.to_str().is_some_and(is_node))
        .count()
}
