//! The records that the hooks write into the ring buffer.
//!
//! Each begins with a [`Header`]. Times are nanoseconds of `CLOCK_MONOTONIC`. Task ids are those of the initial pid
//! namespace. A kernel pointer is only ever an identity: user space turns it into a small number.

use bytemuck::{Pod, Zeroable};

/// What a record is. The hooks count the lost ones by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`Fault`].
    Fault = 1,
    /// A [`Vma`].
    Vma = 2,
    /// A [`Path`].
    Path = 3,
    /// A [`Birth`].
    Birth = 4,
    /// An [`Exec`].
    Exec = 5,
    /// An [`Exit`].
    Exit = 6,
    /// A [`Gone`].
    Gone = 7,
    /// A [`Call`].
    Call = 8,
    /// An [`Unobserved`].
    Unobserved = 9,
    /// A [`Rename`].
    Rename = 10,
    /// A [`Held`].
    Held = 11,
    /// A [`Pages`].
    Pages = 12,
    /// A [`Returned`].
    Returned = 13,
    /// An [`Objects`].
    Objects = 14,
    /// A [`Task`].
    Task = 15,
    /// A [`Surveyed`].
    Surveyed = 16,
}

impl Kind {
    /// Every kind, in the order of their numbers, which begin at 1.
    pub const ALL: [Self; 16] = [
        Self::Fault,
        Self::Vma,
        Self::Path,
        Self::Birth,
        Self::Exec,
        Self::Exit,
        Self::Gone,
        Self::Call,
        Self::Unobserved,
        Self::Rename,
        Self::Held,
        Self::Pages,
        Self::Returned,
        Self::Objects,
        Self::Task,
        Self::Surveyed,
    ];

    /// Slots in the table of lost records: a slot for a task that could not be followed, then one per kind.
    pub const SLOTS: u32 = 17;

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its name in the output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Vma => "vma",
            Self::Path => "path",
            Self::Birth => "clone",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Gone => "gone",
            Self::Call => "call",
            Self::Unobserved => "unobserved",
            Self::Rename => "rename",
            Self::Held => "held",
            Self::Pages => "pages",
            Self::Returned => "cloned",
            Self::Objects => "objects",
            Self::Task => "task",
            Self::Surveyed => "survey",
        }
    }
}

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Header {
    /// Time of what is recorded.
    pub ts: u64,
    /// The thread that it happened to.
    pub tid: u32,
    /// A [`Kind`].
    pub kind: u8,
    /// Reserved to the record's own flags.
    pub flags: u8,
    /// Reserved to the record.
    pub a: u8,
    /// Reserved to the record.
    pub b: u8,
}

/// In [`Header::flags`] of a fault: the pages of the mapped shared memory became more meanwhile.
pub const FAULT_GREW: u8 = 1 << 0;
/// In [`Header::flags`] of a fault: no VMA was found for the address.
pub const FAULT_UNMAPPED: u8 = 1 << 1;
/// In [`Header::flags`] of a fault: the VMA could not be read; [`Fault::vma`] means nothing.
pub const FAULT_VMA_UNKNOWN: u8 = 1 << 2;
/// In [`Header::flags`] of a fault: the kernel counted it as minor.
pub const FAULT_MINOR: u8 = 1 << 3;
/// In [`Header::flags`] of a fault: the kernel counted it as major.
pub const FAULT_MAJOR: u8 = 1 << 4;

/// In [`Header::flags`] of a fault: the address space was replaced or gone before the fault was seen to be over;
/// [`Fault::after`] means nothing.
pub const FAULT_MM_GONE: u8 = 1 << 5;

/// A page fault, from its entry to where it was seen to be over. `ts` is the entry.
///
/// [`Header::a`] is the level of `before` (low four bits) and of `after` (high four bits); [`Header::b`] is the
/// exception's error code.
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
    /// The signal that it ended in, or 0.
    pub signal: u32,
    /// For a write to a present page that may not be written: how often the page tables mapped its frame at the
    /// exception, this entry among them (`_mapcount` of `struct page`, and one).
    pub map_count: u32,
    /// Then also what that frame is: a [`Frame`].
    pub frame: u32,
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
}

/// Why a [`Vma`] was recorded, in [`Header::a`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Seen {
    /// A fault of this thread fell into it, and its last one did not.
    Fault = 0,
    /// It was there when an exec was complete.
    Exec = 1,
    /// A call by this thread mapped it.
    Call = 2,
    /// A fork left private pages of it shared: it is the child's, whose [`Birth`] follows.
    Fork = 3,
    /// It was there when memtrace attached; a [`Surveyed`] follows.
    Attach = 4,
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
    /// The file's identity, see [`Path`]; 0 for none.
    pub file: u64,
    /// For memory without a file: the file of the VMA that ends where this one begins, or 0. A program's BSS so
    /// follows its data.
    pub previous_file: u64,
    /// The address space's program: also before the exec is complete, when nothing else is known of it.
    pub exe: u64,
    /// Counts the thread's VMAs, so that a fault whose VMA record was lost is noticed.
    pub serial: u32,
    /// Not used.
    pub pad: u32,
    /// By a survey ([`Seen::Attach`], [`Seen::Fork`]): pages that are present. Not counted for a fork.
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

/// The path of a file, sent before the first record that refers to it. Followed by `len` bytes: the components from
/// the file upwards, each with a zero byte after it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Path {
    /// Time, thread, flags.
    pub head: Header,
    /// The file's identity.
    pub file: u64,
    /// Inode number.
    pub ino: u64,
    /// Device in the kernel's own form: 12 bits major, 20 bits minor.
    pub dev: u32,
    /// Bytes that follow.
    pub len: u32,
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

/// The parts of a task that a clone shares or copies, as identities; 0 where the task has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Parts {
    /// `task_struct.mm`
    pub mm: u64,
    /// `task_struct.files`
    pub files: u64,
    /// `task_struct.fs`
    pub fs: u64,
    /// `task_struct.sighand`
    pub sighand: u64,
    /// `task_struct.signal`
    pub signal: u64,
    /// `task_struct.nsproxy`
    pub nsproxy: u64,
    /// `task_struct.cred`
    pub cred: u64,
    /// `task_struct.io_context`
    pub io: u64,
    /// `task_struct.sysvsem.undo_list`
    pub sysvsem: u64,
    /// `task_struct.group_leader`
    pub group: u64,
    /// `nsproxy.mnt_ns`
    pub mnt_ns: u64,
    /// `nsproxy.uts_ns`
    pub uts_ns: u64,
    /// `nsproxy.ipc_ns`
    pub ipc_ns: u64,
    /// `nsproxy.pid_ns_for_children`
    pub pid_ns: u64,
    /// `nsproxy.net_ns`
    pub net_ns: u64,
    /// `nsproxy.cgroup_ns`
    pub cgroup_ns: u64,
    /// `nsproxy.time_ns_for_children`
    pub time_ns: u64,
    /// `cred.user_ns`
    pub user_ns: u64,
}

/// A process's and a thread's id in memtrace's own pid namespace; 0 where it isn't in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Ids {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
}

/// A clone, seen from the parent when all of the child is set up (`task:task_newtask` in `copy_process`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Birth {
    /// Time, and the parent thread.
    pub head: Header,
    /// The parent's process.
    pub parent_pid: u32,
    /// The child's process.
    pub child_pid: u32,
    /// The child's thread.
    pub child_tid: u32,
    /// The signal that the parent gets at the child's end; -1 for a thread.
    pub exit_signal: i32,
    /// `CLONE_*` flags.
    pub flags: u64,
    /// The child's first stack pointer.
    pub stack: u64,
    /// The system call that the parent is in, or [`crate::syscall::NONE`].
    pub call: u32,
    /// 1 when the child is traced.
    pub followed: u32,
    /// The child's ids as memtrace's pid namespace has them.
    pub child_ids: Ids,
    /// With `CLONE_CLEAR_SIGHAND`: signals that the parent and the child handle.
    pub handled: [u32; 2],
    /// Bytes of the child's page tables, where it has its own.
    pub table_bytes: u64,
    /// Private pages of it that are in swap.
    pub swapped: u64,
    /// When the call began that made it.
    pub began: u64,
    /// The parent's parts.
    pub parent: Parts,
    /// The child's parts.
    pub child: Parts,
    /// The parent's name, nul-terminated.
    pub comm: [u8; 16],
}

/// A clone returns: in the parent, or in the child, where [`RETURNED_IN_CHILD`] is set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Returned {
    /// Time, and the thread.
    pub head: Header,
    /// In the parent: when the call began.
    pub began: u64,
    /// In the parent: nanoseconds that the hooks took of it.
    pub hooked: u64,
    /// In the parent: the child.
    pub child_tid: u32,
    /// Not used.
    pub pad: u32,
}

/// In [`Header::flags`] of a [`Returned`]: it is the child's first return to user mode.
pub const RETURNED_IN_CHILD: u8 = 1 << 0;

/// A task's parts as a call that may change them has left them, or an exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Objects {
    /// Time and thread.
    pub head: Header,
    /// The system call; [`crate::syscall::EXECVE`] for an exec.
    pub call: u32,
    /// Not used.
    pub pad: u32,
    /// What it has now.
    pub parts: Parts,
}

/// A thread that was there when memtrace attached: from now on it is traced.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Task {
    /// Time and thread.
    pub head: Header,
    /// The process.
    pub pid: u32,
    /// Its parent process as memtrace's pid namespace has it.
    pub parent_pid: u32,
    /// Its ids there.
    pub ids: Ids,
    /// Its minor and major faults until now.
    pub min_flt: u64,
    /// Major ones.
    pub maj_flt: u64,
    /// What it has.
    pub parts: Parts,
    /// Its name, nul-terminated.
    pub comm: [u8; 16],
}

/// The survey of an address space that memtrace attaches to is complete: its pages and VMAs have been sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Surveyed {
    /// Time at its end, and the process's first thread.
    pub head: Header,
    /// The address space.
    pub mm: u64,
    /// The file that is run, see [`Path`].
    pub exe: u64,
    /// Where things are.
    pub bounds: Bounds,
}

/// Where an exec's kernel side put the program (`struct mm_struct`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bounds {
    /// First byte of text.
    pub start_code: u64,
    /// End of text.
    pub end_code: u64,
    /// First byte of the data segment.
    pub start_data: u64,
    /// End of what the file supplies of it.
    pub end_data: u64,
    /// First byte of the heap.
    pub start_brk: u64,
    /// End of the heap.
    pub brk: u64,
    /// The first stack pointer.
    pub start_stack: u64,
    /// The vdso.
    pub vdso: u64,
}

/// Bytes of an exec's strings that are kept: the file's name, then the arguments.
pub const EXEC_BYTES: usize = 16384;

/// In [`Header::flags`] of an exec: the strings were longer than what is kept.
pub const EXEC_TRUNCATED: u8 = 1 << 0;

/// A successful exec. Followed by `name_len` bytes, the file as it was named, and `args_len` bytes, the arguments,
/// each with a zero byte after it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Exec {
    /// Time, and the thread (which has the process's id from now on).
    pub head: Header,
    /// The process.
    pub pid: u32,
    /// The thread's id before, another one when it wasn't the leader.
    pub old_tid: u32,
    /// The new address space.
    pub mm: u64,
    /// The file that is run, see [`Path`].
    pub exe: u64,
    /// Where things are.
    pub bounds: Bounds,
    /// Faults of this thread before the exec that were not sent, as they are memtrace's own: minor.
    pub hidden_minor: u32,
    /// The same: major.
    pub hidden_major: u32,
    /// Bytes of the name.
    pub name_len: u32,
    /// Bytes of the arguments.
    pub args_len: u32,
}

/// A thread begins to exit (`sched:sched_process_exit`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Exit {
    /// Time and thread.
    pub head: Header,
    /// Wait status, as `wait4(2)` gives it.
    pub status: u32,
    /// 1 when it is the last thread of its process.
    pub last: u32,
}

/// A thread is gone: its last switch away from a CPU. Its counters are final.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Gone {
    /// Time and thread.
    pub head: Header,
    /// What it was.
    pub tally: Tally,
}

/// A thread's faults as the kernel counts them, and as the hooks do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tally {
    /// `task_struct.min_flt`
    pub min_flt: u64,
    /// `task_struct.maj_flt`
    pub maj_flt: u64,
    /// With `--summary`: faults by [`crate::fault::Kind`].
    pub kinds: [u32; crate::fault::Kind::COUNT],
    /// With `--summary`: the ones among them that the kernel counted, minor and major.
    pub counted: [u32; 2],
}

/// A system call that changes mappings, at its return.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Call {
    /// Time of the return, and the thread.
    pub head: Header,
    /// Its number, see [`crate::syscall`].
    pub number: u32,
    /// Not used.
    pub pad: u32,
    /// Its arguments; for brk the second is the end of the heap before the call.
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

/// A task's name changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rename {
    /// Time and thread.
    pub head: Header,
    /// The new name, nul-terminated.
    pub comm: [u8; 16],
}

/// A thread leaves its CPU in the middle of a fault that began at `ts`: the [`Fault`] will come later than what
/// happens meanwhile, and a reader that wants time order must wait for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Held {
    /// The fault's time and thread.
    pub head: Header,
}

/// The beginning of the hooks' state of a thread: what user space reads of those that still live at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Known {
    /// As of the thread's last record.
    pub tally: Tally,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
}

/// Words of that state as a whole.
pub const THREAD_WORDS: usize = 55;
