//! x86-64.

use std::ffi::{c_int, c_long, c_void};

/// Whether Debian's linker keeps the constants of a library apart from its code.
pub const LIBRARIES_HAVE_RODATA: bool = true;
/// The system call that [`fork`] makes.
pub const FORK: &str = "fork";
/// The system call that [`vfork`] makes.
pub const VFORK: &str = "vfork";

/// fork(2) itself: the C library's fork calls clone.
///
/// # Safety
/// As for the C library's: the child of a process with threads must make system calls only.
pub unsafe fn fork() -> c_long {
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_fork) }
}

/// vfork(2); the child ends with what `run` gives. It runs on the parent's stack while the parent waits, so it must not
/// return from here: hence assembly.
///
/// # Safety
/// `run` takes this `work`, and makes system calls only.
pub unsafe fn vfork(run: extern "C" fn(*mut c_void) -> c_int, work: *mut c_void) -> c_int {
    let child: c_int;
    // SAFETY: what the child pushes lies below the parent's stack pointer; registers are each task's own.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test eax, eax",
            "jnz 2f",
            "mov rdi, r12",
            "call r13",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "2:",
            exit = const libc::SYS_exit,
            in("r12") work,
            in("r13") run,
            inlateout("eax") libc::SYS_vfork as c_int => child,
            clobber_abi("C"),
        );
    }
    child
}
