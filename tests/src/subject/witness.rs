//! Touching memory before witnesses: the page table, the clock and rusage.

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{getpid, gettid};

use super::memory::{PAGE, Pages, code, frame, mapped_file};
use super::report::{Access, Fact, Touch, report};

/// Reads page `i` and reports what the kernel did.
pub fn read(name: &str, pages: &Pages, i: usize) -> Result<()> {
    touch(name, pages.addr(i), Access::Read, true, || {
        pages.read(i);
    })
}

/// Writes page `i` and reports what the kernel did.
pub fn write(name: &str, pages: &Pages, i: usize) -> Result<()> {
    touch(name, pages.addr(i), Access::Write, true, || {
        pages.write(i, 0x5a);
    })
}

/// Reports what the kernel did while `act` touched `addr`; `exact` as in [`Touch`].
pub fn touch(name: &str, addr: u64, access: Access, exact: bool, act: impl FnOnce()) -> Result<()> {
    let before = frame(addr)?;
    // The pages that asking needs are touched here, not between the two answers; the stack's, too, which a fork shares.
    write_stack();
    counts()?;
    now()?;
    let from = now()?;
    let (minor, major) = counts()?;
    let begin = now()?;
    act();
    let end = now()?;
    let (minor_after, major_after) = counts()?;
    let until = now()?;
    let after = frame(addr)?;
    // Only now, since it takes memory from malloc, and that touches pages of its own.
    let (file, code) = (mapped_file(addr)?, code()?);
    report(&Fact::Touch(Touch {
        name: name.to_owned(),
        pid: getpid().as_raw() as u32,
        tid: gettid().as_raw() as u32,
        addr,
        access,
        exact,
        before,
        after,
        minor: minor_after - minor,
        major: major_after - major,
        from,
        until,
        within: (begin, end),
        file,
        code,
    }))
}

/// Writes as much of the stack as what is called next needs.
#[inline(never)]
fn write_stack() {
    std::hint::black_box([1_u8; 4 * PAGE]);
}

/// Now, in ns of `CLOCK_MONOTONIC`. By system call: the usual way goes through the vdso, and touches its pages.
pub fn now() -> Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel fills in `now`.
    match unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now) } {
        0 => Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// The minor and major faults of this thread so far, as rusage has them.
pub fn counts() -> Result<(u64, u64)> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok((
        usage.minor_page_faults() as u64,
        usage.major_page_faults() as u64,
    ))
}
