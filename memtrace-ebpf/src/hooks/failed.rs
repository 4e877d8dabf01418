//! Calls that were to make a task or to run a program, and failed.

use core::hint::black_box;

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str},
    macros::map,
    maps::PerCpuArray,
};
use memtrace_ebpf::{
    record::{FAILED_BYTES, FAILED_FATALLY, Failed, Kind},
    syscall,
};

use crate::hooks::{
    file,
    kernel::{Object, offset, read_member},
    ring,
    thread::{self, EXEC_MM},
    verifier,
};

/// A signal came first, and the call will be made again (`ERESTARTSYS` to `ERESTART_RESTARTBLOCK` in
/// `include/linux/errno.h`): `copy_process` gives up so. User mode never sees these.
const RESTARTS: core::ops::RangeInclusive<i64> = -516..=-512;

#[repr(C)]
struct Scratch {
    record: Failed,
    name: [u8; FAILED_BYTES],
}

#[map]
static FAILED: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Tells of the current thread's call, which returns this errno.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_failed(ret: i64, ts: u64) -> u32 {
    if RESTARTS.contains(&ret) {
        return 0;
    }
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return 0;
    };
    let Some(scratch) = verifier::scratch(&FAILED) else {
        return 0;
    };
    let record = &mut scratch.record;
    record.head = thread.call_head(Kind::Failed, ts);
    record.call = thread.call;
    record.ret = ret;
    record.dirfd = 0;
    record.flags = 0;
    record.path = 0;
    let mut name = 0;
    if thread.call == syscall::CLONE {
        record.flags = thread.args[0];
    } else if thread.call == syscall::CLONE3 {
        record.flags = first_word(thread.args[0]);
    } else if thread.call == syscall::EXECVEAT {
        record.dirfd = thread.args[0] as i32;
        name = thread.args[1];
    } else if thread.call == syscall::EXECVE {
        name = thread.args[0];
    }
    let mm = task.follow(offset!(task_mm));
    if syscall::execs(thread.call) && mm.address() != thread.args[EXEC_MM] {
        // What the name was read from is gone with the old address space; the new one has the file already
        // (`begin_new_exec` in `fs/exec.c`).
        name = 0;
        record.head.flags |= FAILED_FATALLY;
        let exe: u64 = read_member(mm.address(), offset!(mm_exe_file));
        let fs: u64 = read_member(task.address(), offset!(task_fs));
        record.path = file::tell(exe, fs, thread.known.tid);
    }
    let mut len = 0;
    if name != 0 {
        scratch.name[0] = 0;
        // SAFETY: the helper checks the address.
        let read = unsafe {
            bpf_probe_read_user_str(
                scratch.name.as_mut_ptr().cast(),
                FAILED_BYTES as u32,
                name as *const _,
            )
        };
        // An empty string has no length in 6.12 and before (strncpy_from_user_nofault in mm/maccess.c), else that of its end.
        len = black_box(read as u64 + u64::from(read == 0)) & (FAILED_BYTES as u64 * 2 - 1);
        if read < 0 || len > FAILED_BYTES as u64 {
            len = 0;
        }
    }
    record.name_len = len as u32;
    let start: *mut Scratch = scratch;
    ring::send_bytes(Kind::Failed, start.cast(), size_of::<Failed>() as u64 + len);
    0
}

/// The flags that a `struct clone_args` begins with.
#[inline(always)]
fn first_word(address: u64) -> u64 {
    let mut word = 0_u64;
    // SAFETY: the helper checks the address, and fills what it can't read with zeros.
    unsafe {
        bpf_probe_read_user((&raw mut word).cast(), 8, address as *const _);
    }
    word
}
