//! Children that copy a page and die of a SIGSEGV or SIGBUS that has to do with no page fault, with nothing between that a
//! tracer could see; and some that send it to themselves from a page never touched before.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::WaitStatus;
use serde_json::json;
use tests::subject::files;
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::{Fact, report};

/// `SEGV_MAPERR`
const MAPERR: i32 = 1;

fn main() -> Result<()> {
    process::begin();
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let pages = Pages::private(1)?;
    pages.write(0, 1);

    #[cfg(target_arch = "x86_64")]
    {
        use tests::subject::report::without;

        dies("a general protection fault", &pages, || {
            pages.write(0, 2);
            // SAFETY: none: no address between the halves can be used, and the kernel ends the child here.
            unsafe { (0x8000_0000_0000_0000 as *mut u8).write_volatile(1) };
        })?;
        let checked = ends("an alignment check", &pages, || {
            pages.write(0, 2);
            // SAFETY: none: an access across words with EFLAGS.AC set, of which the kernel ends the child.
            unsafe {
                std::arch::asm!(
                    "pushf",
                    "or dword ptr [rsp], 0x40000",
                    "popf",
                    "mov dword ptr [{page} + 1], 1",
                    page = in(reg) pages.page(0).as_ptr(),
                );
            }
        })?;
        if !checked {
            without(
                "alignment checks",
                "this CPU makes none: an emulated one, it may be",
            )?;
        }
    }

    let untouched = Pages::private(1)?;
    dies("its own signal, from an untouched page", &untouched, || {
        send(&untouched);
    })?;

    // It claims to be about the very page that it is in, of which the kernel takes a fault to read it.
    let file = files::temporary(1)?;
    let claim = Pages::private_file(file.as_file().as_fd(), 0, 1)?;
    let mut siginfo = [0; 24];
    siginfo[8..12].copy_from_slice(&MAPERR.to_ne_bytes());
    siginfo[16..24].copy_from_slice(&claim.addr(0).to_ne_bytes());
    file.as_file().write_all_at(&siginfo, 0)?;
    dies(
        "its own signal, which claims to be a fault's",
        &claim,
        || {
            send(&claim);
        },
    )
}

/// Sends SIGSEGV to the process itself, with what is in the page.
fn send(siginfo: &Pages) {
    // SAFETY: the kernel reads from the page, and ends the child.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigqueueinfo,
            libc::getpid(),
            libc::SIGSEGV,
            siginfo.page(0).as_ptr(),
        );
    }
}

/// Has a child do what ends it by a signal, and reports the child, the page of which it took a fault before, and the signal.
fn dies(name: &str, pages: &Pages, act: impl FnOnce()) -> Result<()> {
    ensure!(ends(name, pages, act)?, "{name}: the child lived");
    Ok(())
}

/// The same. Whether the child did end by a signal; if not, nothing is reported.
fn ends(name: &str, pages: &Pages, act: impl FnOnce()) -> Result<bool> {
    let child = process::child(|| {
        for fatal in [Signal::SIGSEGV, Signal::SIGBUS] {
            // SAFETY: takes the Rust runtime's own handler away.
            unsafe { signal(fatal, SigHandler::SigDfl) }?;
        }
        act();
        Ok(0)
    })?;
    let (status, _) = process::wait_usage(name, child)?;
    let signal = match status {
        WaitStatus::Signaled(_, signal, _) => signal,
        WaitStatus::Exited(_, 0) => return Ok(false),
        _ => bail!("{name}: {status:?}"),
    };
    let facts = json!({ "pid": child.as_raw(), "addr": pages.addr(0), "signal": signal as i32 });
    report(&Fact::Note(name.to_owned(), facts)).context("report")?;
    Ok(true)
}
