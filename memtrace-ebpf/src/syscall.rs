//! The system calls that memtrace decodes, by their x86-64 numbers (`arch/x86/entry/syscalls/syscall_64.tbl`).

#![allow(missing_docs, reason = "each is the system call of its name")]

pub const MMAP: u32 = 9;
pub const MPROTECT: u32 = 10;
pub const MUNMAP: u32 = 11;
pub const BRK: u32 = 12;
pub const MREMAP: u32 = 25;
pub const MADVISE: u32 = 28;
pub const CLONE: u32 = 56;
pub const FORK: u32 = 57;
pub const VFORK: u32 = 58;
pub const EXECVE: u32 = 59;
pub const EXECVEAT: u32 = 322;
pub const PKEY_MPROTECT: u32 = 329;
pub const CLONE3: u32 = 435;

/// Stands for "not in a system call".
pub const NONE: u32 = u32::MAX;

/// Whether the call changes mappings: it becomes a [`crate::record::Call`].
pub const fn changes_mappings(number: u32) -> bool {
    matches!(
        number,
        MMAP | MPROTECT | MUNMAP | BRK | MREMAP | MADVISE | PKEY_MPROTECT
    )
}
