//! Touches that end in a signal, each in a child that dies of it.

use anyhow::{Result, bail};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::WaitStatus;
use tests::subject::files;
use tests::subject::memory::{PAGE, Pages, code};
use tests::subject::process;
use tests::subject::report::{Access, Death, Fact, report};
use tests::subject::witness::now;

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

/// Has a child touch `addr`, which must end it.
fn dies(name: &str, addr: u64, access: Access) -> Result<()> {
    let from = now()?;
    let child = process::child(|| {
        // The Rust runtime's own handler returns once, and the access is made twice.
        for fatal in [Signal::SIGSEGV, Signal::SIGBUS] {
            // SAFETY: takes a handler away.
            unsafe { signal(fatal, SigHandler::SigDfl) }?;
        }
        let pointer = addr as *mut u8;
        // SAFETY: none: the point is that the kernel ends the child here.
        unsafe {
            match access {
                Access::Read => drop(pointer.read_volatile()),
                Access::Write => pointer.write_volatile(1),
                Access::Exec => std::mem::transmute::<*mut u8, extern "C" fn()>(pointer)(),
            }
        }
        Ok(0)
    })?;
    match process::wait_usage(name, child)? {
        (WaitStatus::Signaled(_, signal, _), _) => report(&Fact::Death(Death {
            name: name.to_owned(),
            pid: child.as_raw(),
            addr,
            access,
            signal: signal as i32,
            code: code()?,
            from,
            until: now()?,
        })),
        (status, _) => bail!("{name}: the child lived: {status:?}"),
    }
}
