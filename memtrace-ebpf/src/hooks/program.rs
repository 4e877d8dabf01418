//! Which file is the program of an address space.

use crate::hooks::{
    file,
    kernel::{offset, read_member},
    tree::{Lookup, find_at_or_above},
};

/// The identity of the program of the `mm_struct` at this address: of the file that is mapped where its code begins, which
/// an exec says once all is mapped (`load_elf_binary` in `fs/binfmt_elf.c`).
///
/// `exe_file` may be another: with an overlayfs on an overlayfs it is the upper one's, and what is mapped has the path of the
/// lower one (`backing_file_mmap` in `fs/backing-file.c`, once for each). It is all there is until the exec says so, and
/// where the program has put other memory there since.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn program(mm: u64) -> u64 {
    let code: u64 = read_member(mm, offset!(mm_start_code));
    let mut mapped = 0;
    if code != 0
        && let Lookup::Found(found) = find_at_or_above(mm, code)
        && found.start <= code
    {
        mapped = found.file;
    }
    if mapped == 0 {
        mapped = read_member(mm, offset!(mm_exe_file));
    }
    file::identify(mapped)
}
