//! Where the dynamic linker has put the program's libraries.

use std::ffi::{CStr, c_int, c_void};

use anyhow::{Context, Result};

use super::memory::PAGE;

/// A page in each part of a mapped library.
#[derive(Debug, Clone, Copy, Default)]
pub struct Library {
    /// A page of code.
    pub text: u64,
    /// A page of constants.
    pub rodata: u64,
    /// The last page of initialised data that its file backs.
    pub data: u64,
    /// The last page of zeroed data, which no file backs.
    pub bss: u64,
}

/// The C library, as the dynamic linker lists it.
pub fn c_library() -> Result<Library> {
    let mut found = None;
    // SAFETY: the callback gets `found` back as its data, for the length of this call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found.context("libc.so is not among the program's libraries")
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the dynamic linker hands over a valid entry, and `data` is c_library's `found`.
    let (info, found) = unsafe { (&*info, &mut *data.cast::<Option<Library>>()) };
    // SAFETY: the entry's name is a C string.
    let name = unsafe { CStr::from_ptr(info.dlpi_name) };
    if !name
        .to_bytes()
        .windows(10)
        .any(|part| part == b"/libc.so.6")
    {
        return 0;
    }
    // SAFETY: the entry's program headers are an array of that length.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let mut library = Library::default();
    for header in headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD)
    {
        let start = info.dlpi_addr + header.p_vaddr;
        match header.p_flags & (libc::PF_X | libc::PF_W) {
            libc::PF_X => library.text = page(start + header.p_filesz / 2),
            libc::PF_W => {
                library.data = page(start + header.p_filesz - 1);
                library.bss = page(start + header.p_memsz - 1);
            }
            _ => library.rodata = page(start + header.p_filesz / 2),
        }
    }
    *found = Some(library);
    1
}

fn page(addr: u64) -> u64 {
    addr & !(PAGE as u64 - 1)
}
