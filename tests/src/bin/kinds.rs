//! One fault of each kind: `kinds anonymous|huge|takeover|private-file|shared-file|major|shared-memory|kernel`.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use anyhow::{Result, bail, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MmapAdvise, ProtFlags};
use tests::subject::files;
use tests::subject::memory::{PAGE, Pages, frame};
use tests::subject::process::{self, Gate};
use tests::subject::report::{Access, note};
use tests::subject::witness::{read, touch, write};

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    match std::env::args().nth(1).as_deref() {
        Some("anonymous") => anonymous(),
        Some("huge") => huge(),
        Some("takeover") => takeover(),
        Some("private-file") => private_file(),
        Some("shared-file") => shared_file(),
        Some("major") => major(),
        Some("shared-memory") => shared_memory(),
        Some("kernel") => kernel(),
        _ => bail!(
            "usage: kinds anonymous|huge|takeover|private-file|shared-file|major|shared-memory|kernel"
        ),
    }
}

fn anonymous() -> Result<()> {
    let pages = Pages::private(2)?;
    read("read of an untouched page", &pages, 0)?;
    write("write over the zero page", &pages, 0)?;
    write("write to an untouched page", &pages, 1)
}

/// A huge page: 512 small ones at one fault, if the kernel gives one.
fn huge() -> Result<()> {
    const SMALL: usize = 512;
    let area = Pages::private(2 * SMALL)?;
    let skip = (SMALL - area.addr(0) as usize / PAGE % SMALL) % SMALL;
    // SAFETY: within the area, which holds nothing yet.
    let aligned = unsafe { Pages::at(area.addr(skip), SMALL) }?;
    aligned.advise(MmapAdvise::MADV_HUGEPAGE)?;
    write("write to an untouched huge page", &aligned, 3)?;
    let all_at_once = frame(aligned.addr(SMALL - 1))?.is_some();
    note("huge", all_at_once)
}

/// A page that a fork shared, made read-only and writable again, and by then the only owner's.
fn takeover() -> Result<()> {
    let pages = Pages::private(1)?;
    pages.write(0, 1);
    let (go, gate) = (Gate::new()?, Gate::new()?);
    let child = process::child(|| {
        gate.open()?;
        go.wait()
    })?;
    gate.wait()?;
    pages.protect(ProtFlags::PROT_READ)?;
    pages.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    go.open()?;
    process::wait_success(child)?;
    write("write after mprotect and the child's end", &pages, 0)
}

// Each page of a file is mapped by itself below: the kernel maps the neighbours of a page that is read, too.

fn private_file() -> Result<()> {
    let file = files::temporary(3)?;
    let cached = Pages::private_file(&file, 1, 1)?;
    read("read of a cached private file page", &cached, 0)?;
    write("write to a private file page that was read", &cached, 0)?;
    write(
        "write to an unmapped private file page",
        &Pages::private_file(&file, 2, 1)?,
        0,
    )
}

fn shared_file() -> Result<()> {
    let file = files::temporary(3)?;
    let cached = Pages::shared_file(&file, 1, 1)?;
    read("read of a cached shared file page", &cached, 0)?;
    write("write to a shared file page that was read", &cached, 0)?;
    write(
        "write to an unmapped shared file page",
        &Pages::shared_file(&file, 2, 1)?,
        0,
    )?;
    let read_only = std::fs::File::open(file.path())?;
    read(
        "read of a shared file page that is open for reading alone",
        &Pages::shared_file_to_read(&read_only, 1, 1)?,
        0,
    )
}

fn major() -> Result<()> {
    for (name, access) in [
        ("read of a file page on disk", Access::Read),
        ("write to a private file page on disk", Access::Write),
    ] {
        let file = files::temporary(1)?;
        files::drop_from_cache(file.as_file())?;
        let pages = Pages::private_file(&file, 0, 1)?;
        ensure!(
            !pages.is_cached(0)?,
            "{} stays in the page cache; is /var/tmp on a disk?",
            file.path().display()
        );
        match access {
            Access::Write => write(name, &pages, 0)?,
            _ => read(name, &pages, 0)?,
        }
    }
    Ok(())
}

fn shared_memory() -> Result<()> {
    let (written, read_only) = (Pages::shared(1)?, Pages::shared(1)?);
    write("write to fresh shared memory", &written, 0)?;
    read("read of fresh shared memory", &read_only, 0)?;
    process::in_child(|| {
        read(
            "the child's read of a page that the parent has filled",
            &written,
            0,
        )?;
        write(
            "the child's write to a page that the parent has filled",
            &read_only,
            0,
        )
    })?;

    let memfd = memfd_create(
        CString::new("memtrace-subject")?.as_c_str(),
        MFdFlags::MFD_CLOEXEC,
    )?;
    nix::unistd::ftruncate(&memfd, PAGE as i64)?;
    write(
        "write to a fresh memfd page",
        &Pages::shared_file(memfd.as_fd(), 0, 1)?,
        0,
    )?;
    let read_only = std::fs::File::open(format!("/proc/self/fd/{}", memfd.as_raw_fd()))?;
    read(
        "read of a memfd page that is open for reading alone",
        &Pages::shared_file_to_read(&read_only, 0, 1)?,
        0,
    )?;

    write("write to fresh SysV shared memory", &sysv()?, 0)
}

/// A page of System V shared memory that goes when the program ends.
fn sysv() -> Result<Pages> {
    // SAFETY: plain system calls; shmat picks an address of its own.
    let addr = unsafe {
        let id = libc::shmget(libc::IPC_PRIVATE, PAGE, 0o600);
        let addr = libc::shmat(id, std::ptr::null(), 0);
        libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
        addr
    };
    ensure!(
        addr as isize != -1,
        "shmat: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: just attached, one page.
    unsafe { Pages::at(addr as u64, 1) }
}

/// The kernel itself takes the fault: read(2) stores to the pages, write(2) loads from them.
fn kernel() -> Result<()> {
    let shared = Pages::private(1)?;
    let untouched = Pages::private(3)?;
    shared.write(0, 1);

    let gate = Gate::new()?;
    let child = process::child(|| gate.wait())?;
    read_into("read(2) into a page that a fork shared", &shared, 0)?;
    gate.open()?;
    process::wait_success(child)?;

    read_into("read(2) into an untouched page", &untouched, 0)?;
    write_from("write(2) from an untouched page", &untouched, 1)?;
    read_into("read(2) over the zero page", &untouched, 1)?;
    // Files are written with page faults disabled, at first.
    let file = files::temporary(1)?;
    write_to(
        "write(2) to a file from an untouched page",
        file.as_file().as_raw_fd(),
        &untouched,
        2,
    )
}

fn read_into(name: &str, pages: &Pages, i: usize) -> Result<()> {
    let (mut reader, mut writer) = std::io::pipe()?;
    writer.write_all(&[2; 64])?;
    // SAFETY: within the pages, which nothing else uses meanwhile.
    let buffer = unsafe { std::slice::from_raw_parts_mut(pages.page(i).as_ptr(), 64) };
    let mut result = Ok(0);
    touch(name, pages.addr(i), Access::Write, true, || {
        result = reader.read(buffer);
    })?;
    ensure!(result? == 64, "read(2) came short");
    Ok(())
}

fn write_from(name: &str, pages: &Pages, i: usize) -> Result<()> {
    let (_reader, writer) = std::io::pipe()?;
    write_to(name, writer.as_raw_fd(), pages, i)
}

fn write_to(name: &str, fd: RawFd, pages: &Pages, i: usize) -> Result<()> {
    let mut written = 0;
    touch(name, pages.addr(i), Access::Read, true, || {
        // SAFETY: the page is mapped. By libc, so that no reference to memory that was never written is made.
        written = unsafe { libc::write(fd, pages.page(i).as_ptr().cast(), 64) };
    })?;
    ensure!(written == 64, "write(2) came short");
    Ok(())
}
