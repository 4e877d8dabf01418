//! arm64. It has neither fork(2) nor vfork(2): both are clone(2).

use std::ffi::{c_int, c_long, c_void};

use libc::{CLONE_VFORK, CLONE_VM, SIGCHLD};

/// Whether Debian's linker keeps the constants of a library apart from its code.
pub const LIBRARIES_HAVE_RODATA: bool = false;
/// The system call that [`fork`] makes.
pub const FORK: &str = "clone";
/// The system call that [`vfork`] makes.
pub const VFORK: &str = "clone";

/// What fork(2) would be: the C library's asks for more.
///
/// # Safety
/// As for the C library's: the child of a process with threads must make system calls only.
pub unsafe fn fork() -> c_long {
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_clone, SIGCHLD, 0, 0, 0, 0) }
}

/// What vfork(2) would be; the child ends with what `run` gives. It runs on the parent's stack while the parent waits, so
/// it must not return from here: hence assembly.
///
/// # Safety
/// `run` takes this `work`, and makes system calls only.
pub unsafe fn vfork(run: extern "C" fn(*mut c_void) -> c_int, work: *mut c_void) -> c_int {
    let child: c_long;
    // SAFETY: what the child pushes lies below the parent's stack pointer; registers are each task's own.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x0, x20",
            "blr x21",
            "mov x8, {exit}",
            "svc #0",
            "2:",
            exit = const libc::SYS_exit,
            in("x20") work,
            in("x21") run,
            inlateout("x0") c_long::from(CLONE_VM | CLONE_VFORK | SIGCHLD) => child,
            // The parent's stack, and nothing else asked for.
            in("x1") 0,
            in("x2") 0,
            in("x3") 0,
            in("x4") 0,
            in("x8") libc::SYS_clone,
            clobber_abi("C"),
        );
    }
    child as c_int
}
