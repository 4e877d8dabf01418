//! Tasks made by the bare system calls, which take any flags.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;

use anyhow::{Result, ensure};
use nix::errno::Errno;

use super::{arch, memory::Pages};

/// Only clone3 takes it. libc's own constant is cut off at 32 bits.
pub const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;

/// What a new task does; it ends with the code that this gives. A task that shares its maker's memory must make
/// system calls only.
pub type Work<'a> = &'a dyn Fn() -> c_int;

const NAMES: [(u64, &str); 18] = [
    (bits(libc::CLONE_VM), "CLONE_VM"),
    (bits(libc::CLONE_FS), "CLONE_FS"),
    (bits(libc::CLONE_FILES), "CLONE_FILES"),
    (bits(libc::CLONE_SIGHAND), "CLONE_SIGHAND"),
    (bits(libc::CLONE_VFORK), "CLONE_VFORK"),
    (bits(libc::CLONE_THREAD), "CLONE_THREAD"),
    (bits(libc::CLONE_SYSVSEM), "CLONE_SYSVSEM"),
    (bits(libc::CLONE_IO), "CLONE_IO"),
    (bits(libc::CLONE_UNTRACED), "CLONE_UNTRACED"),
    (bits(libc::CLONE_NEWNS), "CLONE_NEWNS"),
    (bits(libc::CLONE_NEWUTS), "CLONE_NEWUTS"),
    (bits(libc::CLONE_NEWIPC), "CLONE_NEWIPC"),
    (bits(libc::CLONE_NEWPID), "CLONE_NEWPID"),
    (bits(libc::CLONE_NEWNET), "CLONE_NEWNET"),
    (bits(libc::CLONE_NEWCGROUP), "CLONE_NEWCGROUP"),
    (bits(libc::CLONE_NEWUSER), "CLONE_NEWUSER"),
    (bits(libc::CLONE_NEWTIME), "CLONE_NEWTIME"),
    (CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"),
];

/// The names of the flags, as far as subjects use them.
pub fn names(flags: u64) -> Vec<String> {
    let is_set = |(flag, _): &&(u64, &str)| flags & flag != 0;
    let named = NAMES.iter().filter(is_set);
    named.map(|(_, name)| (*name).to_owned()).collect()
}

/// clone's flags as clone3 takes them: the highest is no sign.
pub const fn bits(flags: c_int) -> u64 {
    flags as u32 as u64
}

/// clone(2), with a stack for the new task; -1 when that fails.
pub fn clone(flags: c_int, work: Work) -> c_int {
    let Ok(stack) = Pages::private(16) else {
        return -1;
    };
    // The last page holds what a task that shares this memory reads when this function has returned.
    let top = stack.page(15);
    // SAFETY: the stack is the new task's alone and stays mapped; what `work` borrows is kept by the maker, which waits
    // for the task.
    unsafe {
        top.cast::<Work>().write(work);
        libc::clone(run, top.as_ptr().cast(), flags, top.as_ptr().cast())
    }
}

/// clone3(2), without a stack: not for `CLONE_VM`.
pub fn clone3(flags: u64, exit_signal: c_int, work: Work) -> c_int {
    // SAFETY: clone_args is plain numbers, for which zero says "not given".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = exit_signal as u64;
    // SAFETY: without CLONE_VM the child has memory of its own, as after fork.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    in_parent(child, work)
}

/// fork(2) itself: the C library's fork calls clone.
pub fn fork(work: Work) -> c_int {
    // SAFETY: one thread.
    in_parent(unsafe { arch::fork() }, work)
}

/// In the child, works and exits; in the parent, gives the child's id.
fn in_parent(child: libc::c_long, work: Work) -> c_int {
    if child == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(work()) }
    }
    child as c_int
}

/// vfork(2). The child runs on the parent's stack while the parent waits.
pub fn vfork(work: Work) -> c_int {
    // SAFETY: `run` takes a reference to work.
    unsafe { arch::vfork(run, (&raw const work).cast_mut().cast()) }
}

extern "C" fn run(work: *mut c_void) -> c_int {
    // SAFETY: made by `clone` or `vfork` above from a reference that outlives the task's use of it.
    let work = unsafe { *work.cast::<Work>() };
    work()
}

/// Gives this task an I/O context and a semaphore undo list of its own.
pub fn have_all_to_share() -> Result<()> {
    const WHO_PROCESS: c_int = 1;
    const BEST_EFFORT: c_int = 2 << 13;
    // SAFETY: touches no memory.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT | 4) };
    ensure!(set == 0, "ioprio_set: {}", Errno::last());
    // SAFETY: touches no memory.
    let semaphore = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    ensure!(semaphore >= 0, "semget: {}", Errno::last());
    let mut up = libc::sembuf {
        sem_num: 0,
        sem_op: 1,
        sem_flg: libc::SEM_UNDO as i16,
    };
    // SAFETY: one operation.
    let done = unsafe { libc::semop(semaphore, &raw mut up, 1) };
    let error = Errno::last();
    // SAFETY: touches no memory. The list stays when the semaphore goes.
    let removed = unsafe { libc::semctl(semaphore, 0, libc::IPC_RMID) };
    ensure!(done == 0 && removed == 0, "semop: {error}");
    Ok(())
}

/// Sends a byte. A system call and nothing else, as [`hear`] is: good in a task that shares its maker's memory.
pub fn say(to: RawFd) -> bool {
    // SAFETY: a byte from this stack.
    unsafe { libc::write(to, (&raw const *b".").cast(), 1) == 1 }
}

/// Waits for a byte.
pub fn hear(from: RawFd) -> bool {
    let mut byte = 0u8;
    // SAFETY: a byte on this stack.
    unsafe { libc::read(from, (&raw mut byte).cast(), 1) == 1 }
}
