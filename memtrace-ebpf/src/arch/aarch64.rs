//! arm64, with pages of 4 KiB.

use super::error_code;

/// Its name.
pub const NAME: &str = "arm64";

// Page-table entries: `arch/arm64/include/asm/pgtable-hwdef.h` and `pgtable-prot.h`.

/// The frame in an entry for a page of 4 KiB. Physical addresses of 52 bits have their upper two elsewhere: no machine's memory
/// begins beyond a pebibyte.
pub const FRAME: u64 = 0x0003_ffff_ffff_f000;
/// In an entry above the lowest level: it leads to a table. A page's entry has the bit, too.
const TABLE: u32 = 1;
/// Writes fault (AP[2]): with `WRITE`, until the page is marked as dirty, by the processor if it can (DBM).
const READ_ONLY: u32 = 7;
/// The entry is of one address space (nG): each for user mode is; and what stands for a page without access, as it is no
/// swap entry then (`PTE_PRESENT_INVALID`, 6.11 and later).
const NOT_GLOBAL: u32 = 11;
const WRITE: u32 = 51;
/// No execution in the kernel, none in user mode.
const NO_EXECUTE: u32 = 53;
/// Dirty, as the kernel notes it itself.
const DIRTY: u32 = 55;
/// Write-protected by userfaultfd (`PTE_UFFD_WP`, 6.10 and later).
const UFFD_WP: u32 = 58;
/// A swap entry's type is from this bit on (`__SWP_TYPE_SHIFT`, 6.11 and later).
const SWAP_TYPE: u32 = 6;

/// The bits of an entry that [`present`], [`writable`] and [`dirty`] look at.
pub const RIGHTS: u64 = 1 | 1 << READ_ONLY | 1 << WRITE | 1 << DIRTY;
/// The page has no `struct page`, or is the zero page (`PTE_SPECIAL`).
pub const SPECIAL: u64 = 1 << 56;

/// 1 if the processor can use the entry: it maps a page, or leads to a table.
#[inline(always)]
pub const fn present(entry: u64) -> u64 {
    entry & 1
}

/// 1 if writes to the page of a present entry are allowed (`pte_write`). The first may fault all the same, where the processor
/// doesn't mark pages as dirty itself.
#[inline(always)]
pub const fn writable(entry: u64) -> u64 {
    entry >> WRITE & 1
}

/// 1 if a present page is write-protected by userfaultfd.
#[inline(always)]
pub const fn uffd_wp(entry: u64) -> u64 {
    entry >> UFFD_WP & 1
}

/// 1 if the page was written since it was mapped or last cleaned (`pte_dirty`).
#[inline(always)]
pub const fn dirty(entry: u64) -> u64 {
    (entry >> DIRTY | entry >> WRITE & !(entry >> READ_ONLY)) & 1
}

/// 1 if the page is there, but every access to it faults: `PAGE_NONE`. Before 6.11 that had a bit of its own, 58, and a swap
/// entry could have `NOT_GLOBAL`; but no swap file is so large that its entry has `NO_EXECUTE`.
#[inline(always)]
pub const fn prot_none(entry: u64) -> u64 {
    !entry & entry >> NOT_GLOBAL & entry >> NO_EXECUTE & entry >> (NO_EXECUTE + 1) & 1
}

/// 1 if a present entry above the lowest level maps a page itself.
#[inline(always)]
pub const fn huge(entry: u64) -> u64 {
    !(entry >> TABLE) & 1
}

/// The physical address of a page that is there and not present.
#[inline(always)]
pub const fn hidden_frame(entry: u64) -> u64 {
    entry & FRAME
}

/// What kind of swap entry an entry is that is neither empty nor has a page.
#[inline(always)]
pub const fn swap_type(entry: u64) -> u64 {
    entry >> SWAP_TYPE & 0x1f
}

/// How many levels a task's page tables may have: for addresses of 39, 48 or 52 bits.
pub const LEVELS: [u64; 3] = [3, 4, 5];

/// Physical address 0 is at a multiple of this in the linear map (`ARM64_MEMSTART_ALIGN` in `arch/arm64/mm/init.c`).
pub const DIRECT_MAP_ALIGNMENT: u64 = 1 << 30;

/// Whether an address is the kernel's: a user's may have a tag in its upper byte.
#[inline(always)]
pub const fn is_kernel(address: u64) -> bool {
    address >> 55 & 1 != 0
}

/// The page of some old calls: there is none.
pub const VSYSCALL: Option<u64> = None;

/// The tracepoints of page faults: there are none.
pub const FAULT_TRACEPOINTS: &[&str] = &[];

// Registers: members of `struct pt_regs` (`arch/arm64/include/asm/ptrace.h`).

/// Instruction pointer.
pub const REGS_IP: &str = "pc";
/// The number of the system call; -1 outside of any: 32 bits of it.
pub const REGS_CALL: &str = "syscallno";
/// Arguments of a system call: x0 to x5.
pub const REGS_ARGS: [&str; 6] = ["regs", "regs+8", "regs+16", "regs+24", "regs+32", "regs+40"];

/// Which of the words that a perf event's context begins with tells the mode: `pstate`.
pub const MODE_WORD: usize = 33;

/// Whether that word is user mode's (`PSR_MODE_EL0t`).
#[inline(always)]
pub const fn is_user_mode(pstate: u64) -> bool {
    matches!(pstate & 0xf, 0)
}

/// Whether a child, too, comes by the tracepoint at the end of the system call that has made it: `ret_from_fork` in
/// `arch/arm64/kernel/entry.S` passes it by.
pub const CHILD_LEAVES_CALL: bool = false;

/// Whether all see what a CPU writes to memory in the order of its writes.
pub const STORES_IN_ORDER: bool = false;

// Threads: members of `struct task_struct`, and bits (`arch/arm64/include/asm/thread_info.h`).

/// How memory was accessed in the last fault that became a signal: `ESR_EL1` (`set_thread_esr` in `arch/arm64/mm/fault.c`).
pub const FAULT_CODE: &str = "thread.fault_code";
/// The syndrome's bits from here on are the exception's class.
const CLASS: u32 = 26;
/// The class of an instruction fetch in user mode (`ESR_ELx_EC_IABT_LOW`).
const FETCH: u64 = 0x20;
/// The access was a write (`ESR_ELx_WNR`); with `CACHE` (`ESR_ELx_CM`) it was none, but says so.
const WROTE: u32 = 6;
const CACHE: u32 = 8;

/// What that says, as bits of [`error_code`]: but for whether the page was there.
#[inline(always)]
pub const fn access(syndrome: u64) -> u8 {
    let fetch = (syndrome >> CLASS & 0x3f == FETCH) as u8;
    let write = (syndrome >> WROTE & !(syndrome >> CACHE) & 1) as u8 & !fetch;
    error_code::USER | (fetch * error_code::FETCH) | (write * error_code::WRITE)
}

/// Thread pointer of a task that doesn't run.
pub const THREAD_POINTER: &str = "thread.uw.tp_value";
/// Where it says that a system call is a 32-bit one.
pub const COMPAT_FLAGS: &str = "thread_info.flags";
/// `_TIF_32BIT`
pub const COMPAT: u32 = 1 << 22;
/// What the kernel calls the interface of those calls.
pub const COMPAT_ABI: &str = "arm";
/// Their arguments: r0 to r5, where a 64-bit call has its own.
pub const COMPAT_ARGS: [&str; 6] = REGS_ARGS;
/// mmap by a structure in memory: there is none, and none has this number.
pub const COMPAT_OLD_MMAP: u32 = 0xfffe;
/// mmap by an offset in pages of 4 KiB.
pub const COMPAT_MMAP2: u32 = 192;
/// All of System V IPC in one call: there is none, either.
pub const COMPAT_IPC: u32 = 0xffff;
/// Numbers of theirs (`arch/arm/tools/syscall.tbl`), and the call that each is.
pub const COMPAT_CALLS: &[(u32, u32)] = &[
    (220, syscall::MADVISE),
    (253, syscall::REMAP_FILE_PAGES),
    (305, syscall::SHMAT),
    (306, syscall::SHMDT),
    (337, syscall::UNSHARE),
    (375, syscall::SETNS),
    (387, syscall::EXECVEAT),
    (390, syscall::MLOCK2),
    (394, syscall::PKEY_MPROTECT),
];
/// `_TIF_NEED_RESCHED`
pub const RESCHEDULES: u64 = 1 << 1;

/// The numbers of system calls (`include/uapi/asm-generic/unistd.h`).
#[allow(missing_docs, reason = "each is the system call of its name")]
pub mod syscall {
    /// arm64 has none: a number that none has. So for [`VFORK`].
    pub const FORK: u32 = u32::MAX - 2;
    pub const VFORK: u32 = u32::MAX - 3;
    pub const CAPSET: u32 = 91;
    pub const UNSHARE: u32 = 97;
    pub const SETREGID: u32 = 143;
    pub const SETGID: u32 = 144;
    pub const SETREUID: u32 = 145;
    pub const SETUID: u32 = 146;
    pub const SETRESUID: u32 = 147;
    pub const SETRESGID: u32 = 149;
    pub const SETFSUID: u32 = 151;
    pub const SETFSGID: u32 = 152;
    pub const SETGROUPS: u32 = 159;
    pub const GETPID: u32 = 172;
    pub const SHMAT: u32 = 196;
    pub const SHMDT: u32 = 197;
    pub const BRK: u32 = 214;
    pub const MUNMAP: u32 = 215;
    pub const MREMAP: u32 = 216;
    pub const CLONE: u32 = 220;
    pub const EXECVE: u32 = 221;
    pub const MMAP: u32 = 222;
    pub const MPROTECT: u32 = 226;
    pub const MLOCK: u32 = 228;
    pub const MUNLOCK: u32 = 229;
    pub const MLOCKALL: u32 = 230;
    pub const MUNLOCKALL: u32 = 231;
    pub const MADVISE: u32 = 233;
    pub const REMAP_FILE_PAGES: u32 = 234;
    pub const SETNS: u32 = 268;
    pub const EXECVEAT: u32 = 281;
    pub const MLOCK2: u32 = 284;
    pub const PKEY_MPROTECT: u32 = 288;
    pub const CLONE3: u32 = 435;
    pub const PROCESS_MADVISE: u32 = 440;
    pub const MSEAL: u32 = 462;
}

/// Entries to test with.
#[cfg(test)]
pub mod sample {
    /// `_PAGE_READONLY`, without what is noise.
    pub const READ_ONLY: u64 = 0b11 | 1 << super::READ_ONLY | 1 << super::NOT_GLOBAL;
    /// May be written, and is not dirty yet.
    pub const WRITABLE: u64 = READ_ONLY | 1 << super::WRITE;
    /// What a write adds.
    pub const DIRTY: u64 = 1 << super::DIRTY;
    /// What userfaultfd adds to protect it.
    pub const UFFD_WP: u64 = 1 << super::UFFD_WP;
    /// Dirty, and write-protected since.
    pub const SAVED_DIRTY: u64 = DIRTY;
    /// Bits that say nothing of what memtrace looks at: user, shareable, accessed, one of the kernel's own, no execution, a
    /// contiguous range.
    pub const NOISE: u64 = 1 << 6 | 3 << 8 | 1 << 10 | 1 << 56 | 3 << super::NO_EXECUTE | 1 << 52;
    /// The same of a huge page.
    pub const HUGE_NOISE: u64 = NOISE;
    /// A table, in an entry above the lowest level.
    pub const TABLE: u64 = 0b11;

    /// The entry of a larger page with the rights of a page's.
    pub const fn huge(page: u64) -> u64 {
        page & !(1 << super::TABLE)
    }

    /// A page without access, of the frame at this physical address.
    pub const fn prot_none(frame: u64) -> u64 {
        frame | READ_ONLY & !1 | 3 << super::NO_EXECUTE
    }

    /// A page in the swap file of this number.
    pub const fn swapped(file: u64) -> u64 {
        0x1234 << 12 | file << super::SWAP_TYPE | 1 << 2
    }
}
