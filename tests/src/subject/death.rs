//! Touches that the kernel answers with a signal.

use anyhow::{Result, bail};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::WaitStatus;

use super::memory::code;
use super::process;
use super::report::{Access, Death, Fact, report};
use super::witness::now;

/// Has a child touch `addr`, which must end it.
pub fn dies(name: &str, addr: u64, access: Access) -> Result<()> {
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
        Ok(())
    })?;
    match process::wait_usage(name, child)? {
        (WaitStatus::Signaled(_, signal, _), _) => report(&Fact::Death(Death {
            name: name.to_owned(),
            pid: child.as_raw() as u32,
            addr,
            access,
            signal: signal as u32,
            code: code()?,
            from,
            until: now()?,
        })),
        (status, _) => bail!("{name}: the child lived: {status:?}"),
    }
}
