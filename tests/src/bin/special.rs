//! Memory with which the kernel does something out of the ordinary:
//! `special userfaultfd|hugetlb|swap|protected|soft-dirty|guard|grows-down|vsyscall|numa`.
//! Where this kernel doesn't have it, a note `without` says why.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use serde_json::json;
use tests::subject::death::dies;
use tests::subject::hugetlb;
use tests::subject::memory::{PAGE, Pages, is_soft_dirty, is_swapped, nodes};
use tests::subject::process::{self, Gate};
use tests::subject::report::{Access, note, without};
use tests::subject::uffd::{Answer, Handler};
use tests::subject::witness::{self, read, write};

fn main() -> Result<()> {
    process::begin();
    match std::env::args().nth(1).as_deref() {
        Some("userfaultfd") => userfaultfd(),
        Some("hugetlb") => huge_tlb(),
        Some("swap") => swap(),
        Some("protected") => protected(),
        Some("soft-dirty") => soft_dirty(),
        Some("guard") => guard(),
        Some("grows-down") => grows_down(),
        Some("vsyscall") => vsyscall(),
        Some("numa") => numa(),
        _ => bail!(
            "usage: special userfaultfd|hugetlb|swap|protected|soft-dirty|guard|grows-down|vsyscall|numa"
        ),
    }
}

/// Missing pages that a handler supplies, and a protected one that it lets be written.
fn userfaultfd() -> Result<()> {
    for (name, is_write, answer, shared) in [
        (
            "read of a page that a handler copies",
            false,
            Answer::Copy,
            false,
        ),
        (
            "write to a page that a handler copies",
            true,
            Answer::Copy,
            false,
        ),
        (
            "read of a zero page from a handler",
            false,
            Answer::Zero,
            false,
        ),
        (
            "write to a shared page that a handler copies",
            true,
            Answer::Copy,
            true,
        ),
        (
            "write that a handler lets through",
            true,
            Answer::Unprotect,
            false,
        ),
    ] {
        let pages = if shared {
            Pages::shared(1)?
        } else {
            Pages::private(1)?
        };
        if answer == Answer::Unprotect {
            pages.write(0, 1);
        }
        let handler = match Handler::new(&pages, answer)? {
            Ok(handler) => handler,
            Err(errno) => {
                without(name, format!("userfaultfd: {errno}"))?;
                continue;
            }
        };
        let answered = thread::scope(|scope| {
            let answering = scope.spawn(|| handler.answer(&format!("asked: {name}"), answer));
            let touched = if is_write {
                write(name, &pages, 0)
            } else {
                read(name, &pages, 0)
            };
            touched.and(answering.join().ok().context("the handler panicked")?)
        });
        answered.context(name)?;
    }
    Ok(())
}

/// Pages of 2 MiB from the pool: filled, shared by a fork, copied.
fn huge_tlb() -> Result<()> {
    process::stay_on_one_cpu()?;
    let Some(_pool) = hugetlb::Pool::reserve(14)? else {
        return without("hugetlb", "no pages of 2 MiB to be had for vm.nr_hugepages");
    };
    let pages = hugetlb::private(2)?;
    write("write to untouched hugetlb memory", &pages, 1)?;
    read(
        "read of untouched hugetlb memory",
        &pages,
        hugetlb::SMALL + 3,
    )?;
    write(
        "write to hugetlb memory that was read",
        &pages,
        hugetlb::SMALL + 3,
    )?;
    let done = Gate::new()?;
    let child = process::child(|| {
        write("the child's write to hugetlb memory", &pages, 1)?;
        done.open()
    })?;
    done.wait()?;
    process::wait_success(child)?;
    write("the parent's write to hugetlb memory", &pages, 1)?;
    in_a_file_of_hugetlbfs()?;
    let shared = hugetlb::shared(1)?;
    write("write to fresh shared hugetlb memory", &shared, 1)?;
    process::in_child(|| read("the child's read of shared hugetlb memory", &shared, 1))
}

/// Private memory of a file that has its first page and its third.
fn in_a_file_of_hugetlbfs() -> Result<()> {
    let file = hugetlb::file(3)?;
    let there = Pages::shared_file(&file, 0, 3 * hugetlb::SMALL)?;
    let pages = Pages::private_file(&file, 0, 3 * hugetlb::SMALL)?;
    for (page, name) in [
        (0, "write to the first page of a hugetlb file"),
        (1, "write to a page that a hugetlb file lacks"),
        (2, "write to the third page of a hugetlb file"),
    ] {
        if page != 1 {
            there.write(page * hugetlb::SMALL, 1);
        }
        write(name, &pages, page * hugetlb::SMALL + 3)?;
    }
    Ok(())
}

/// Pages that were in swap.
fn swap() -> Result<()> {
    process::stay_on_one_cpu()?;
    let pages = Pages::private(3)?;
    pages.write_all(7);
    if fs::read_to_string("/proc/swaps")?.lines().count() < 2 {
        return without("swap", "no swap is on");
    }
    // SAFETY: advice for pages of this program's own.
    let done =
        unsafe { libc::madvise(pages.page(0).as_ptr().cast(), 3 * PAGE, libc::MADV_PAGEOUT) };
    Errno::result(done).context("MADV_PAGEOUT")?;
    for i in 0..3 {
        ensure!(is_swapped(pages.addr(i))?, "page {i} was not swapped out");
    }
    // Reads around a page come from the disk with it, and are found in the swap cache.
    read("read of a swapped page", &pages, 0)?;
    write("write to a swapped page", &pages, 1)?;
    process::in_child(|| write("the child's write to a swapped page", &pages, 2))
}

/// Written, made read-only and writable again, and written.
fn protected() -> Result<()> {
    process::stay_on_one_cpu()?;
    let pages = Pages::private(2)?;
    pages.write_all(1);
    pages.protect(ProtFlags::PROT_READ)?;
    pages.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    write("write after mprotect", &pages, 0)?;
    pages.protect(ProtFlags::PROT_NONE)?;
    pages.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    read("read after PROT_NONE", &pages, 1)
}

/// Written after the soft-dirty bits were cleared, which protects the pages.
fn soft_dirty() -> Result<()> {
    process::stay_on_one_cpu()?;
    let pages = Pages::private(1)?;
    pages.write(0, 1);
    if !is_soft_dirty(pages.addr(0))? {
        return without("soft-dirty", "no page is soft-dirty");
    }
    fs::write("/proc/self/clear_refs", "4")?;
    ensure!(!is_soft_dirty(pages.addr(0))?, "not cleared");
    write("write to a page that was not soft-dirty", &pages, 0)?;
    ensure!(is_soft_dirty(pages.addr(0))?, "not marked");
    Ok(())
}

/// A guard page, and the page beside it.
fn guard() -> Result<()> {
    const GUARD_INSTALL: i32 = 102;
    const GUARD_REMOVE: i32 = 103;
    let pages = Pages::private(2)?;
    let advise = |advice| {
        // SAFETY: advice for a page of this program's own, which holds nothing.
        Errno::result(unsafe { libc::madvise(pages.page(1).as_ptr().cast(), PAGE, advice) })
    };
    if let Err(errno) = advise(GUARD_INSTALL) {
        return without("guard", format!("MADV_GUARD_INSTALL: {errno}"));
    }
    write("write beside a guard page", &pages, 0)?;
    dies("write to a guard page", pages.addr(1), Access::Write)?;
    advise(GUARD_REMOVE)?;
    write("write where a guard page was", &pages, 1)
}

/// Memory that grows downwards.
fn grows_down() -> Result<()> {
    // The pages that it grows into must be free.
    let hole = Pages::private(512)?;
    // SAFETY: nothing is in these pages.
    let pages = unsafe {
        nix::sys::mman::munmap(hole.page(0).cast(), 512 * PAGE)?;
        let at = libc::mmap(
            hole.page(511).as_ptr().cast(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN | libc::MAP_FIXED,
            -1,
            0,
        );
        ensure!(at != libc::MAP_FAILED, "MAP_GROWSDOWN: {}", Errno::last());
        Pages::at(hole.addr(510), 2)?
    };
    write("write to memory that grows down", &pages, 1)?;
    write("write below memory that grows down", &pages, 0)
}

/// time(2) as programs of old call it: by a jump to an address of the kernel's.
fn vsyscall() -> Result<()> {
    const TIME: usize = 0xffff_ffff_ff60_0400;
    if !fs::read_to_string("/proc/self/maps")?.contains("[vsyscall]") {
        return without("vsyscall", "this kernel has no such page");
    }
    // SAFETY: the page is there, and time is at that address of it.
    let time: extern "C" fn(*mut libc::time_t) -> libc::time_t =
        unsafe { std::mem::transmute(TIME) };
    ensure!(time(std::ptr::null_mut()) > 0, "no time");
    note("vsyscall", json!(TIME))
}

/// A page that the kernel makes inaccessible to see who uses it. It does so to processes of several threads only.
fn numa() -> Result<()> {
    const SWITCH: &str = "/proc/sys/kernel/numa_balancing";
    if nodes() < 2 {
        return without("numa", "the machine has one node");
    }
    let before = fs::read_to_string(SWITCH)?;
    File::create(SWITCH)?.write_all(b"1")?;
    let pages = Pages::private(64)?;
    pages.write_all(1);
    let stop = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(40);
    let faulted = thread::scope(|scope| -> Result<Vec<u64>> {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        let read = || -> Result<Vec<u64>> {
            let mut faulted = Vec::with_capacity(pages.count());
            while Instant::now() < end && faulted.len() < pages.count() / 2 {
                faulted.clear();
                for i in 0..pages.count() {
                    let (before, _) = witness::counts()?;
                    pages.read(i);
                    if witness::counts()?.0 > before {
                        faulted.push(pages.addr(i));
                    }
                }
            }
            Ok(faulted)
        };
        let faulted = read();
        stop.store(true, Relaxed);
        faulted
    });
    fs::write(SWITCH, before.trim())?;
    note("hinted", json!(faulted?))
}
