//! The system calls that memtrace decodes, by the numbers that the architecture gives them.

pub use crate::arch::syscall::*;

/// Stands for "not in a system call".
pub const NONE: u32 = u32::MAX;

/// The highest errno.
const MAX_ERRNO: i64 = 4095;

/// Whether a call that gives an address or a number has failed (`IS_ERR_VALUE`).
#[inline(always)]
pub const fn is_error(ret: i64) -> bool {
    -MAX_ERRNO <= ret && ret < 0
}

/// Whether the call makes a task.
pub const fn makes_task(number: u32) -> bool {
    matches!(number, CLONE | CLONE3 | FORK | VFORK)
}

/// Whether the call runs another program.
pub const fn execs(number: u32) -> bool {
    matches!(number, EXECVE | EXECVEAT)
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

/// Whether the call changes mappings, or what is in them: it becomes a [`crate::record::Call`].
pub const fn changes_mappings(number: u32) -> bool {
    matches!(
        number,
        MMAP | MPROTECT
            | MUNMAP
            | BRK
            | MREMAP
            | MADVISE
            | PKEY_MPROTECT
            | PROCESS_MADVISE
            | SHMAT
            | SHMDT
            | REMAP_FILE_PAGES
            | MLOCK
            | MLOCK2
            | MUNLOCK
            | MLOCKALL
            | MUNLOCKALL
            | MSEAL
    )
}
