//! `process_madvise`: whose memory it is about, and each range that was advised on.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, macros::map, maps::PerCpuArray};
use memtrace_ebpf::{
    record::{Call, Kind},
    syscall,
};

use crate::hooks::{
    kernel::{Object, offset, read_member},
    ring, thread,
    verifier::{self, launder_ptr, repeat_often},
};

/// Ranges of one call at the most (`UIO_MAXIOV`).
const RANGES: u32 = 1024;
/// `PIDFD_SELF_THREAD`, and from there down `PIDFD_SELF_THREAD_GROUP` (`include/uapi/linux/pidfd.h`).
const SELF_THREAD: i32 = -10000;
const SELF_GROUP: i32 = -10001;
/// `PID_FS_MAGIC` (`include/uapi/linux/magic.h`)
const PIDFS: u64 = 0x5049_4446;

/// The call that is told of.
#[repr(C)]
struct Advice {
    record: Call,
    /// The next `struct iovec`, how many there are, and the bytes that have been advised on from there on.
    next: u64,
    ranges: u64,
    bytes: u64,
    compat: u64,
}

#[map]
static ADVICE: PerCpuArray<Advice> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn advice() -> Option<&'static mut Advice> {
    verifier::scratch(&ADVICE)
}

/// Sends a record for each range of the current thread's call that was advised on; where it failed, of its first.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_ranges(ret: i64, ts: u64) -> u32 {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return 0;
    };
    let Some(advice) = advice() else { return 0 };
    let [pidfd, ranges, count, what, ..] = thread.args;
    let files = launder_ptr(task.follow(offset!(task_files)), &mut thread.launder_ptr);
    let target = match pidfd as i32 {
        SELF_THREAD | SELF_GROUP => thread.known.pid,
        pidfd => process(files, pidfd),
    };
    advice.record = Call {
        head: thread.call_head(Kind::Call, ts),
        number: syscall::PROCESS_MADVISE,
        pad: 0,
        args: [0, 0, what, u64::from(target), 0, 0],
        ret: if ret < 0 { ret } else { 0 },
    };
    advice.next = ranges;
    advice.ranges = count;
    advice.bytes = if ret < 0 { 1 } else { ret as u64 };
    advice.compat = u64::from(thread.compat);
    repeat_often!(RANGES, next_range);
    0
}

/// Sends a record of the next range. 1 ends it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn next_range() -> u32 {
    let Some(advice) = advice() else { return 1 };
    if advice.ranges == 0 || advice.bytes == 0 {
        return 1;
    }
    let Some((start, len)) = range(advice.next, advice.compat != 0) else {
        ring::lose(Kind::Call as u32);
        return 1;
    };
    advice.record.args[0] = start;
    advice.record.args[1] = len;
    ring::send(Kind::Call, advice.record);
    advice.next += if advice.compat != 0 { 8 } else { 16 };
    advice.ranges -= 1;
    // Whole ranges are counted; of one that fails nobody tells how far it came.
    advice.bytes = advice.bytes.saturating_sub(len);
    u32::from(advice.record.ret < 0)
}

/// A `struct iovec` of the current task's memory, or `struct compat_iovec`: not where the advice has dropped it.
#[inline(always)]
fn range(address: u64, compat: bool) -> Option<(u64, u64)> {
    let mut words = [0_u64; 2];
    let len = if compat { 8 } else { 16 };
    // SAFETY: the helper checks the address.
    let failed = unsafe { bpf_probe_read_user((&raw mut words).cast(), len, address as *const _) };
    (failed == 0).then_some(if compat {
        (words[0] & 0xffff_ffff, words[0] >> 32)
    } else {
        (words[0], words[1])
    })
}

/// The id, in the initial pid namespace, of the process or thread that a pidfd stands for; 0 where that can't be read.
/// `files` is the table of open files (`pidfd_pid` in `fs/pidfs.c`, before 6.9 in `kernel/fork.c`).
#[inline(always)]
fn process(files: u64, pidfd: i32) -> u32 {
    let table: u64 = read_member(files, offset!(files_table));
    if pidfd < 0 || pidfd as u32 >= read_member::<u32>(table, offset!(table_size)) {
        return 0;
    }
    let open: u64 = read_member(table, offset!(table_files));
    let file: u64 = read_member(open + pidfd as u64 * 8, 0);
    let inode: u64 = read_member(file, offset!(file_inode));
    let sb: u64 = read_member(inode, offset!(inode_sb));
    let pid: u64 = if read_member::<u64>(sb, offset!(sb_magic)) == PIDFS {
        read_member(inode, offset!(inode_private))
    } else {
        read_member(file, offset!(file_private))
    };
    // The first number is that of the initial namespace.
    read_member(pid, offset!(pid_numbers))
}
