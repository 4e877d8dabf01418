//! What an address belongs to: from its VMA, and from where the exec put the program.

use std::{collections::BTreeSet, sync::Arc};

use memtrace_ebpf::{
    fault::{Backing, vm},
    pte::PAGE_SIZE,
    record::{Bounds, VMA_HAS_OPS, VMA_SHMEM, Vma},
};

use super::{
    event::{Event, Part, Region},
    files::Files,
};

/// Bytes below the vdso in which its data lies (`map_vdso` in `arch/x86/entry/vdso/vma.c`), and above it for itself.
const VVAR: u64 = 16 * PAGE_SIZE;
const VDSO: u64 = 4 * PAGE_SIZE;

/// What is known of an address space.
#[derive(Clone, Debug, Default)]
pub struct Mm {
    /// The program's file.
    pub exe: u64,
    /// Where the exec put things.
    pub bounds: Bounds,
    /// An address in the stack of each thread, by the thread.
    pub stacks: Vec<(u32, u64)>,
    /// The addresses after what is mapped of programs and libraries: there their BSS may begin.
    pub ends: BTreeSet<u64>,
    /// Those of them where the kernel has put other memory, as it may when it is asked for no place of its own.
    pub taken: BTreeSet<u64>,
    /// Threads that use it.
    pub users: Vec<u32>,
    /// How many of them have not begun to exit.
    pub running: u32,
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
    /// Faults that came before it was complete: their pages, and whether private ones came there.
    pub early: Vec<(u64, bool)>,
    /// The event of the first of its threads, which is to tell what it is made of.
    pub leader: Option<Event>,
}

impl Mm {
    /// A call has mapped memory that no file backs: at an address of its choice, or of the kernel's.
    pub fn mapped_anonymous(&mut self, address: u64, chosen: bool) {
        if chosen {
            self.taken.remove(&address);
        } else if self.ends.contains(&address) {
            self.taken.insert(address);
        }
    }

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
    start: u64,
    pgoff: u64,
    region: Region,
    part: Option<Part>,
    file: Option<Arc<str>>,
    /// From this address on it is BSS: the end of what the file supplies.
    bss: u64,
    grows_down: bool,
    attended: bool,
}

/// A place in a VMA.
pub struct Place {
    /// What it belongs to.
    pub region: Region,
    /// In a library: which part.
    pub part: Option<Part>,
    /// The mapped file.
    pub file: Option<Arc<str>>,
    /// Its page's offset in the file in bytes.
    pub offset: Option<u64>,
}

impl Place {
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
        let file = files.path(vma.file);
        let (region, part, bss) = name(vma, backing, file.as_deref(), mm, files);
        Self {
            serial: vma.serial,
            backing,
            mm: vma.mm,
            start: vma.start,
            pgoff: vma.pgoff,
            region,
            part,
            file,
            bss,
            grows_down: vma.flags & vm::GROWSDOWN != 0,
            attended: vma.flags & vm::UFFD_MISSING != 0,
        }
    }

    /// What an address in it belongs to.
    pub fn place(&self, address: u64) -> Place {
        let region = if self.region == Region::Data && address >= self.bss {
            Region::Bss
        } else {
            self.region
        };
        let page = (address & !(PAGE_SIZE - 1)).saturating_sub(self.start);
        Place {
            region,
            part: self.part,
            offset: self.file.as_ref().map(|_| self.pgoff * PAGE_SIZE + page),
            file: self.file.clone(),
        }
    }

    /// Whether it is a stack that the kernel extends downwards when its thread touches what is below.
    pub const fn grows_down(&self) -> bool {
        self.grows_down
    }

    /// Whether a handler of userfaultfd is asked for the pages that are missing in it.
    pub const fn attended(&self) -> bool {
        self.attended
    }

    /// What the VMA as a whole is.
    pub const fn region(&self) -> Region {
        self.region
    }

    /// The mapped file.
    pub fn file(&self) -> Option<Arc<str>> {
        self.file.clone()
    }
}

/// The file that the kernel has behind anonymous memory from hugetlbfs's pool: `HUGETLB_ANON_FILE`
/// (`include/linux/hugetlb.h`).
const ANON_HUGEPAGE: &str = "/anon_hugepage";

/// The region of a VMA, the part of a library, and the address from which it is BSS.
fn name(
    vma: &Vma,
    backing: Backing,
    file: Option<&str>,
    mm: &Mm,
    files: &Files,
) -> (Region, Option<Part>, u64) {
    let bounds = &mm.bounds;
    let whole = |region| (region, None, u64::MAX);
    match backing {
        Backing::Shmem => whole(Region::Shm),
        Backing::Special if near(vma.start, bounds.vdso) => whole(Region::Vdso),
        Backing::Unknown => whole(Region::Unknown),
        Backing::HugeTlb if file.is_some_and(|name| name != ANON_HUGEPAGE) => whole(Region::File),
        Backing::HugeTlb => whole(Region::Anon),
        Backing::Anonymous => anonymous(vma, mm, files),
        Backing::PrivateFile | Backing::SharedFile if vma.file == mm.exe => {
            if vma.flags & vm::EXEC != 0 {
                whole(Region::Text)
            } else if vma.flags & vm::WRITE != 0
                || overlaps(vma, bounds.start_data, bounds.end_data)
            {
                (Region::Data, None, bounds.end_data)
            } else {
                whole(Region::Rodata)
            }
        }
        Backing::PrivateFile if files.is_code(vma.file) => {
            let part = if vma.flags & vm::EXEC != 0 {
                Part::Text
            } else if vma.flags & vm::WRITE != 0 {
                Part::Data
            } else {
                Part::Rodata
            };
            (Region::Lib, Some(part), u64::MAX)
        }
        Backing::PrivateFile | Backing::SharedFile | Backing::Special => whole(Region::File),
    }
}

/// The region of memory that no file backs.
fn anonymous(vma: &Vma, mm: &Mm, files: &Files) -> (Region, Option<Part>, u64) {
    let bounds = &mm.bounds;
    let region = if vma.flags & vm::GROWSDOWN != 0 && bounds.start_stack == 0
        || (vma.start..vma.end).contains(&bounds.start_stack)
    {
        Region::Stack
    } else if vma.start < bounds.brk && vma.end > bounds.start_brk {
        // As vma_is_initial_heap in include/linux/mm.h, but a BSS that ends where the heap begins is none.
        Region::Heap
    } else if vma.previous_file != 0 && vma.previous_file == mm.exe {
        Region::Bss
    } else if vma.previous_file != 0
        && files.is_code(vma.previous_file)
        && !mm.taken.contains(&vma.start)
    {
        return (Region::Lib, Some(Part::Bss), u64::MAX);
    } else if mm
        .stacks
        .iter()
        .any(|(_, address)| (vma.start..vma.end).contains(address))
    {
        Region::ThreadStack
    } else {
        Region::Anon
    };
    (region, None, u64::MAX)
}

const fn overlaps(vma: &Vma, start: u64, end: u64) -> bool {
    vma.start < end && start < vma.end
}

const fn near(start: u64, vdso: u64) -> bool {
    vdso != 0 && start + VVAR >= vdso && start < vdso + VDSO
}
