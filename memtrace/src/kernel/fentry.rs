//! Whether the kernel lets its functions be hooked (fentry and fexit).

use std::{io, ptr};

use super::{again::again, locked};

/// `BPF_PROG_LOAD`, `BPF_PROG_TYPE_TRACING` and `BPF_TRACE_FENTRY` (`include/uapi/linux/bpf.h`).
const PROG_LOAD: libc::c_long = 5;
const PROG_TYPE_TRACING: u32 = 26;
const TRACE_FENTRY: u32 = 24;
/// A program that does nothing: `r0 = 0; exit`.
const NOTHING: [u64; 2] = [0xb7, 0x95];
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

/// The part of `union bpf_attr` that loading a program is about.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u64,
}

/// Tries it on the function of this BTF id, with a program that does nothing and is never attached. The crates that could
/// do this read the kernel's BTF anew, which takes longer than all else at start.
pub fn is_granted(function: u32) -> bool {
    locked::lift_limit();
    let attr = ProgLoad {
        prog_type: PROG_TYPE_TRACING,
        insn_cnt: NOTHING.len() as u32,
        insns: NOTHING.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        expected_attach_type: TRACE_FENTRY,
        attach_btf_id: function,
        ..ProgLoad::default()
    };
    let load = || {
        // SAFETY: the kernel reads the attributes, whose size is told and whose pointers are valid, and keeps none of them.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_LOAD,
                ptr::from_ref(&attr),
                size_of::<ProgLoad>(),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(fd)
    };
    let Ok(fd) = again(load) else {
        return false;
    };
    // SAFETY: the program's descriptor, which nothing else has. If it can't be closed it goes with the process.
    unsafe { libc::close(fd as i32) };
    true
}
