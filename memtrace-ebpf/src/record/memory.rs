//! Records of address spaces: faults, VMAs and their files, pages, and the calls that change them.

use bytemuck::{Pod, Zeroable};

use super::{Bounds, Header};

/// In [`Header::flags`] of a fault: the pages in memory of the mapped shared memory or shared file became more meanwhile.
pub const FAULT_GREW: u8 = 1 << 0;
/// In [`Header::flags`] of a fault: no VMA was found for the address.
pub const FAULT_UNMAPPED: u8 = 1 << 1;
/// In [`Header::flags`] of a fault: the VMA could not be read; [`Fault::vma`] means nothing.
pub const FAULT_VMA_UNKNOWN: u8 = 1 << 2;
/// In [`Header::flags`] of a fault: the kernel counted it as minor.
pub const FAULT_MINOR: u8 = 1 << 3;
/// In [`Header::flags`] of a fault: the kernel counted it as major.
pub const FAULT_MAJOR: u8 = 1 << 4;

/// In [`Header::flags`] of a fault: the task had left the address space, by an exec or its exit, before the fault was seen to
/// be over, and its page tables can't be read any more; [`Fault::after`] means nothing.
pub const FAULT_MM_GONE: u8 = 1 << 5;
/// In [`Header::flags`] of a fault: the pages of the mapped shared memory, those in swap among them, became more meanwhile; of
/// private memory from hugetlbfs's pool, the page is in no file's cache.
pub const FAULT_FRESH: u8 = 1 << 6;

/// In [`Header::flags`] of a fault: it came while page faults were disabled. Then the kernel does without the page, or tries
/// again with them enabled; that one is the same fault.
pub const FAULT_DISABLED: u8 = 1 << 7;

/// What a fault has in [`Header::detail`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FaultDetail {
    /// The level of [`Fault::before`] (low four bits) and of [`Fault::after`] (high four bits).
    pub levels: u8,
    /// The exception's error code: bits of [`crate::fault::error_code`].
    pub error: u8,
    /// The signal that it ended in, or 0.
    pub signal: u8,
    /// With [`Fault::map_count`], what that frame is: a [`Frame`].
    pub frame: u8,
}

/// A page fault, from its entry to where it was seen to be over. `ts` is the entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Fault {
    /// Time, thread, flags.
    pub head: Header,
    /// The address that was accessed.
    pub address: u64,
    /// The instruction that accessed it.
    pub ip: u64,
    /// Page-table entry at the exception.
    pub before: u64,
    /// Page-table entry once the fault was over.
    pub after: u64,
    /// [`Vma::serial`] of the VMA that it fell into.
    pub vma: u32,
    /// For a write to a present page that may not be written: how often the page tables mapped its frame at the
    /// exception, this entry among them (`_mapcount` of `struct page`, and one).
    pub map_count: u32,
}

impl Fault {
    /// What its header tells of it alone.
    pub fn detail(&self) -> FaultDetail {
        bytemuck::cast(self.head.detail.0)
    }
}

/// A page fault, as `handle_mm_fault` was seen to handle it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Handled {
    /// The fault.
    pub fault: Fault,
    /// The address space that it is in.
    pub mm: u64,
    /// Time at which the kernel had handled it; 0 when that was not seen.
    pub left: u64,
    /// Nanoseconds in calls of `handle_mm_fault` that had to be repeated.
    pub waited: u64,
    /// How many those were.
    pub retries: u32,
    /// The system call that the thread was in, or [`crate::syscall::NONE`].
    pub call: u32,
}

/// What a frame is (the low bits of `mapping` in `struct page`, `include/linux/page-flags.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Frame {
    /// It was not looked at, or could not be read.
    Unknown = 0,
    /// Of a file.
    PageCache = 1,
    /// Anonymous memory.
    Anonymous = 2,
    /// Anonymous memory that KSM has merged.
    Ksm = 3,
}

impl Frame {
    /// The frame with this number.
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::PageCache,
            2 => Self::Anonymous,
            3 => Self::Ksm,
            _ => Self::Unknown,
        }
    }

    /// Whether the frame with this number, which the page tables map so often, can't be that of one writer alone.
    #[inline(always)]
    pub const fn is_shared(number: u32, map_count: u32) -> bool {
        match Self::from_number(number) {
            Self::PageCache | Self::Ksm => true,
            Self::Anonymous => map_count > 1,
            Self::Unknown => false,
        }
    }
}

/// Why a [`Vma`] or [`Pages`] were recorded: [`super::Detail::is`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VmaReason {
    /// A fault of this thread fell into it, and its last one did not.
    Fault = 0,
    /// It was there when an exec was complete.
    Exec = 1,
    /// A call by this thread mapped it.
    Call = 2,
    /// A fork left private pages of it shared: it is the child's, whose [`super::Birth`] follows.
    Fork = 3,
    /// It was there when memtrace attached; a [`Surveyed`] follows.
    Attach = 4,
    /// A fault of this thread fell into it, in an address space that isn't the thread's.
    Elsewhere = 5,
}

/// In [`Header::flags`] of a VMA: it has operations, so it isn't anonymous memory.
pub const VMA_HAS_OPS: u8 = 1 << 0;
/// In [`Header::flags`] of a VMA: its file lives in memory (tmpfs, memfd, shared anonymous, System V).
pub const VMA_SHMEM: u8 = 1 << 1;
/// In [`Header::flags`] of a VMA: its page is of hugetlbfs.
pub const VMA_HUGETLB: u8 = 1 << 2;

/// A VMA as the thread's tree of VMAs held it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Vma {
    /// Time, thread, flags, and why.
    pub head: Header,
    /// The address space.
    pub mm: u64,
    /// First address.
    pub start: u64,
    /// First address after.
    pub end: u64,
    /// `VM_*` flags.
    pub flags: u64,
    /// Offset in the file in pages.
    pub pgoff: u64,
    /// The file's identity, the same under each of its names; 0 for none.
    pub file: u64,
    /// Its path as the thread knows it: a [`Path`].
    pub path: u64,
    /// The identity of the address space's program: also before the exec is complete, when nothing else is known of it.
    pub exe: u64,
    /// Counts the thread's VMAs, so that a fault whose VMA record was lost is noticed.
    pub serial: u32,
    /// Not used.
    pub pad: u32,
    /// By a survey ([`VmaReason::Attach`], [`VmaReason::Fork`]): pages that are present. Not counted for a fork.
    pub resident: u64,
    /// And those among them that are private: anonymous, in a private mapping.
    pub private: u64,
}

/// Bytes of a path that are kept.
pub const PATH_BYTES: usize = 4096;

/// In [`Header::flags`] of a path: the name has been unlinked.
pub const PATH_DELETED: u8 = 1 << 0;
/// In [`Header::flags`] of a path: it was longer than what is kept, or deeper than the hook walks.
pub const PATH_TRUNCATED: u8 = 1 << 1;

/// A path of a file. It has no time, as it always holds: so it comes before whatever refers to it, though another CPU had
/// taken the time of that before. Followed by `len` bytes: the components from
/// the file upwards, each with a zero byte after it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Path {
    /// Thread, flags.
    pub head: Header,
    /// Its number. One that was told never comes to mean another text.
    pub path: u64,
    /// Bytes that follow.
    pub len: u32,
    /// Not used.
    pub pad: u32,
}

/// Private pages of an address space in 2 MiB of it, and in one VMA: those that a fork has left shared with its child, or
/// those that were there when memtrace attached. The [`Vma`] follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pages {
    /// Time, and the thread that forks or attaches.
    pub head: Header,
    /// The address space: the child's.
    pub mm: u64,
    /// Number of the first page: its address is a multiple of 2 MiB.
    pub first: u64,
    /// A bit for each page that is present, and private.
    pub present: [u64; 8],
    /// A bit for each among them that may be written as it is: at a fork, as it was copied at once.
    pub writable: [u64; 8],
}

/// The survey of an address space that memtrace attaches to is complete: its pages and VMAs have been sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Surveyed {
    /// Time at its end, and a thread of the process.
    pub head: Header,
    /// The address space.
    pub mm: u64,
    /// The identity of the file that is run.
    pub exe: u64,
    /// Where things are.
    pub bounds: Bounds,
}

/// A system call that changes mappings, at its return; for each range of `process_madvise` one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Call {
    /// Time of the return, and the thread.
    pub head: Header,
    /// Its number, see [`crate::syscall`].
    pub number: u32,
    /// Not used.
    pub pad: u32,
    /// Its arguments. For brk the second is the end of the heap before the call; for shmdt the bytes that were attached, for
    /// shmat the fourth the bytes that are, 0 where they aren't known. For `process_madvise`: address, bytes, advice, and the
    /// process or thread whose memory it is, 0 where that isn't known.
    pub args: [u64; 6],
    /// Its result, a negative errno when it failed.
    pub ret: i64,
}

/// Faults that the kernel counted on the thread without an exception: it took them itself, on the task's behalf.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Unobserved {
    /// Time at which it was noticed, and the thread.
    pub head: Header,
    /// The system call that the thread was in, or [`crate::syscall::NONE`].
    pub call: u32,
    /// Minor ones.
    pub minor: u32,
    /// Major ones.
    pub major: u32,
    /// Not used.
    pub pad: u32,
}

/// A thread leaves its CPU in the middle of a fault that began at `ts`: the [`Fault`] will come later than what
/// happens meanwhile, and a reader that wants time order must wait for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FaultPending {
    /// The fault's time and thread.
    pub head: Header,
}
