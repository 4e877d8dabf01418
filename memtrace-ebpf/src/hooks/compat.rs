//! 32-bit calls: their numbers and arguments, as those of the 64-bit calls that do the same.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use memtrace_ebpf::{
    arch,
    compat::{FOREIGN, IPC, NUMBERS, OLD_MMAP, TABLE},
    record::Kind,
    syscall,
};

use crate::hooks::{
    kernel::{Object, offset},
    ring,
    thread::{self, Thread},
};

/// Of ipc(2), in the lower half of its first argument (`include/uapi/linux/ipc.h`). The upper one is a version: shmat's of
/// 1 is refused (`ksys_ipc` in `ipc/syscall.c`).
const IPC_SHMAT: u64 = 21;
const IPC_SHMDT: u64 = 22;
/// Bits of a page's offset.
const PAGE_SHIFT: u32 = 12;

#[unsafe(no_mangle)]
static COMPAT_TABLE: [u32; NUMBERS] = TABLE;

/// The number of the call that does the same. From a table: the verifier would follow each branch.
#[inline(always)]
pub(crate) fn number(own: u32) -> u32 {
    let mut known = 0;
    if (own as usize) < NUMBERS {
        let table = &raw const COMPAT_TABLE;
        // SAFETY: within the table. Volatile, so that it isn't made branches.
        known = unsafe { ptr::read_volatile(table.cast::<u32>().add(own as usize)) };
    }
    if known == 0 { FOREIGN | own } else { known }
}

/// Where a thread's state has the address at which shmat by ipc(2) leaves its own.
pub(crate) const ATTACHED: usize = 4;

/// Notes the arguments of the 32-bit call that the current thread begins. Its own number is `own`.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn compat_arguments(own: u32) -> u32 {
    let task = Object::current();
    let regs = task.registers();
    let mut args = [
        u64::from(regs.load::<u32>(offset!(compat_arg_0))),
        u64::from(regs.load::<u32>(offset!(compat_arg_1))),
        u64::from(regs.load::<u32>(offset!(compat_arg_2))),
        u64::from(regs.load::<u32>(offset!(compat_arg_3))),
        u64::from(regs.load::<u32>(offset!(compat_arg_4))),
        u64::from(regs.load::<u32>(offset!(compat_arg_5))),
    ];
    let Some(thread) = thread::find(task) else {
        return 0;
    };
    if thread.call == OLD_MMAP {
        thread.args[0] = args[0];
        read_block(thread);
        return 0;
    } else if own == arch::COMPAT_MMAP2 {
        args[5] <<= PAGE_SHIFT;
    } else if thread.call == IPC {
        let [what, first, second, third, address, _] = args;
        if what == IPC_SHMAT {
            thread.call = syscall::SHMAT;
            args = [first, address, second, 0, third, 0];
        } else if what & 0xffff == IPC_SHMDT {
            thread.call = syscall::SHMDT;
            args = [address, 0, 0, 0, 0, 0];
        }
    } else if thread.call == syscall::SHMAT {
        args[ATTACHED] = 0;
    }
    thread.args = args;
    0
}

/// Reads the structure that the arguments of an old mmap are in, of which the first argument tells: then it is mmap.
/// Not where its page isn't in memory.
#[inline(always)]
fn read_block(thread: &mut Thread) {
    let mut block = [0_u32; 6];
    // SAFETY: the helper checks the address.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut block).cast(), 24, thread.args[0] as *const _) };
    if failed == 0 {
        thread.args = block.map(u64::from);
        thread.call = syscall::MMAP;
    }
}

/// Reads that structure where it could not be read before the call, which returns `ret`: the kernel has brought its page into
/// memory to read it (`ia32_mmap` in `arch/x86/kernel/sys_ia32.c`). What can't be read, or isn't what the kernel has read, is lost.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn compat_late_block(ret: i64) -> u32 {
    let Some(thread) = thread::find(Object::current()) else {
        return 0;
    };
    let block = thread.args[0];
    read_block(thread);
    let len = thread.args[1];
    // No mapping has no bytes. And what was mapped over the structure is another.
    let other = !syscall::is_error(ret) && (len == 0 || block.wrapping_sub(ret as u64) < len);
    if thread.call == OLD_MMAP || other {
        thread.call = OLD_MMAP;
        ring::lose(Kind::Call as u32);
    }
    0
}
