//! 32-bit calls on a 64-bit kernel, of 32-bit programs or by `int 0x80`: they have numbers of their own.
//!
//! The hooks look at those that they look at anyway, under the number of the 64-bit call that does the same.

use crate::{arch, syscall};

/// In the number of a 32-bit call that has none here but its own, which is the rest.
pub const FOREIGN: u32 = 0x2000_0000;
/// One beyond the highest number that is in the table.
pub const NUMBERS: usize = 512;
/// System V IPC as one call: of it shmat and shmdt are looked at.
pub const IPC: u32 = FOREIGN | arch::COMPAT_IPC;
/// mmap by a structure in memory, until that is read: then it is mmap.
pub const OLD_MMAP: u32 = FOREIGN | arch::COMPAT_OLD_MMAP;

/// Those that i386 and arm number alike (`arch/x86/entry/syscalls/syscall_32.tbl`, `arch/arm/tools/syscall.tbl`).
const ALIKE: [(u32, u32); 34] = [
    (2, syscall::FORK),
    (11, syscall::EXECVE),
    (23, syscall::SETUID),
    (45, syscall::BRK),
    (46, syscall::SETGID),
    (70, syscall::SETREUID),
    (71, syscall::SETREGID),
    (81, syscall::SETGROUPS),
    (91, syscall::MUNMAP),
    (120, syscall::CLONE),
    (125, syscall::MPROTECT),
    (138, syscall::SETFSUID),
    (139, syscall::SETFSGID),
    (150, syscall::MLOCK),
    (151, syscall::MUNLOCK),
    (152, syscall::MLOCKALL),
    (153, syscall::MUNLOCKALL),
    (163, syscall::MREMAP),
    (164, syscall::SETRESUID),
    (170, syscall::SETRESGID),
    (185, syscall::CAPSET),
    (190, syscall::VFORK),
    (arch::COMPAT_MMAP2, syscall::MMAP),
    (203, syscall::SETREUID),
    (204, syscall::SETREGID),
    (206, syscall::SETGROUPS),
    (208, syscall::SETRESUID),
    (210, syscall::SETRESGID),
    (213, syscall::SETUID),
    (214, syscall::SETGID),
    (215, syscall::SETFSUID),
    (216, syscall::SETFSGID),
    (440, syscall::PROCESS_MADVISE),
    (462, syscall::MSEAL),
];

/// What each number stands for here; 0 for none.
pub const TABLE: [u32; NUMBERS] = table();

const fn table() -> [u32; NUMBERS] {
    let mut table = [0; NUMBERS];
    let mut at = 0;
    while at < ALIKE.len() {
        table[ALIKE[at].0 as usize] = ALIKE[at].1;
        at += 1;
    }
    at = 0;
    while at < arch::COMPAT_CALLS.len() {
        table[arch::COMPAT_CALLS[at].0 as usize] = arch::COMPAT_CALLS[at].1;
        at += 1;
    }
    table[syscall::CLONE3 as usize] = syscall::CLONE3;
    table
}

/// The own number of a 32-bit call that has none else.
pub const fn foreign(number: u32) -> Option<u32> {
    if number & !0xffff == FOREIGN {
        Some(number & 0xffff)
    } else {
        None
    }
}

/// The result of a 32-bit call as that of a 64-bit one. arm64 has it as 32 bits, without a sign before 5.14 and with one since
/// (`syscall_get_return_value`), also where it is an address.
pub const fn result(ret: i64) -> i64 {
    const FIRST_ERROR: i64 = 0x1_0000_0000 - 4095;
    match ret {
        FIRST_ERROR..=0xffff_ffff => ret - 0x1_0000_0000,
        ..-4095 => ret as u32 as i64,
        _ => ret,
    }
}

/// Whether the call's arguments are looked at, be it a 32-bit one.
pub const fn has_arguments(number: u32) -> bool {
    // What a birth needs to know where the child's stack is, and a failed call what was wanted.
    matches!(number, syscall::CLONE | syscall::CLONE3 | IPC | OLD_MMAP)
        || syscall::execs(number)
        || syscall::changes_mappings(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_number_of_its_own_is_known_by_it() {
        assert_eq!(TABLE[45], syscall::BRK);
        assert_eq!(TABLE[arch::COMPAT_MMAP2 as usize], syscall::MMAP);
        // close and exit.
        assert_eq!((TABLE[6], TABLE[1]), (0, 0));
        assert_eq!(foreign(FOREIGN | 6), Some(6));
        assert_eq!(foreign(syscall::NONE), None);
        assert_eq!(foreign(syscall::VFORK), None);
    }

    #[test]
    fn an_address_in_the_upper_half_is_no_error() {
        assert_eq!(result(0xf7f0_0000), 0xf7f0_0000);
        // As arm64 has it (`syscall_get_return_value`).
        assert_eq!(result(-0x810_0000), 0xf7f0_0000);
        assert_eq!(result(-12), -12);
        assert_eq!(result(0xffff_fff4), -12);
        assert_eq!(result(-4095), -4095);
        assert_eq!(result(-4096), 0xffff_f000);
        // The heap of a 64-bit program.
        assert_eq!(result(0x5555_dead_b000), 0x5555_dead_b000);
        assert_eq!(result(0), 0);
    }
}
