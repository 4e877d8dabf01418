//! x86-64.

use super::error_code;

use core::hint::black_box;

/// Its name.
pub const NAME: &str = "x86-64";

// Page-table entries: `arch/x86/include/asm/pgtable_types.h`.

/// The frame in an entry for a page of 4 KiB.
pub const FRAME: u64 = 0x000f_ffff_ffff_f000;
const WRITABLE: u32 = 1;
const DIRTY: u32 = 6;
/// In an entry above the lowest level: it maps a huge page itself.
const HUGE: u32 = 7;
/// In an entry that isn't present: its page is there, but no access is allowed (`PROT_NONE`, NUMA hinting).
const PROT_NONE: u32 = 8;
/// Write-protected by userfaultfd (`_PAGE_BIT_UFFD_WP`, 5.7 and later).
const UFFD_WP: u32 = 10;
/// Dirty, moved aside by write protection (`_PAGE_SAVED_DIRTY`, 6.6 and later).
const SAVED_DIRTY: u32 = 58;
/// A swap entry's type is from this bit on (`SWP_TYPE_BITS` in `arch/x86/include/asm/pgtable_64.h`).
const SWAP_TYPE: u32 = 59;

/// The bits of an entry that [`present`], [`writable`] and [`dirty`] look at.
pub const RIGHTS: u64 = 1 | 1 << WRITABLE | 1 << DIRTY | 1 << SAVED_DIRTY;
/// The page has no `struct page`, or is the zero page (`_PAGE_SPECIAL`).
pub const SPECIAL: u64 = 1 << 9;

/// 1 if the processor can use the entry: it maps a page, or leads to a table.
#[inline(always)]
pub const fn present(entry: u64) -> u64 {
    entry & 1
}

/// 1 if writes to the page of a present entry go through without the kernel.
#[inline(always)]
pub const fn writable(entry: u64) -> u64 {
    entry >> WRITABLE & 1
}

/// 1 if a present page is write-protected by userfaultfd.
#[inline(always)]
pub const fn uffd_wp(entry: u64) -> u64 {
    entry >> UFFD_WP & 1
}

/// 1 if the page was written since it was mapped or last cleaned.
#[inline(always)]
pub const fn dirty(entry: u64) -> u64 {
    (entry >> DIRTY | black_box(entry) >> SAVED_DIRTY) & 1
}

/// 1 if the page is there, but every access to it faults.
#[inline(always)]
pub const fn prot_none(entry: u64) -> u64 {
    !entry & black_box(entry) >> PROT_NONE & 1
}

/// 1 if a present entry above the lowest level maps a page itself.
#[inline(always)]
pub const fn huge(entry: u64) -> u64 {
    entry >> HUGE & 1
}

/// The physical address of a page that is there and not present: inverted, against L1TF (`pgtable-invert.h`).
#[inline(always)]
pub const fn hidden_frame(entry: u64) -> u64 {
    !entry & FRAME
}

/// What kind of swap entry an entry is that is neither empty nor has a page.
#[inline(always)]
pub const fn swap_type(entry: u64) -> u64 {
    entry >> SWAP_TYPE
}

/// How many levels a task's page tables may have: five with la57.
pub const LEVELS: [u64; 2] = [4, 5];

/// The direct map begins at a multiple of this (`kernel_randomize_memory` in `arch/x86/mm/kaslr.c`).
pub const DIRECT_MAP_ALIGNMENT: u64 = 1 << 30;

/// Whether an address is the kernel's.
#[inline(always)]
pub const fn is_kernel(address: u64) -> bool {
    address >> 63 != 0
}

/// The page of some old calls, which the kernel does when user mode jumps there (`emulate_vsyscall` in
/// `arch/x86/entry/vsyscall/vsyscall_64.c`).
pub const VSYSCALL: Option<u64> = Some(0xffff_ffff_ff60_0000);

/// The tracepoints of page faults (`arch/x86/include/asm/trace/exceptions.h`).
pub const FAULT_TRACEPOINTS: &[&str] = &["page_fault_user", "page_fault_kernel"];

// Registers: members of `struct pt_regs` (`arch/x86/include/asm/ptrace.h`).

/// Instruction pointer.
pub const REGS_IP: &str = "ip";
/// The number of the system call, or what else led into the kernel: 32 bits of it.
pub const REGS_CALL: &str = "orig_ax";
/// Arguments of a system call.
pub const REGS_ARGS: [&str; 6] = ["di", "si", "dx", "r10", "r8", "r9"];

/// Which of the words that a perf event's context begins with tells the mode: `cs`.
pub const MODE_WORD: usize = 17;

/// Whether that word is user mode's.
#[inline(always)]
pub const fn is_user_mode(cs: u64) -> bool {
    cs & 3 != 0
}

/// Whether a child, too, comes by the tracepoint at the end of the system call that has made it: `ret_from_fork` in
/// `arch/x86/kernel/process.c`.
pub const CHILD_LEAVES_CALL: bool = true;

/// Whether all see what a CPU writes to memory in the order of its writes (total store order: Intel's manual, volume 3, 8.2).
pub const STORES_IN_ORDER: bool = true;

// Threads: members of `struct task_struct`, and bits (`arch/x86/include/asm/thread_info.h`).

/// How memory was accessed in the last fault that became a signal.
pub const FAULT_CODE: &str = "thread.error_code";

/// What that says, as bits of [`error_code`].
#[inline(always)]
pub const fn access(error_code: u64) -> u8 {
    error_code as u8 & error_code::EXCEPTION
}

/// Thread pointer of a task that doesn't run.
pub const THREAD_POINTER: &str = "thread.fsbase";
/// Where it says that a system call is a 32-bit one.
pub const COMPAT_FLAGS: &str = "thread_info.status";
/// `TS_COMPAT`
pub const COMPAT: u32 = 2;
/// What the kernel calls the interface of those calls.
pub const COMPAT_ABI: &str = "i386";
/// Their arguments: members of `struct pt_regs`.
pub const COMPAT_ARGS: [&str; 6] = ["bx", "cx", "dx", "si", "di", "bp"];
/// mmap by a structure in memory.
pub const COMPAT_OLD_MMAP: u32 = 90;
/// mmap by an offset in pages of 4 KiB.
pub const COMPAT_MMAP2: u32 = 192;
/// All of System V IPC in one call.
pub const COMPAT_IPC: u32 = 117;
/// Numbers of theirs (`arch/x86/entry/syscalls/syscall_32.tbl`), and the call that each is.
pub const COMPAT_CALLS: &[(u32, u32)] = &[
    (219, syscall::MADVISE),
    (257, syscall::REMAP_FILE_PAGES),
    (310, syscall::UNSHARE),
    (346, syscall::SETNS),
    (358, syscall::EXECVEAT),
    (376, syscall::MLOCK2),
    (380, syscall::PKEY_MPROTECT),
    (397, syscall::SHMAT),
    (398, syscall::SHMDT),
];
/// `_TIF_NEED_RESCHED` and, from 6.13, `_TIF_NEED_RESCHED_LAZY`: bits 3 and 4, and from 6.18 (`thread_info_tif.h`) 4 and 5.
/// Other kernels have single steps and the like there: then the record waits for nothing, and does no harm.
pub const RESCHEDULES: u64 = 1 << 3 | 1 << 4 | 1 << 5;

/// The numbers of system calls (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[allow(missing_docs, reason = "each is the system call of its name")]
pub mod syscall {
    pub const MMAP: u32 = 9;
    pub const MPROTECT: u32 = 10;
    pub const MUNMAP: u32 = 11;
    pub const BRK: u32 = 12;
    pub const MREMAP: u32 = 25;
    pub const MADVISE: u32 = 28;
    pub const SHMAT: u32 = 30;
    pub const GETPID: u32 = 39;
    pub const CLONE: u32 = 56;
    pub const FORK: u32 = 57;
    pub const VFORK: u32 = 58;
    pub const EXECVE: u32 = 59;
    pub const SHMDT: u32 = 67;
    pub const SETUID: u32 = 105;
    pub const SETGID: u32 = 106;
    pub const SETREUID: u32 = 113;
    pub const SETREGID: u32 = 114;
    pub const SETGROUPS: u32 = 116;
    pub const SETRESUID: u32 = 117;
    pub const SETRESGID: u32 = 119;
    pub const SETFSUID: u32 = 122;
    pub const SETFSGID: u32 = 123;
    pub const CAPSET: u32 = 126;
    pub const MLOCK: u32 = 149;
    pub const MUNLOCK: u32 = 150;
    pub const MLOCKALL: u32 = 151;
    pub const MUNLOCKALL: u32 = 152;
    pub const REMAP_FILE_PAGES: u32 = 216;
    pub const UNSHARE: u32 = 272;
    pub const SETNS: u32 = 308;
    pub const EXECVEAT: u32 = 322;
    pub const MLOCK2: u32 = 325;
    pub const PKEY_MPROTECT: u32 = 329;
    pub const CLONE3: u32 = 435;
    pub const PROCESS_MADVISE: u32 = 440;
    pub const MSEAL: u32 = 462;
}

/// Entries to test with.
#[cfg(test)]
pub mod sample {
    /// A page that may be read.
    pub const READ_ONLY: u64 = 0b01;
    /// One that may be written.
    pub const WRITABLE: u64 = 0b11;
    /// What userfaultfd adds to protect it.
    pub const UFFD_WP: u64 = 1 << super::UFFD_WP;
    /// What a write adds.
    pub const DIRTY: u64 = 1 << super::DIRTY;
    /// Dirty, and write-protected since.
    pub const SAVED_DIRTY: u64 = 1 << super::SAVED_DIRTY;
    /// Bits that say nothing of what memtrace looks at: no-execute, two of the kernel's own, accessed, user.
    pub const NOISE: u64 = 1 << 63 | 1 << 57 | 1 << 9 | 1 << 5 | 1 << 2;
    /// The same of a huge page: its PAT bit is where a small page's frame begins.
    pub const HUGE_NOISE: u64 = NOISE | 1 << 12;
    /// A table, in an entry above the lowest level.
    pub const TABLE: u64 = WRITABLE | 1 << 2 | 1 << 5;

    /// The entry of a larger page with the rights of a page's.
    pub const fn huge(page: u64) -> u64 {
        page | 1 << super::HUGE
    }

    /// A page without access, of the frame at this physical address.
    pub const fn prot_none(frame: u64) -> u64 {
        !frame & super::FRAME | 1 << super::PROT_NONE
    }

    /// A page in the swap file of this number.
    pub const fn swapped(file: u64) -> u64 {
        file << super::SWAP_TYPE | 0x1234 << 9 | 1 << 1
    }
}
