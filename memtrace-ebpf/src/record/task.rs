//! Records of tasks: births, names, execs, ends, and the objects that they use.

use bytemuck::{Pod, Zeroable};

use super::Header;

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
    /// Bytes of the stack, where the call says how many; else 0.
    pub stack_size: u64,
    /// The system call that the parent is in, or [`crate::syscall::NONE`].
    pub call: u32,
    /// 1 when the child is traced.
    pub followed: u32,
    /// The child's ids as memtrace's pid namespace has them.
    pub child_ids: Ids,
    /// The thread whose child it is (`task_struct.real_parent`), as the initial pid namespace has it: the maker, but with
    /// `CLONE_PARENT` or `CLONE_THREAD` the maker's own parent.
    pub real_parent: u32,
    /// The process of that thread, as memtrace's pid namespace has it; 0 where it isn't in it.
    pub ppid: u32,
    /// With `CLONE_CLEAR_SIGHAND`: signals that the parent and the child handle.
    pub handled: [u32; 2],
    /// Bytes of the child's page tables, where it has its own.
    pub table_bytes: u64,
    /// Private pages of it that are in swap.
    pub swapped: u64,
    /// From this address on it was not surveyed; 0 when all of it was.
    pub unsurveyed: u64,
    /// Its anonymous pages, as the kernel counts them ([`crate::layout::Layout::mm_anonymous`]); 0 when it doesn't tell.
    pub anonymous: u64,
    /// When the call began that made it.
    pub began: u64,
    /// The parent's parts.
    pub parent: Parts,
    /// The child's parts.
    pub child: Parts,
    /// The parent's name, nul-terminated.
    pub comm: [u8; 16],
}

/// A clone returns to user mode: in the parent, or in the child, where [`RETURNED_IN_CHILD`] is set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Returned {
    /// Time, and the thread.
    pub head: Header,
    /// Nanoseconds from the end of the call: another task had the CPU first.
    pub waited: u64,
    /// In the parent: when the call began.
    pub began: u64,
    /// In the parent: nanoseconds that the hooks took of it.
    pub hooked: u64,
    /// In the parent: the child.
    pub child_tid: u32,
    /// The system call.
    pub call: u32,
    /// What it returns.
    pub ret: i64,
    /// For the lab: the instruction in user mode that it returns to; 0 otherwise.
    pub ip: u64,
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
pub struct ExistingTask {
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
    /// The identity of the program: of the file as it is mapped.
    pub exe: u64,
    /// The path of the file that is run, as the thread knows it: a [`super::Path`].
    pub path: u64,
    /// Where things are.
    pub bounds: Bounds,
    /// Faults of this thread before the exec that were not sent, as they are memtrace's own: minor.
    pub pre_exec_minor: u32,
    /// The same: major.
    pub pre_exec_major: u32,
    /// Bytes of the name.
    pub name_len: u32,
    /// Bytes of the arguments.
    pub args_len: u32,
}

/// In [`Header::flags`] of a [`Failed`]: an exec had left the old address space before it failed; no way led back.
pub const FAILED_FATALLY: u8 = 1 << 0;

/// Bytes of the name that are kept of an exec that fails.
pub const FAILED_BYTES: usize = 4096;

/// A call that makes a task or runs a program has failed. Followed by `name_len` bytes: for an exec the file as it was
/// named, with a zero byte after it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Failed {
    /// Time of the return, and the thread.
    pub head: Header,
    /// The call.
    pub call: u32,
    /// For execveat: the directory that the name begins in.
    pub dirfd: i32,
    /// For clone and clone3: `CLONE_*` flags; of clone's the low byte is the signal for the child's end.
    pub flags: u64,
    /// Where [`FAILED_FATALLY`] is set: the path of the file that was to run, a [`super::Path`]. Otherwise 0.
    pub path: u64,
    /// The negative errno.
    pub ret: i64,
    /// Bytes of the name.
    pub name_len: u32,
    /// Not used.
    pub pad: u32,
}

/// A thread begins to exit (`sched:sched_process_exit`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Exit {
    /// Time and thread.
    pub head: Header,
    /// Wait status, as `wait4(2)` gives it.
    pub status: u32,
    /// The thread of its process whose exec ended it, by its id until then; 0 for none.
    pub by_exec: u32,
}

/// A thread is gone: its last switch away from a CPU. Its counters are final.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Gone {
    /// Time and thread.
    pub head: Header,
    /// What it was.
    pub known: ThreadSummary,
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

/// A task's name changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rename {
    /// Time and thread.
    pub head: Header,
    /// The new name, nul-terminated.
    pub comm: [u8; 16],
}

/// The beginning of the hooks' state of a thread: what user space reads of those that still live at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ThreadSummary {
    /// As of the thread's last record.
    pub tally: Tally,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Both as memtrace's pid namespace has them.
    pub ids: Ids,
    /// Its name, nul-terminated.
    pub comm: [u8; 16],
}

/// Words of that state as a whole.
pub const THREAD_WORDS: usize = 71;

/// Threads that are traced at one time, at the most.
pub const MAX_THREADS: u32 = 16384;
