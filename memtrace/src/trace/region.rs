//! What an address belongs to: from its VMA, and from where the exec put the program.

use std::{ops::Range, sync::Arc};

use memtrace_ebpf::{
    fault::{Backing, vm},
    pte::PAGE_SIZE,
    record::{Bounds, VMA_HAS_OPS, VMA_SHMEM, Vma},
};
use roaring::RoaringTreemap;

use super::{
    bss::{Bss, Image},
    event::{Event, Part, Region},
    files::Files,
    ranges::joined,
};

/// Bytes below the vdso in which its data lies (`map_vdso` in `arch/x86/entry/vdso/vma.c`), and above it for itself.
const VVAR: u64 = 16 * PAGE_SIZE;
const VDSO: u64 = 4 * PAGE_SIZE;

/// What is known of an address space.
#[derive(Clone, Debug, Default)]
pub struct Mm {
    /// The identity of the program's file.
    pub exe: u64,
    /// Where the exec put things.
    pub bounds: Bounds,
    /// Where the program begins, which is loaded from here to `bounds.end_data`.
    pub base: u64,
    /// The stack of each thread, by the thread: all of it, or a word in it.
    pub stacks: Vec<(u32, Range<u64>)>,
    /// Where the BSS of the program and of libraries is.
    pub bss: Bss,
    /// Threads that use it.
    pub users: Vec<u32>,
    /// How many of them have not begun to exit.
    pub running: u32,
    /// When one of them last began to.
    pub exited: u64,
    /// Its number; 0 while it has none, as an exec is not complete.
    pub number: u32,
    /// Whether a fork before the trace may have left pages of it shared.
    pub before: bool,
    /// Copies that no known fork explains: a fork that was under way then may. Times and pages.
    pub unexplained: Vec<(u64, u64)>,
    /// Set while memtrace attaches to it, with what came meanwhile.
    pub survey: Option<Box<Survey>>,
}

/// What an address space that memtrace attaches to is made of, as far as has been told.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Private pages that came before it was complete, of which events tell.
    pub came: RoaringTreemap,
    /// The event of the first of its threads, which is to tell what it is made of.
    pub leader: Option<Event>,
}

impl Mm {
    /// An address space whose exec is under way: the kernel has set only its program yet.
    pub fn in_exec(exe: u64) -> Self {
        let bounds = Bounds {
            end_data: u64::MAX,
            ..Bounds::default()
        };
        Self {
            exe,
            bounds,
            ..Self::default()
        }
    }

    /// Whether a VMA is of the program as it was loaded, and not of its file as mapped once more.
    pub const fn has_loaded(&self, vma: &Vma) -> bool {
        vma.file == self.exe && overlaps(vma, self.base, self.bounds.end_data)
    }

    /// Finds where the program begins, whose exec nobody saw: below its code the parts of its file follow each other as they
    /// do in the file, two of which may have parts of one page.
    pub fn find_base(&mut self, vmas: &[Vma]) {
        self.base = self.bounds.start_code;
        let mut next = u64::MAX;
        for vma in vmas.iter().rev().filter(|vma| vma.file == self.exe) {
            let pages = (vma.end - vma.start) / PAGE_SIZE;
            let follows = vma.start < self.base && vma.pgoff.saturating_add(pages) <= next;
            if self.has_loaded(vma) || follows {
                self.base = self.base.min(vma.start);
                next = vma.pgoff + 1;
            }
        }
    }
}

/// A VMA with all that the events of faults in it need.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// Counts the thread's VMAs.
    pub serial: u32,
    /// What backs it.
    pub backing: Backing,
    /// Its address space.
    pub mm: u64,
    /// `VM_*` flags.
    pub flags: u64,
    start: u64,
    end: u64,
    pgoff: u64,
    region: Region,
    part: Option<Part>,
    /// Parts of it that are stacks of threads, joined: where no mapping lies between stacks (guard pages by `MADV_GUARD_INSTALL`) those
    /// of all threads are in one VMA, and each thread has the VMA that it was in last.
    stacks: Vec<Range<u64>>,
    image: Option<Image>,
    /// The identity of the address space's program.
    exe: u64,
    /// From this address on the program's data is BSS: the end of what the file supplies.
    end_data: u64,
}

/// A place in a VMA.
pub struct Location {
    /// What it belongs to.
    pub region: Region,
    /// In a library: which part.
    pub part: Option<Part>,
    /// The mapped file; of a library's BSS, the library.
    pub file: Option<Arc<str>>,
    /// Its page's offset in the file in bytes.
    pub offset: Option<u64>,
}

impl Location {
    /// A place that is in no known VMA.
    pub const fn nowhere(region: Region) -> Self {
        Self {
            region,
            part: None,
            file: None,
            offset: None,
        }
    }
}

impl Mapped {
    /// Names the region of a VMA.
    pub fn new(vma: &Vma, mm: &Mm, files: &mut Files) -> Self {
        let backing = Backing::of(
            vma.flags,
            vma.head.flags & VMA_HAS_OPS != 0,
            vma.file != 0,
            vma.head.flags & VMA_SHMEM != 0,
        );
        let image = (vma.file != 0).then(|| Image {
            file: vma.file,
            path: files.path(vma.path),
        });
        let path = image.as_ref().and_then(|image| image.path.as_deref());
        let (region, part) = name(vma, backing, path, mm, files);
        let stacks = mm.stacks.iter().map(|(_, stack)| stack_in(vma, stack));
        Self {
            serial: vma.serial,
            backing,
            mm: vma.mm,
            flags: vma.flags,
            start: vma.start,
            end: vma.end,
            pgoff: vma.pgoff,
            region,
            part,
            stacks: joined(stacks.filter(|stack| !stack.is_empty()).collect()),
            image,
            exe: mm.exe,
            end_data: mm.bounds.end_data,
        }
    }

    /// Its first address.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// What an address in it belongs to, in an address space with this BSS.
    pub fn place(&self, address: u64, bss: Option<&Bss>) -> Location {
        if self.backing == Backing::Anonymous
            && self.region != Region::Stack
            && let Some(image) = bss.and_then(|bss| bss.at(address))
        {
            return self.bss(image);
        }
        let region = match self.region {
            Region::Data if address >= self.end_data => Region::Bss,
            Region::Anon if self.stacks.iter().any(|stack| stack.contains(&address)) => {
                Region::ThreadStack
            }
            region => region,
        };
        let page = (address & !(PAGE_SIZE - 1)).saturating_sub(self.start);
        let file = self.file();
        Location {
            region,
            part: self.part,
            offset: file.as_ref().map(|_| self.pgoff * PAGE_SIZE + page),
            file,
        }
    }

    /// The BSS of the program or of a library.
    fn bss(&self, image: &Image) -> Location {
        if image.file == self.exe {
            return Location::nowhere(Region::Bss);
        }
        Location {
            region: Region::Lib,
            part: Some(Part::Bss),
            file: image.path.clone(),
            offset: None,
        }
    }

    /// The parts that it has of BSS, of stacks and of other memory, and what each is.
    pub fn parts(&self, bss: &Bss) -> Vec<(Range<u64>, Location)> {
        let bounds = self
            .stacks
            .iter()
            .flat_map(|stack| [stack.start, stack.end]);
        let mut bounds: Vec<u64> = bounds.chain([self.start, self.end]).collect();
        bounds.sort_unstable();
        let parts = bounds
            .windows(2)
            .flat_map(|pair| bss.parts(&(pair[0]..pair[1])));
        parts
            .map(|part| (part.clone(), self.place(part.start, Some(bss))))
            .collect()
    }

    /// How many parts of it are stacks, for tests.
    #[cfg(test)]
    pub const fn stack_count(&self) -> usize {
        self.stacks.len()
    }

    /// What its first address belongs to, in an address space with this BSS.
    pub fn first(&self, bss: Option<&Bss>) -> Location {
        self.place(self.start, bss)
    }

    /// Whether an address is in it.
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// The mapped file's path.
    pub fn file(&self) -> Option<Arc<str>> {
        self.image.as_ref()?.path.clone()
    }

    /// The program or library that it may be a part of.
    pub fn image(&self) -> Option<Image> {
        let is_part = |image: &Image| image.file != self.exe || self.region != Region::File;
        self.image.clone().filter(is_part)
    }
}

/// The file that the kernel has behind anonymous memory from hugetlbfs's pool: `HUGETLB_ANON_FILE`
/// (`include/linux/hugetlb.h`).
const ANON_HUGEPAGE: &str = "/anon_hugepage";

/// The region of a VMA as far as it is no BSS, and the part of a library.
fn name(
    vma: &Vma,
    backing: Backing,
    file: Option<&str>,
    mm: &Mm,
    files: &mut Files,
) -> (Region, Option<Part>) {
    let bounds = &mm.bounds;
    let whole = |region| (region, None);
    match backing {
        Backing::Shmem => whole(Region::Shm),
        Backing::Special if near(vma.start, bounds.vdso) => whole(Region::Vdso),
        Backing::Unknown => whole(Region::Unknown),
        Backing::HugeTlb if file.is_some_and(|name| name != ANON_HUGEPAGE) => whole(Region::File),
        Backing::HugeTlb => whole(Region::Anon),
        Backing::Anonymous => whole(anonymous(vma, mm)),
        Backing::PrivateFile | Backing::SharedFile if mm.has_loaded(vma) => {
            let written = vma.flags & vm::WRITE != 0;
            // What may be read may be executed in a 32-bit program without PT_GNU_STACK (READ_IMPLIES_EXEC in
            // `load_elf_binary` in fs/binfmt_elf.c): its data is no code for that.
            let code = !written || overlaps(vma, bounds.start_code, bounds.end_code);
            if vma.flags & vm::EXEC != 0 && code {
                whole(Region::Text)
            } else if written || overlaps(vma, bounds.start_data, bounds.end_data) {
                whole(Region::Data)
            } else {
                whole(Region::Rodata)
            }
        }
        Backing::PrivateFile if vma.file != mm.exe && files.is_code(vma.file) => {
            let part = if vma.flags & vm::WRITE != 0 {
                Part::Data
            } else if vma.flags & vm::EXEC != 0 {
                Part::Text
            } else {
                Part::Rodata
            };
            (Region::Lib, Some(part))
        }
        Backing::PrivateFile | Backing::SharedFile | Backing::Special => whole(Region::File),
    }
}

/// The region of memory that no file backs, as far as it is no BSS and no thread's stack.
fn anonymous(vma: &Vma, mm: &Mm) -> Region {
    let bounds = &mm.bounds;
    let has = |address| (vma.start..vma.end).contains(address);
    if vma.flags & vm::GROWSDOWN != 0 && bounds.start_stack == 0 || has(&bounds.start_stack) {
        Region::Stack
    } else if vma.start < bounds.brk && vma.end > bounds.start_brk {
        // As vma_is_initial_heap in include/linux/mm.h, but a BSS that ends where the heap begins is none.
        Region::Heap
    } else {
        Region::Anon
    }
}

/// What a VMA has of a thread's stack: all of it where no more of the stack is known than a word.
fn stack_in(vma: &Vma, stack: &Range<u64>) -> Range<u64> {
    if stack.end - stack.start == 8 {
        let has_it = vma.start <= stack.start && stack.start < vma.end;
        return vma.start..if has_it { vma.end } else { vma.start };
    }
    let start = stack.start & !(PAGE_SIZE - 1);
    // In the rest of its last page the C library has what else is the thread's (`allocate_stack` in glibc's `nptl/allocatestack.c`).
    let end = stack.end.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE);
    start.clamp(vma.start, vma.end)..end.clamp(vma.start, vma.end)
}

const fn overlaps(vma: &Vma, start: u64, end: u64) -> bool {
    vma.start < end && start < vma.end
}

const fn near(start: u64, vdso: u64) -> bool {
    vdso != 0 && start + VVAR >= vdso && start < vdso + VDSO
}
