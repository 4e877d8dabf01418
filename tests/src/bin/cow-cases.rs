//! The cases of the kernel's own test of copy-on-write, `tools/testing/selftests/mm/cow.c`, by its names for them:
//! `cow-cases`. A touch is named "CASE ... with SORT OF MEMORY"; what can't be done here is a note `without`.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MmapAdvise, ProtFlags, munmap};
use nix::unistd::ftruncate;
use tests::subject::cow_memory::{SORTS, huge, prepare, split};
use tests::subject::hugetlb::{self, Pool, SMALL};
use tests::subject::memory::{PAGE, Pages};
use tests::subject::pin::pin;
use tests::subject::process::{self, Gate};
use tests::subject::report::without;
use tests::subject::{files, witness};

/// What is done before the write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Basic,
    Splice(Splicer),
    /// A buffer of `io_uring`, and whether a fork follows.
    Pin(bool),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Splicer {
    Child,
    ParentBefore,
    ParentAfter,
}

/// The cases for anonymous memory; and whether the page is made read-only and writable again before the write.
const CASES: [(&str, Case, bool); 8] = [
    ("Basic COW after fork()", Case::Basic, false),
    (
        "Basic COW after fork() with mprotect() optimization",
        Case::Basic,
        true,
    ),
    (
        "vmsplice() + unmap in child",
        Case::Splice(Splicer::Child),
        false,
    ),
    (
        "vmsplice() + unmap in child with mprotect() optimization",
        Case::Splice(Splicer::Child),
        true,
    ),
    (
        "vmsplice() before fork(), unmap in parent after fork()",
        Case::Splice(Splicer::ParentBefore),
        false,
    ),
    (
        "vmsplice() + unmap in parent after fork()",
        Case::Splice(Splicer::ParentAfter),
        false,
    ),
    (
        "R/O-mapping a page registered as iouring fixed buffer",
        Case::Pin(false),
        true,
    ),
    (
        "fork() with an iouring fixed buffer",
        Case::Pin(true),
        false,
    ),
];

const NO_POOL: &str = "no pages of 2 MiB to be had for vm.nr_hugepages";

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    let pool = Pool::reserve(24)?;
    for sort in SORTS {
        for (name, case, protect) in CASES {
            let name = format!("{name} ... with {sort}");
            if sort == "hugetlb" && pool.is_none() {
                without(&name, NO_POOL)?;
                continue;
            }
            match prepare(sort).with_context(|| name.clone())? {
                Ok(pages) => run(&name, case, protect, &pages).with_context(|| name.clone())?,
                Err(why) => without(&name, why)?,
            }
        }
    }
    collapsed()?;
    others(pool.is_some())
}

/// One case, with the first of these pages.
fn run(name: &str, case: Case, protect: bool, pages: &Pages) -> Result<()> {
    let (ready, done) = (Gate::new()?, Gate::new()?);
    let write = || {
        if protect {
            pages.protect(ProtFlags::PROT_READ)?;
            pages.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        }
        witness::write(name, pages, 0)
    };
    let early = match case {
        Case::Splice(Splicer::ParentBefore) => Some(splice(pages)?),
        _ => None,
    };
    let pinned = match case {
        Case::Pin(_) => Some(pin(pages, 0..1)?),
        _ => None,
    };
    if case == Case::Pin(false) {
        return write();
    }
    let by_child = matches!(
        case,
        Case::Splice(Splicer::ParentBefore | Splicer::ParentAfter)
    );
    let child = process::child(|| {
        if by_child {
            ready.wait()?;
            write()?;
        } else {
            let spliced = match case {
                Case::Splice(_) => Some(splice(pages)?),
                _ => None,
            };
            if spliced.is_some() {
                unmap(pages)?;
            }
            ready.open()?;
            done.wait()?;
        }
        Ok(())
    })?;
    let late = match case {
        Case::Splice(Splicer::ParentAfter) => Some(splice(pages)?),
        _ => None,
    };
    if by_child {
        unmap(pages)?;
        ready.open()?;
    } else {
        ready.wait()?;
        write()?;
        done.open()?;
    }
    process::wait_success(child)?;
    drop((early, late, pinned));
    Ok(())
}

/// Has a pipe refer to the first of these pages, for as long as it is open.
fn splice(pages: &Pages) -> Result<(PipeReader, PipeWriter)> {
    let pipe = std::io::pipe()?;
    let part = libc::iovec {
        iov_base: pages.page(0).as_ptr().cast(),
        iov_len: PAGE,
    };
    // SAFETY: one part, a page that is mapped.
    let length = unsafe { libc::vmsplice(pipe.1.as_raw_fd(), &raw const part, 1, 0) };
    ensure!(length == PAGE as isize, "vmsplice: {}", Errno::last());
    Ok(pipe)
}

fn unmap(pages: &Pages) -> Result<()> {
    // SAFETY: this process doesn't touch them again.
    Ok(unsafe { munmap(pages.page(0).cast(), pages.count() * PAGE) }?)
}

/// Huge pages that were mapped by small entries, and collapsed again.
fn collapsed() -> Result<()> {
    const COLLAPSE: i32 = 25;
    let collapse = |huge: &Pages| {
        // SAFETY: advice for memory of this program's own.
        let done = unsafe { libc::madvise(huge.page(0).as_ptr().cast(), SMALL * PAGE, COLLAPSE) };
        Errno::result(done)
    };
    // Which half a fork doesn't share.
    for (name, before, kept) in [
        ("collapsing before fork()", true, None),
        ("collapsing after fork() (fully shared)", false, None),
        (
            "collapsing after fork() (lower shared)",
            false,
            Some(SMALL / 2),
        ),
        ("collapsing after fork() (upper shared)", false, Some(0)),
    ] {
        let name = format!("Basic COW after fork() when {name}");
        let Some(huge) = huge(1)? else {
            without(&name, "the kernel gives no huge page")?;
            continue;
        };
        split(&huge)?;
        if before && let Err(errno) = collapse(&huge) {
            without(&name, format!("MADV_COLLAPSE: {errno}"))?;
            continue;
        }
        let half = kept.map(|first| {
            // SAFETY: within the huge page.
            unsafe { Pages::at(huge.addr(first), SMALL / 2) }
        });
        let half = half.transpose()?;
        if let Some(half) = half {
            half.advise(MmapAdvise::MADV_DONTFORK)?;
        }
        let done = Gate::new()?;
        let child = process::child(|| done.wait())?;
        if let Some(half) = half {
            half.advise(MmapAdvise::MADV_DOFORK)?;
        }
        match if before { Ok(0) } else { collapse(&huge) } {
            Ok(_) => witness::write(&name, &huge, 0)?,
            Err(errno) => without(&name, format!("MADV_COLLAPSE: {errno}"))?,
        }
        done.open()?;
        process::wait_success(child)?;
    }
    Ok(())
}

/// Private memory whose pages are not anonymous.
fn others(has_pool: bool) -> Result<()> {
    let basic = |sort: &str, pages: &Pages| {
        witness::read(&format!("read of {sort}"), pages, 0)?;
        witness::write(&format!("Basic COW ... with {sort}"), pages, 0)
    };
    basic("shared zeropage", &Pages::private(1)?)?;
    let memfd = memfd_create(c"memtrace-subject", MFdFlags::MFD_CLOEXEC)?;
    ftruncate(&memfd, PAGE as i64)?;
    Pages::shared_file(&memfd, 0, 1)?.write(0, 1);
    basic("memfd", &Pages::private_file(&memfd, 0, 1)?)?;
    let of_hugetlb = "memfd hugetlb";
    if has_pool {
        let memfd = hugetlb::file(1)?;
        Pages::shared_file(&memfd, 0, SMALL)?.write(0, 1);
        basic(of_hugetlb, &Pages::private_file(&memfd, 0, SMALL)?)?;
    } else {
        for name in ["read of", "Basic COW ... with"] {
            without(&format!("{name} {of_hugetlb}"), NO_POOL)?;
        }
    }
    let file = files::temporary(1)?;
    basic("tmpfile", &Pages::private_file(&file, 0, 1)?)?;
    match huge(0)? {
        Some(huge) => basic("huge zeropage", &huge),
        None => without("Basic COW ... with huge zeropage", "no huge page"),
    }
}
