//! What the hooks are asked to do, and what they answer: before a trace, and at an attach.

use bytemuck::{Pod, Zeroable};

use crate::arch;

/// What the hooks are asked to do. Fixed before the load.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// 1: follow the descendants, 0: the first process alone.
    pub follow: u32,
    /// 1: count by kind in the kernel, send no fault.
    pub summary: u32,
    /// The frame number of the zero page.
    pub zero_pfn: u32,
    /// 1: of each page that a write finds protected its frame is looked at; 0: only where it may be the page cache's or
    /// KSM's, as the accounts of forks need no more.
    pub read_frames: u32,
    /// 1: what only the lab asks for is sent, too: see [`crate::record::Kind::BirthDetail`] and those after it.
    pub detail: u32,
    /// 1: `handle_mm_fault` is hooked, so that each fault is a [`crate::record::Handled`].
    pub handled: u32,
    /// 1: the kernel's helpers give pointers whose type the verifier knows (`bpf_get_current_task_btf`, 5.11, and
    /// `bpf_task_pt_regs`, 5.15).
    pub typed: u32,
    /// The structure that an address is taken for to read a word there, by its number in the kernel's types; 0 where there is no
    /// [`CAST_FUNCTION`].
    pub word: u32,
    /// Slots of each CPU's log of faults, a power of two; 0 for none.
    pub log_slots: u32,
    /// 1: a file of hugetlbfs numbers its pages one by one, not by what each holds of 4 KiB (before 6.7).
    pub one_by_one: u32,
    /// The bits in `f_mode` of which one tells that the `struct file` is part of a `struct backing_file` (`FMODE_BACKING`
    /// in `include/linux/fs.h`).
    pub backing: u32,
    /// Bytes of the ring buffer that the records which come by the thousand may fill; the rest is kept for others.
    pub common: u32,
    /// The frames of two pages of this memtrace's own, which nobody else has: by them it finds the direct map, and is told
    /// from another memtrace that starts at the same moment.
    pub frames: [u64; 2],
    /// The frames of two pages of memory files of its own, each of one page: by them it finds the array of `struct page`.
    pub file_frames: [u64; 2],
}

/// What is found out after the load, before any trace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DirectMap {
    /// Kernel virtual address of physical address 0.
    pub base: u64,
    /// Levels of the page tables: one of [`arch::LEVELS`].
    pub levels: u64,
    /// memtrace's own process, whose next child is the program to trace: its id in the initial pid namespace, which in a
    /// container is another than the one that it knows.
    pub tracer: u64,
    /// Kernel virtual address of the `struct page` of frame 0 (`vmemmap`).
    pub vmemmap: u64,
    /// memtrace's own pid namespace, and its depth: 0 for the initial one.
    pub pid_ns: u64,
    /// Its depth.
    pub pid_level: u64,
    /// How far above the beginning of a task's kernel stack the registers are that it entered the kernel with.
    pub registers: u64,
    /// 1 once the trace is over: the hooks do nothing more, while they are being detached.
    pub stopped: u64,
    /// The first base that was not tried, as long as none is right: a call for which the hook was left out has tried none.
    pub untried: u64,
    /// Changes whenever tasks that run already have been taken under trace: what was known of untraced ones is void. In the
    /// upper 16 bits, which are the same in all addresses of the kernel's.
    pub adoptions: u64,
}

/// How far a CPU's log of faults is written and read: counts of records since it began. Each in a cache line of its own, as one
/// side writes it and the other reads.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct LogEnds {
    /// The hooks have written so many.
    pub written: u64,
    /// Nothing.
    pub pad: [u64; 7],
    /// User space has read so many.
    pub read: u64,
    /// Nothing.
    pub pad_2: [u64; 7],
}

/// The numbers of helpers that no kernel has: the loader makes calls of the kernel's functions [`PREEMPTION_FUNCTIONS`] of these, or
/// takes them out.
pub const PREEMPTION_CALLS: [u32; 4] = [0x6d74_0001, 0x6d74_0002, 0x6d74_0003, 0x6d74_0004];
/// What keeps a hook from being preempted, in the order of [`PREEMPTION_CALLS`].
pub const PREEMPTION_FUNCTIONS: [&str; 4] = [
    "bpf_preempt_disable",
    "bpf_local_irq_save",
    "bpf_preempt_enable",
    "bpf_local_irq_restore",
];

/// The same for a call of [`CAST_FUNCTION`].
pub const CAST_CALL: u32 = 0x6d74_0005;
/// What makes a pointer that may be loaded from of an address (6.2).
pub const CAST_FUNCTION: &str = "bpf_rdonly_cast";

/// The system call by which memtrace asks for a trial of direct-map bases: getpid(2), which does nothing else and
/// ignores its arguments. They are [`PROBE_MAGIC`] with the first page's frame in it (by XOR), the first base to try (in GiB below
/// `mm->pgd`), and the address of the two neighbouring pages whose frames the hooks were told.
pub const PROBE_CALL: u64 = arch::syscall::GETPID as u64;
/// What is in the first argument of the call.
pub const PROBE_MAGIC: u64 = 0x6d65_6d74_7261_6365;
/// First argument of the same call when it asks to take a process under trace: then come the process's id in memtrace's
/// pid namespace, and what to do ([`ADOPT_THREADS`], [`ADOPT_SURVEY`]).
pub const ADOPT_MAGIC: u64 = 0x6d65_6d74_6164_6f70;
/// Second argument of that call: trace all threads of the process from now on.
pub const ADOPT_THREADS: u64 = 0;
/// Second argument of that call: send what its address space is made of, as far as that is done in one go, from the address
/// on that is the third.
pub const ADOPT_SURVEY: u64 = 1;
/// What the hook did for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Adopted {
    /// The process's `task_struct`; 0 when there is no such process, [`UNANSWERED`] when the hook was left out.
    pub leader: u64,
    /// Threads that are traced from this call on.
    pub added: u64,
    /// Threads that could not be: there are too many.
    pub refused: u64,
    /// The address space that is surveyed; 0 when the process has none any more.
    pub mm: u64,
    /// From this address on it is not surveyed yet.
    pub next: u64,
    /// 1 when all of it is, and the records of that are written.
    pub complete: u64,
}

/// What memtrace writes in place of [`Adopted::leader`] before it calls.
pub const UNANSWERED: u64 = u64::MAX;

/// Bases that one call tries.
pub const PROBE_STEPS: u64 = 4;
