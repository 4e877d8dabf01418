//! Touches that end in a signal, each in a child that dies of it.

use anyhow::Result;
use nix::sys::resource::{Resource, setrlimit};
use tests::subject::death::dies;
use tests::subject::files;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process;
use tests::subject::report::Access;

use nix::sys::mman::{ProtFlags, munmap};

#[repr(C, align(4096))]
struct Page([u8; PAGE]);

static CONSTANT: Page = Page([7; PAGE]);

/// The upper half of the address space is the kernel's.
const KERNEL_HALF: u64 = 0xffff_ffff_8100_0000;

fn main() -> Result<()> {
    process::begin();
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;

    let hole = Pages::private(3)?;
    // SAFETY: the middle page; nothing uses it.
    unsafe { munmap(hole.page(1).cast(), PAGE) }?;
    dies("read of unmapped memory", hole.addr(1), Access::Read)?;
    dies("write to unmapped memory", hole.addr(1), Access::Write)?;
    dies("jump to unmapped memory", hole.addr(1), Access::Exec)?;
    dies("read at address 0", 0, Access::Read)?;

    let closed = Pages::private(1)?;
    closed.protect(ProtFlags::PROT_NONE)?;
    dies("read of PROT_NONE memory", closed.addr(0), Access::Read)?;
    let data = Pages::private(1)?;
    data.write(0, 1);
    dies("jump to memory that is no code", data.addr(0), Access::Exec)?;

    dies(
        "write to a constant",
        &raw const CONSTANT as u64,
        Access::Write,
    )?;
    dies("read of the kernel's memory", KERNEL_HALF, Access::Read)?;

    let file = files::temporary(1)?;
    let beyond = Pages::private_file(file.as_file(), 0, 2)?;
    dies("read beyond a file's end", beyond.addr(1), Access::Read)
}
