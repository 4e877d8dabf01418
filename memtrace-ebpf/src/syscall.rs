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
pub const UNSHARE: u32 = 272;
pub const SETNS: u32 = 308;
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
pub const PKEY_MPROTECT: u32 = 329;
pub const CLONE3: u32 = 435;

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
