//! What kind of fault it was: the one place that decides it.

use crate::pte::Entry;

pub use crate::arch::error_code;
pub use memtrace_events::FaultKind as Kind;

/// `VM_*` flags (`include/linux/mm.h`).
#[allow(missing_docs, reason = "each is the kernel's flag of its name")]
pub mod vm {
    pub const READ: u64 = 0x1;
    pub const WRITE: u64 = 0x2;
    pub const EXEC: u64 = 0x4;
    /// Of each mapping that was made shared: `VM_SHARED` is taken from one of a file that is open for reading alone
    /// (`do_mmap` in `mm/mmap.c`).
    pub const MAYSHARE: u64 = 0x80;
    pub const GROWSDOWN: u64 = 0x100;
    pub const UFFD_MISSING: u64 = 0x200;
    pub const PFNMAP: u64 = 0x400;
    pub const UFFD_WP: u64 = 0x1000;
    pub const HUGETLB: u64 = 0x0040_0000;
    pub const MIXEDMAP: u64 = 0x1000_0000;
    pub const MERGEABLE: u64 = 0x8000_0000;
}

/// What backs the memory that a fault fell into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory.
    Anonymous,
    /// Private memory from hugetlbfs's pool.
    HugeTlb,
    /// A private mapping of a file.
    PrivateFile,
    /// A shared mapping of a file.
    SharedFile,
    /// Shared memory: a shared mapping of a file that lives in memory.
    Shmem,
    /// Pages of the kernel or of a device: the vdso and its data.
    Special,
    /// Not known.
    Unknown,
}

impl Backing {
    /// The backing of a VMA with these `VM_*` flags.
    #[inline(always)]
    pub const fn of(flags: u64, has_ops: bool, has_file: bool, shmem: bool) -> Self {
        if flags & vm::HUGETLB != 0 {
            return if flags & vm::MAYSHARE != 0 {
                Self::Shmem
            } else {
                Self::HugeTlb
            };
        }
        if !has_ops {
            return Self::Anonymous;
        }
        if !has_file || flags & vm::PFNMAP != 0 {
            return Self::Special;
        }
        match (flags & vm::MAYSHARE != 0, shmem) {
            (true, true) => Self::Shmem,
            (true, false) => Self::SharedFile,
            (false, _) => Self::PrivateFile,
        }
    }
}

/// All that the kind of a fault follows from.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts {
    /// The exception's error code.
    pub error: u8,
    /// The page-table entry at the exception.
    pub before: Entry,
    /// The page-table entry once it was over.
    pub after: Entry,
    /// Whether both map the same frame.
    pub same_frame: bool,
    /// Whether the entry before mapped the zero page.
    pub zero_before: bool,
    /// Whether the entry after maps the zero page.
    pub zero_after: bool,
    /// Whether the kernel counted it at all.
    pub counted: bool,
    /// Whether it counted it as major.
    pub major: bool,
    /// Whether SIGSEGV or SIGBUS followed.
    pub signal: bool,
    /// What backs the memory.
    pub backing: Backing,
    /// Whether the shared memory or shared file behind it has more pages in memory than before.
    pub grew: bool,
    /// Whether the shared memory has more pages than before, those in swap among them; of private memory from hugetlbfs's
    /// pool, whether the page is in no file's cache.
    pub fresh: bool,
    /// Whether a handler of userfaultfd is asked for the pages that are missing there.
    pub uffd_registered: bool,
    /// Whether userfaultfd write-protects pages there.
    pub uffd_wp: bool,
    /// Whether the address space was left before the entry after could be read: that means nothing.
    pub left: bool,
    /// Whether the frame before is surely not the writer's alone: another entry maps it, or it is the page cache's or KSM's.
    pub shared_frame: bool,
}

/// The kind of a fault.
#[inline(always)]
pub fn kind(f: &Facts) -> Kind {
    if f.signal {
        Kind::Invalid
    } else if f.left {
        unseen(f)
    } else if !f.after.is_present() {
        // A bad pointer given to a system call, or another thread took the page away again.
        Kind::Other
    } else if f.before.is_present() {
        remapped(f)
    } else if f.before.is_none() {
        filled(f)
    } else if f.before.is_prot_none() && f.counted {
        // mprotect changes the entries itself, so that none is left without access where access is allowed
        // (change_pte_range in mm/mprotect.c).
        Kind::NumaHint
    } else if f.before.is_swap() && f.counted {
        Kind::SwapIn
    } else {
        Kind::Other
    }
}

/// The entry after is not known. The kernel counts what it has done to the end (`mm_account_fault` in `mm/memory.c`), and
/// for some entries there is but one thing to do.
#[inline(always)]
fn unseen(f: &Facts) -> Kind {
    let write = f.error & error_code::WRITE != 0;
    if !f.counted {
        Kind::Other
    } else if f.before.is_none() {
        match f.backing {
            // The zero page, or a huge one.
            Backing::Anonymous if !write => Kind::Other,
            // What the file had before and has now may be gone with it.
            Backing::HugeTlb | Backing::Shmem => Kind::Other,
            Backing::SharedFile if f.major => Kind::Other,
            _ => filled(f),
        }
    } else if f.before.is_prot_none() {
        Kind::NumaHint
    } else if f.before.is_swap() {
        Kind::SwapIn
    } else if !write || !f.before.is_present() || f.before.is_writable() || is_shared(f) {
        Kind::Other
    } else if f.zero_before || is_huge_zero(f, f.before) {
        Kind::CowZero
    } else if f.shared_frame {
        Kind::CowCopy
    } else {
        Kind::Other
    }
}

/// Whether all who map the memory see what is written.
#[inline(always)]
const fn is_shared(f: &Facts) -> bool {
    matches!(f.backing, Backing::SharedFile | Backing::Shmem)
}

/// The page was there before: what changed about it?
#[inline(always)]
fn remapped(f: &Facts) -> Kind {
    let write = f.error & error_code::WRITE != 0;
    let shared = is_shared(f);
    if f.same_frame {
        if write && !f.before.is_writable() && f.after.is_writable() {
            if f.uffd_wp && f.before.is_uffd_wp() {
                Kind::UffdWp
            } else if shared {
                Kind::SharedWrite
            } else {
                Kind::CowReuse
            }
        } else if f.before.is_writable() == f.after.is_writable() {
            Kind::Spurious
        } else {
            Kind::Other
        }
    } else if !write || shared {
        Kind::Other
    } else if f.zero_before || is_huge_zero(f, f.before) {
        Kind::CowZero
    } else {
        Kind::CowCopy
    }
}

/// Whether it is the huge zero page, whose frame can change while nobody uses it: an anonymous huge page that nobody
/// has written (`do_huge_pmd_anonymous_page` in `mm/huge_memory.c`). One after `MADV_FREE` looks the same.
#[inline(always)]
fn is_huge_zero(f: &Facts, entry: Entry) -> bool {
    matches!(f.backing, Backing::Anonymous) && entry.is_huge() && !entry.is_dirty()
}

/// Nothing was there: what came?
#[inline(always)]
fn filled(f: &Facts) -> Kind {
    let write = f.error & error_code::WRITE != 0;
    match f.backing {
        Backing::Anonymous | Backing::HugeTlb if f.uffd_registered => Kind::UffdFill,
        Backing::Shmem if f.uffd_registered && f.fresh => Kind::UffdFill,
        // There is no zero page of this size: a read gets a frame, too (hugetlb_no_page in mm/hugetlb.c).
        Backing::HugeTlb if f.fresh => Kind::ZeroFill,
        Backing::Anonymous => {
            if f.zero_after || !write && is_huge_zero(f, f.after) {
                Kind::ZeroRead
            } else {
                Kind::ZeroFill
            }
        }
        Backing::Shmem if f.fresh => Kind::ShmFill,
        // Not a write to a page that is there: before 6.0 such a fault is often repeated once it is done, for the sake of
        // those who write to disk, and counted as major for that (fault_dirty_shared_page in mm/memory.c).
        Backing::Shmem if f.grew || f.major && !write => Kind::SwapIn,
        Backing::PrivateFile | Backing::HugeTlb if write => Kind::FileCow,
        Backing::PrivateFile if f.major => Kind::FileRead,
        Backing::SharedFile if f.major && (f.grew || !write) => Kind::FileRead,
        Backing::SharedFile | Backing::Shmem if write => Kind::SharedWrite,
        Backing::PrivateFile | Backing::SharedFile | Backing::Shmem | Backing::HugeTlb => {
            Kind::FileMap
        }
        Backing::Special => Kind::SpecialMap,
        Backing::Unknown => Kind::Other,
    }
}

#[cfg(test)]
mod tests;
