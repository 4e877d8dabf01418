//! A 32-bit program, as an assembler and a linker would make it.

use std::arch::global_asm;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::ptr::null;

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tests::subject::memory::PAGE;
use tests::subject::report::without;

/// Where it is loaded, and the code begins behind the headers.
const BASE: u32 = 0x0804_8000;
const HEADERS: usize = 52 + 2 * 32;
/// A page of data, in the file behind the code.
const DATA: u32 = BASE + 0x1_0000;

// Numbers of i386 in eax, arguments in ebx, ecx, edx, esi, edi, ebp. The addresses are those after the load.
global_asm!(
    ".pushsection .rodata.compat, \"a\"",
    ".code32",
    "compat_begin:",
    // brk(0), brk(+16 KiB)
    "movl $45, %eax; xorl %ebx, %ebx; int $0x80",
    "movl %eax, %ebx; addl $0x4000, %ebx; movl $45, %eax; int $0x80",
    // mmap2 of 64 KiB: private, anonymous, fixed
    "movl $192, %eax; movl $0x50000000, %ebx; movl $0x10000, %ecx; movl $3, %edx; movl $0x32, %esi",
    "movl $-1, %edi; xorl %ebp, %ebp; int $0x80",
    "cmpl $0x50000000, %eax; jne 9f",
    "movl $16, %ecx; movl $0x50000000, %ebx",
    "1: movb $1, (%ebx); addl $4096, %ebx; loop 1b",
    // A write to its data.
    "movb $1, {data}",
    // fork
    "movl $2, %eax; int $0x80",
    "testl %eax, %eax; jz 3f",
    // wait4(-1, &status, 0, 0)
    "movl $114, %eax; movl $-1, %ebx; movl $({base} + compat_status - compat_begin), %ecx",
    "xorl %edx, %edx; xorl %esi, %esi; int $0x80",
    // munmap of the upper half
    "movl $91, %eax; movl $0x50008000, %ebx; movl $0x8000, %ecx; int $0x80",
    // chdir, unlink, link, setpgid: 64-bit calls of these numbers are brk, mprotect, mmap and fork
    "movl $12, %eax; movl $({base} + compat_name - compat_begin), %ebx; int $0x80",
    "movl $10, %eax; movl $({base} + compat_name - compat_begin), %ebx; int $0x80",
    "movl $9, %eax; movl $({base} + compat_name - compat_begin), %ebx; movl %ebx, %ecx; int $0x80",
    "movl $57, %eax; xorl %ebx, %ebx; xorl %ecx, %ecx; int $0x80",
    // exit_group with the child's own status
    "movzbl {base} + compat_status - compat_begin + 1, %ebx; movl $252, %eax; int $0x80",
    // The child: writes to four of the pages.
    "3: movl $4, %ecx; movl $0x50000000, %ebx",
    "2: movb $2, (%ebx); addl $4096, %ebx; loop 2b",
    "movl $1, %eax; xorl %ebx, %ebx; int $0x80",
    "9: movl $1, %eax; movl $98, %ebx; int $0x80",
    "compat_name: .asciz \"/no/such/file\"",
    ".balign 4",
    "compat_status: .long 0",
    "compat_end:",
    ".code64",
    ".popsection",
    base = const BASE + HEADERS as u32,
    data = const DATA,
    options(att_syntax),
);

unsafe extern "C" {
    static compat_begin: u8;
    static compat_end: u8;
}

/// The file: headers, then the code, then the data.
fn image() -> Vec<u8> {
    let (begin, end) = (&raw const compat_begin, &raw const compat_end);
    // SAFETY: the linker keeps the section as one piece.
    let code = unsafe { std::slice::from_raw_parts(begin, end as usize - begin as usize) };
    let size = (HEADERS + code.len()) as u32;
    // Magic, 32 bits, little-endian; an executable for i386; its entry, its program headers.
    let ident = *b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0";
    let half = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let word = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let data_at = (size as usize).next_multiple_of(PAGE);
    let parts: [Vec<u8>; 8] = [
        ident.to_vec(),
        half(&[2, 3]),
        word(&[1, BASE + HEADERS as u32, 52, 0, 0]),
        half(&[52, 32, 2, 0, 0, 0]),
        // PT_LOAD, all of the file, readable, writable and executable.
        word(&[1, 0, BASE, BASE, size, size, 7, 4096]),
        // Another, readable and writable: as nothing is said of the stack (PT_GNU_STACK), it may be executed all the same.
        word(&[1, data_at as u32, DATA, DATA, 4096, 4096, 6, 4096]),
        code.to_vec(),
        vec![7; data_at + PAGE - size as usize],
    ];
    parts.concat()
}

/// Runs it in place of this program.
pub fn program() -> Result<()> {
    let file = memfd_create(c"compat", MFdFlags::empty())?;
    let mut file = std::fs::File::from(file);
    file.write_all(&image())?;
    let name = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let args = [name.as_ptr(), null()];
    // SAFETY: strings with an end, lists with an end.
    unsafe { libc::execve(name.as_ptr(), args.as_ptr(), [null()].as_ptr()) };
    match Errno::last() {
        Errno::ENOEXEC => without("32-bit programs", "this kernel runs none"),
        error => bail!("execve: {error}"),
    }
}
