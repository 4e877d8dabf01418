//! The system calls that memtrace decodes, by the numbers that the architecture gives them.

pub use crate::arch::syscall::*;

/// Stands for "not in a system call".
pub const NONE: u32 = u32::MAX;

/// Whether the call makes a task.
pub const fn makes_task(number: u32) -> bool {
    matches!(number, CLONE | CLONE3 | FORK | VFORK)
}

/// Whether the call can change which objects a task uses: it becomes a [`crate::record::Objects`].
pub const fn changes_objects(number: u32) -> bool {
    matches!(
        number,
        UNSHARE
            | SETNS
            | SETUID
            | SETGID
            | SETREUID
            | SETREGID
            | SETGROUPS
            | SETRESUID
            | SETRESGID
            | SETFSUID
            | SETFSGID
            | CAPSET
    )
}

/// Whether the call changes mappings: it becomes a [`crate::record::Call`].
pub const fn changes_mappings(number: u32) -> bool {
    matches!(
        number,
        MMAP | MPROTECT | MUNMAP | BRK | MREMAP | MADVISE | PKEY_MPROTECT
    )
}
