//! Children that copy a page and die of a SIGSEGV or SIGBUS that has to do with no page fault, with nothing between that a
//! tracer could see; and some that send it to themselves from a page never touched before.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::sched_yield;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde_json::json;
use tests::subject::files;
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::note;

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
        let unaligned = || {
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
        };
        if !ends("an alignment check", &pages, unaligned, |_| Ok(()))? {
            without(
                "alignment checks",
                "this CPU makes none: an emulated one, it may be",
            )?;
        }
    }

    dies("an instruction that there isn't", &pages, || {
        pages.write(0, 2);
        // SAFETY: none: the kernel ends the child here.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            std::arch::asm!("ud2");
            #[cfg(target_arch = "aarch64")]
            std::arch::asm!("udf #0");
        }
    })?;
    killed("a kill from outside", &pages)?;

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

/// Kills a child that computes, and has done nothing else since it took a fault at the page.
fn killed(name: &str, pages: &Pages) -> Result<()> {
    let written = Pages::shared(1)?;
    let act = || {
        written.write(0, 1);
        pages.write(0, 2);
        written.write(0, 2);
        loop {
            std::hint::spin_loop();
        }
    };
    let kill_it = |child| {
        while written.read(0) != 2 {
            sched_yield()?;
        }
        Ok(kill(child, Signal::SIGKILL)?)
    };
    ensure!(ends(name, pages, act, kill_it)?, "{name}: the child lived");
    Ok(())
}

/// Has a child do what ends it by a signal, and reports the child, the page of which it took a fault before, and the signal.
fn dies(name: &str, pages: &Pages, act: impl FnOnce()) -> Result<()> {
    ensure!(
        ends(name, pages, act, |_| Ok(()))?,
        "{name}: the child lived"
    );
    Ok(())
}

/// The same, while the parent does something, too. Whether the child did end by a signal; if not, nothing is reported.
fn ends(
    name: &str,
    pages: &Pages,
    act: impl FnOnce(),
    meanwhile: impl FnOnce(Pid) -> Result<()>,
) -> Result<bool> {
    let child = process::child(|| {
        for fatal in [Signal::SIGSEGV, Signal::SIGBUS] {
            // SAFETY: takes the Rust runtime's own handler away.
            unsafe { signal(fatal, SigHandler::SigDfl) }?;
        }
        act();
        Ok(())
    })?;
    meanwhile(child)?;
    let (status, _) = process::wait_usage(name, child)?;
    let signal = match status {
        WaitStatus::Signaled(_, signal, _) => signal,
        WaitStatus::Exited(_, 0) => return Ok(false),
        _ => bail!("{name}: {status:?}"),
    };
    let facts = json!({ "pid": child.as_raw(), "addr": pages.addr(0), "signal": signal as i32 });
    note(name, facts).context("report")?;
    Ok(true)
}
