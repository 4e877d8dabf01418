//! Names of flags, as the manual pages spell them.

use std::sync::Arc;

use memtrace_ebpf::compat;
#[cfg(target_arch = "aarch64")]
use syscalls::arm::Sysno as Compat;
#[cfg(target_arch = "x86_64")]
use syscalls::x86::Sysno as Compat;

/// `CLONE_*` flags (`include/uapi/linux/sched.h`).
#[allow(missing_docs, reason = "each is the kernel's flag of its name")]
pub mod flag {
    pub const NEWTIME: u64 = 0x80;
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const VFORK: u64 = 0x4000;
    pub const PARENT: u64 = 0x8000;
    pub const THREAD: u64 = 0x1_0000;
    pub const NEWNS: u64 = 0x2_0000;
    pub const SYSVSEM: u64 = 0x4_0000;
    pub const NEWCGROUP: u64 = 0x200_0000;
    pub const NEWUTS: u64 = 0x400_0000;
    pub const NEWIPC: u64 = 0x800_0000;
    pub const NEWUSER: u64 = 0x1000_0000;
    pub const NEWPID: u64 = 0x2000_0000;
    pub const NEWNET: u64 = 0x4000_0000;
    pub const IO: u64 = 0x8000_0000;
    pub const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    /// Those that make another nsproxy (`CLONE_NS_ALL` less the users').
    pub const ANY_NS: u64 = NEWTIME | NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWPID | NEWNET;
}

/// A flag's bits and its name.
type Flag = (u64, &'static str);

const CLONE: &[Flag] = &[
    (flag::NEWTIME, "CLONE_NEWTIME"),
    (flag::VM, "CLONE_VM"),
    (flag::FS, "CLONE_FS"),
    (flag::FILES, "CLONE_FILES"),
    (flag::SIGHAND, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"),
    (0x2000, "CLONE_PTRACE"),
    (flag::VFORK, "CLONE_VFORK"),
    (flag::PARENT, "CLONE_PARENT"),
    (flag::THREAD, "CLONE_THREAD"),
    (flag::NEWNS, "CLONE_NEWNS"),
    (flag::SYSVSEM, "CLONE_SYSVSEM"),
    (0x8_0000, "CLONE_SETTLS"),
    (0x10_0000, "CLONE_PARENT_SETTID"),
    (0x20_0000, "CLONE_CHILD_CLEARTID"),
    (0x40_0000, "CLONE_DETACHED"),
    (0x80_0000, "CLONE_UNTRACED"),
    (0x100_0000, "CLONE_CHILD_SETTID"),
    (flag::NEWCGROUP, "CLONE_NEWCGROUP"),
    (flag::NEWUTS, "CLONE_NEWUTS"),
    (flag::NEWIPC, "CLONE_NEWIPC"),
    (flag::NEWUSER, "CLONE_NEWUSER"),
    (flag::NEWPID, "CLONE_NEWPID"),
    (flag::NEWNET, "CLONE_NEWNET"),
    (flag::IO, "CLONE_IO"),
    (flag::CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"),
    (0x2_0000_0000, "CLONE_INTO_CGROUP"),
];

const PROT: &[Flag] = &[
    (1, "PROT_READ"),
    (2, "PROT_WRITE"),
    (4, "PROT_EXEC"),
    (8, "PROT_SEM"),
    (0x0100_0000, "PROT_GROWSDOWN"),
    (0x0200_0000, "PROT_GROWSUP"),
];

const MAP: &[Flag] = &[
    (0x10, "MAP_FIXED"),
    (0x20, "MAP_ANONYMOUS"),
    (0x40, "MAP_32BIT"),
    (0x100, "MAP_GROWSDOWN"),
    (0x800, "MAP_DENYWRITE"),
    (0x1000, "MAP_EXECUTABLE"),
    (0x2000, "MAP_LOCKED"),
    (0x4000, "MAP_NORESERVE"),
    (0x8000, "MAP_POPULATE"),
    (0x1_0000, "MAP_NONBLOCK"),
    (0x2_0000, "MAP_STACK"),
    (0x4_0000, "MAP_HUGETLB"),
    (0x8_0000, "MAP_SYNC"),
    (0x10_0000, "MAP_FIXED_NOREPLACE"),
];

/// The low four bits of mmap's flags are a number.
const MAP_TYPE: u64 = 0xf;

const MREMAP: &[Flag] = &[
    (1, "MREMAP_MAYMOVE"),
    (2, "MREMAP_FIXED"),
    (4, "MREMAP_DONTUNMAP"),
];

const MADVISE: &[Flag] = &[
    (0, "MADV_NORMAL"),
    (1, "MADV_RANDOM"),
    (2, "MADV_SEQUENTIAL"),
    (3, "MADV_WILLNEED"),
    (4, "MADV_DONTNEED"),
    (8, "MADV_FREE"),
    (9, "MADV_REMOVE"),
    (10, "MADV_DONTFORK"),
    (11, "MADV_DOFORK"),
    (12, "MADV_MERGEABLE"),
    (13, "MADV_UNMERGEABLE"),
    (14, "MADV_HUGEPAGE"),
    (15, "MADV_NOHUGEPAGE"),
    (16, "MADV_DONTDUMP"),
    (17, "MADV_DODUMP"),
    (18, "MADV_WIPEONFORK"),
    (19, "MADV_KEEPONFORK"),
    (20, "MADV_COLD"),
    (21, "MADV_PAGEOUT"),
    (22, "MADV_POPULATE_READ"),
    (23, "MADV_POPULATE_WRITE"),
    (24, "MADV_DONTNEED_LOCKED"),
    (25, "MADV_COLLAPSE"),
    (100, "MADV_HWPOISON"),
    (101, "MADV_SOFT_OFFLINE"),
    (102, "MADV_GUARD_INSTALL"),
    (103, "MADV_GUARD_REMOVE"),
];

const MLOCK: &[Flag] = &[(1, "MLOCK_ONFAULT")];

const MLOCKALL: &[Flag] = &[(1, "MCL_CURRENT"), (2, "MCL_FUTURE"), (4, "MCL_ONFAULT")];

const SHM: &[Flag] = &[
    (0o10000, "SHM_RDONLY"),
    (0o20000, "SHM_RND"),
    (0o40000, "SHM_REMAP"),
    (0o100_000, "SHM_EXEC"),
];

/// The names of the set bits; those without a name as one number.
fn bits(value: u64, table: &[Flag]) -> Vec<Arc<str>> {
    let mut rest = value;
    let mut names: Vec<Arc<str>> = Vec::new();
    for (bit, name) in table {
        if value & bit == *bit {
            rest &= !bit;
            names.push((*name).into());
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}").into());
    }
    names
}

/// `CLONE_*`
pub fn clone(flags: u64) -> Vec<Arc<str>> {
    bits(flags, CLONE)
}

/// `PROT_*`
pub fn prot(prot: u64) -> Vec<Arc<str>> {
    bits(prot, PROT)
}

/// `MAP_*`
pub fn map(flags: u64) -> Vec<Arc<str>> {
    let kind: Arc<str> = match flags & MAP_TYPE {
        1 => "MAP_SHARED".into(),
        2 => "MAP_PRIVATE".into(),
        3 => "MAP_SHARED_VALIDATE".into(),
        other => format!("{other:#x}").into(),
    };
    let mut names = vec![kind];
    names.extend(bits(flags & !MAP_TYPE, MAP));
    names
}

/// `MAP_*` of `remap_file_pages`, which takes no kind of mapping.
pub fn remap_file_pages(flags: u64) -> Vec<Arc<str>> {
    bits(flags, MAP)
}

/// `SHM_*`
pub fn shmat(flags: u64) -> Vec<Arc<str>> {
    bits(flags, SHM)
}

/// `MLOCK_*`
pub fn mlock(flags: u64) -> Vec<Arc<str>> {
    bits(flags, MLOCK)
}

/// `MCL_*`
pub fn mlockall(flags: u64) -> Vec<Arc<str>> {
    bits(flags, MLOCKALL)
}

/// `MREMAP_*`
pub fn mremap(flags: u64) -> Vec<Arc<str>> {
    bits(flags, MREMAP)
}

/// `MADV_*`
pub fn madvise(advice: u64) -> Arc<str> {
    MADVISE
        .iter()
        .find(|(number, _)| *number == advice)
        .map_or_else(|| format!("{advice}").into(), |(_, name)| (*name).into())
}

/// A system call's name; `kernel` outside of any.
pub fn call(number: u32) -> &'static str {
    if number == memtrace_ebpf::syscall::NONE {
        return super::event::NO_CALL;
    }
    let name = match compat::foreign(number) {
        Some(own) => Compat::new(own as usize).map(|call| call.name()),
        None => syscalls::Sysno::new(number as usize).map(|call| call.name()),
    };
    name.unwrap_or("unknown call")
}

/// A scheduling policy's name (`include/uapi/linux/sched.h`).
pub fn policy(number: u32) -> &'static str {
    match number {
        0 => "SCHED_OTHER",
        1 => "SCHED_FIFO",
        2 => "SCHED_RR",
        3 => "SCHED_BATCH",
        5 => "SCHED_IDLE",
        6 => "SCHED_DEADLINE",
        7 => "SCHED_EXT",
        _ => "unknown policy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_their_names_and_the_rest_a_number() {
        assert_eq!(
            clone(0x0100_0000 | 0x20_0000 | 0x100),
            [
                "CLONE_VM".into(),
                "CLONE_CHILD_CLEARTID".into(),
                "CLONE_CHILD_SETTID".into(),
            ]
            .map(|name: Arc<str>| name)
        );
        assert_eq!(*map(0x22)[1], *"MAP_ANONYMOUS");
        assert_eq!(*map(0x4000_0002)[1], *"0x40000000");
        assert_eq!(*madvise(4), *"MADV_DONTNEED");
        assert_eq!(*madvise(77), *"77");
        assert_eq!(call(memtrace_ebpf::syscall::EXECVE), "execve");
        assert_eq!(call(compat::FOREIGN + 12), "chdir", "a 32-bit call");
        assert!(prot(0).is_empty());
    }
}
