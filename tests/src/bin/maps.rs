//! System calls on the address space, good ones and bad, with what they returned.

use std::os::fd::AsRawFd;
use std::ptr::{null_mut, without_provenance_mut};

use anyhow::{Context, Result, ensure};
use libc::{c_long, c_void};
use serde_json::json;
use tests::subject::call::{address, hex, made, names, result};
use tests::subject::files;
use tests::subject::memory::PAGE;
use tests::subject::process;

const READ: i32 = libc::PROT_READ;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn main() -> Result<()> {
    process::begin();
    heap()?;
    mappings()?;
    failures()
}

fn heap() -> Result<()> {
    // By system call: malloc's own bookkeeping stays out of it.
    let start = raw_brk(0);
    for (name, to) in [
        ("the heap grows", start + 16 * PAGE as u64),
        ("the heap shrinks", start + 4 * PAGE as u64),
        ("the heap's end comes back", start),
    ] {
        let old = raw_brk(0);
        let fields = json!({"old": hex(old), "new": hex(to)});
        made(name, "brk", || raw_brk(to) as c_long, |_| fields)?;
        ensure!(raw_brk(0) == to, "{name}: refused");
    }
    Ok(())
}

fn raw_brk(to: u64) -> u64 {
    // SAFETY: never below the heap's end at the start, so nothing in use goes away.
    unsafe { libc::syscall(libc::SYS_brk, to) as u64 }
}

fn mappings() -> Result<()> {
    let file = files::temporary(4)?;
    let len = 6 * PAGE;

    let anonymous = map(
        "mmap of private memory",
        null_mut(),
        len,
        READ_WRITE,
        PRIVATE,
        None,
    )?;
    let fixed = PRIVATE | libc::MAP_FIXED;
    map(
        "mmap over a mapping",
        at(anonymous + 4 * PAGE as u64),
        PAGE,
        READ,
        fixed,
        None,
    )?;
    let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
    let mapped = map(
        "mmap of a file",
        null_mut(),
        2 * PAGE,
        READ,
        shared,
        Some((&file, 2)),
    )?;

    protect("mprotect to read only", anonymous, 2 * PAGE, READ)?;
    protect("mprotect to nothing", anonymous, PAGE, libc::PROT_NONE)?;
    advise(
        "madvise",
        anonymous + 2 * PAGE as u64,
        2 * PAGE,
        libc::MADV_DONTNEED,
    )?;

    let grown = remap("mremap to more", mapped, 2 * PAGE, 64 * PAGE)?;
    let shrunk = remap("mremap to less", grown, 64 * PAGE, PAGE)?;
    unmap("munmap of the file", shrunk, PAGE)?;
    unmap("munmap of a part", anonymous, 2 * PAGE)?;
    unmap(
        "munmap of the rest",
        anonymous + 2 * PAGE as u64,
        len - 2 * PAGE,
    )
}

fn failures() -> Result<()> {
    let len = 4 * PAGE;
    let hole = map("mmap that is undone", null_mut(), len, READ, PRIVATE, None)?;
    unmap("munmap that undoes it", hole, len)?;
    protect("mprotect of nothing", hole, PAGE, READ)?;
    advise("madvise of nothing", hole, PAGE, libc::MADV_DONTNEED)?;
    advise("madvise that doesn't exist", hole, PAGE, 77_777)?;
    unmap("munmap at an odd address", hole + 1, PAGE)?;
    remap("mremap of nothing", hole, PAGE, 2 * PAGE)?;
    map("mmap of no length", null_mut(), 0, READ, PRIVATE, None)?;
    let taken = map("mmap that stays", null_mut(), PAGE, READ, PRIVATE, None)?;
    let careful = PRIVATE | libc::MAP_FIXED_NOREPLACE;
    map(
        "mmap where something is",
        at(taken),
        PAGE,
        READ,
        careful,
        None,
    )?;
    Ok(())
}

fn map(
    name: &str,
    wanted: *mut c_void,
    len: usize,
    prot: i32,
    flags: i32,
    file: Option<(&tempfile::NamedTempFile, usize)>,
) -> Result<u64> {
    let (fd, offset) = file.map_or((-1, 0), |(file, page)| {
        (file.as_file().as_raw_fd(), page * PAGE)
    });
    let path = file
        .map(|(file, _)| file.path().to_str().context("a file's name"))
        .transpose()?;
    let ret = made(
        name,
        "mmap",
        // SAFETY: at an address of the kernel's choice, or over this program's own.
        || unsafe {
            result(libc::syscall(
                libc::SYS_mmap,
                wanted,
                len,
                prot,
                flags,
                fd,
                offset,
            ))
        },
        |ret| {
            json!({
                "addr": hex(if ret < 0 { wanted as u64 } else { ret as u64 }), "len": len,
                "prot": names(prot, &PROTECTIONS), "flags": names(flags, &MAPPINGS), "file": path,
                "offset": path.map(|_| offset), "ret": address(ret), "by": "call",
            })
        },
    )?;
    Ok(ret as u64)
}

fn unmap(name: &str, addr: u64, len: usize) -> Result<()> {
    // SAFETY: this program's own mappings, which nothing refers to.
    let call = || unsafe { result(libc::syscall(libc::SYS_munmap, addr, len)) };
    let fields = |ret: i64| json!({"addr": hex(addr), "len": len, "ret": ret});
    made(name, "munmap", call, fields)?;
    Ok(())
}

fn protect(name: &str, addr: u64, len: usize, prot: i32) -> Result<()> {
    // SAFETY: as above.
    let call = || unsafe { result(libc::syscall(libc::SYS_mprotect, addr, len, prot)) };
    let prot = names(prot, &PROTECTIONS);
    let fields = |ret: i64| json!({"addr": hex(addr), "len": len, "prot": prot, "ret": ret});
    made(name, "mprotect", call, fields)?;
    Ok(())
}

fn advise(name: &str, addr: u64, len: usize, advice: i32) -> Result<()> {
    // SAFETY: as above.
    let call = || unsafe { result(libc::syscall(libc::SYS_madvise, addr, len, advice)) };
    let advice = match advice {
        libc::MADV_DONTNEED => json!("MADV_DONTNEED"),
        other => json!(other.to_string()),
    };
    let fields = |ret: i64| json!({"addr": hex(addr), "len": len, "advice": advice, "ret": ret});
    made(name, "madvise", call, fields)?;
    Ok(())
}

fn remap(name: &str, addr: u64, old_len: usize, len: usize) -> Result<u64> {
    let flags = libc::MREMAP_MAYMOVE;
    // SAFETY: as above.
    let call = || unsafe { result(libc::syscall(libc::SYS_mremap, addr, old_len, len, flags)) };
    let ret = made(name, "mremap", call, |ret| {
        json!({
            "addr": hex(addr), "old_len": old_len, "len": len, "flags": ["MREMAP_MAYMOVE"],
            "ret": address(ret),
        })
    })?;
    Ok(ret as u64)
}

fn at(addr: u64) -> *mut c_void {
    without_provenance_mut(addr as usize)
}

const PROTECTIONS: [(i32, &str); 2] = [
    (libc::PROT_READ, "PROT_READ"),
    (libc::PROT_WRITE, "PROT_WRITE"),
];

const MAPPINGS: [(i32, &str); 6] = [
    (libc::MAP_SHARED, "MAP_SHARED"),
    (libc::MAP_PRIVATE, "MAP_PRIVATE"),
    (libc::MAP_FIXED, "MAP_FIXED"),
    (libc::MAP_ANONYMOUS, "MAP_ANONYMOUS"),
    (libc::MAP_POPULATE, "MAP_POPULATE"),
    (libc::MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"),
];
