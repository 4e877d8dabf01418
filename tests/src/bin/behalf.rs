//! System calls for which the kernel faults pages in itself, its own process's and a child's: `behalf`.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid};
use tests::subject::files;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process::{self, Gate};
use tests::subject::report::without;
use tests::subject::wanted::wanted;

const PAGES: usize = 4;

fn main() -> Result<()> {
    process::begin();
    populate()?;
    lock()?;
    read_directly()?;
    of_a_child()
}

fn addrs(pages: &Pages) -> Vec<u64> {
    (0..pages.count()).map(|i| pages.addr(i)).collect()
}

/// mmap with `MAP_POPULATE`, over pages that were reserved for it.
fn populate() -> Result<()> {
    let pages = Pages::private(PAGES)?;
    wanted("populated", "mmap", getpid(), &addrs(&pages), || {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_POPULATE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = pages.page(0).as_ptr().cast();
        // SAFETY: nothing is in these pages.
        let at = unsafe { libc::mmap(at, PAGES * PAGE, protection, flags, -1, 0) };
        ensure!(at != libc::MAP_FAILED, "MAP_POPULATE: {}", Errno::last());
        Ok(())
    })
}

fn lock() -> Result<()> {
    let pages = Pages::private(PAGES)?;
    wanted("locked", "mlock", getpid(), &addrs(&pages), || {
        // SAFETY: only keeps the pages in memory.
        Errno::result(unsafe { libc::mlock(pages.page(0).as_ptr().cast(), PAGES * PAGE) })?;
        Ok(())
    })
}

/// A read that goes past the page cache, into memory that was never touched.
fn read_directly() -> Result<()> {
    let file = files::temporary(PAGES)?;
    let direct = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(file.path());
    let direct = match direct {
        Ok(direct) => direct,
        Err(error) => return without("read directly", format!("O_DIRECT: {error}")),
    };
    let pages = Pages::private(PAGES)?;
    wanted("read directly", "pread64", getpid(), &addrs(&pages), || {
        let buffer = pages.page(0).as_ptr().cast();
        // SAFETY: the pages are this program's own.
        let read = unsafe { libc::pread(direct.as_raw_fd(), buffer, PAGES * PAGE, 0) };
        ensure!(read == (PAGES * PAGE) as isize, "{read}: {}", Errno::last());
        Ok(())
    })
}

/// Pages that a child shares, and that its parent writes or reads there.
fn of_a_child() -> Result<()> {
    let pages = Pages::private(2 * PAGES + 1)?;
    pages.write_all(1);
    let gate = Gate::new()?;
    let child = process::child(|| gate.wait())?;
    let addrs = addrs(&pages);
    let (written, others) = addrs.split_at(PAGES);
    wanted("written to", "process_vm_writev", child, written, || {
        write_to(child, written[0])
    })?;
    // To read it the kernel pins a page, and what it pins it takes from the sharers first, since 5.19
    // (gup_must_unshare in mm/internal.h).
    let (read, poked) = others.split_at(PAGES);
    wanted("read from", "process_vm_readv", child, read, || {
        read_from(child, read[0])
    })?;
    let ptrace = |request: libc::c_uint, addr: u64, data: u64| {
        // SAFETY: the child is this program's own; the arguments are numbers.
        Errno::result(unsafe { libc::ptrace(request, child.as_raw(), addr, data) })
    };
    ptrace(libc::PTRACE_ATTACH, 0, 0)?;
    waitpid(child, None).context("the child does not stop")?;
    wanted("poked", "ptrace", child, poked, || {
        ptrace(libc::PTRACE_POKEDATA, poked[0], 7)?;
        Ok(())
    })?;
    ptrace(libc::PTRACE_DETACH, 0, 0)?;
    gate.open()?;
    process::wait_success(child)
}

fn write_to(child: Pid, addr: u64) -> Result<()> {
    let bytes = vec![3; PAGES * PAGE];
    process_vm_writev(child, &[IoSlice::new(&bytes)], &[remote(addr)])?;
    Ok(())
}

fn read_from(child: Pid, addr: u64) -> Result<()> {
    let mut bytes = vec![0; PAGES * PAGE];
    process_vm_readv(child, &mut [IoSliceMut::new(&mut bytes)], &[remote(addr)])?;
    ensure!(bytes[0] == 1, "read {}", bytes[0]);
    Ok(())
}

fn remote(addr: u64) -> RemoteIoVec {
    RemoteIoVec {
        base: addr as usize,
        len: PAGES * PAGE,
    }
}
