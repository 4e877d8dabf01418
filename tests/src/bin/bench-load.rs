//! The loads of `cargo xtask bench`. Each prints one integer: the ns that its hot part took, so that the start-up of
//! whoever traces it is not counted. `start` prints the time (`CLOCK_MONOTONIC`, ns) at which it started; `bystander`
//! the ns of a system call, and on a second line those of a page fault.

use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process;

const LOADS: &str =
    "start, cow-storm, first-touch, forks, spawns, mappings, million-faults or bystander";

fn main() -> Result<()> {
    let started = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    process::begin();
    let load = std::env::args().nth(1);
    let ns = match load.as_deref() {
        Some("start") => started.tv_sec() as u128 * 1_000_000_000 + started.tv_nsec() as u128,
        Some("cow-storm") => cow_storm(20_000)?,
        Some("first-touch") => first_touch(50_000)?,
        Some("forks") => timed(1_000, || process::in_child(|| Ok(())))?,
        Some("spawns") => timed(1_000, spawn)?,
        Some("mappings") => mappings(20_000)?,
        Some("million-faults") => faults_on_every_cpu(1_000_000)?,
        Some("bystander") => return bystander(),
        _ => bail!("name a load: {LOADS}"),
    };
    println!("{ns}");
    Ok(())
}

/// The ns that `count` rounds of `work` take.
fn timed(count: usize, mut work: impl FnMut() -> Result<()>) -> Result<u128> {
    let start = Instant::now();
    for _ in 0..count {
        work()?;
    }
    Ok(start.elapsed().as_nanos())
}

/// Touches pages, forks, and writes all of them again in the child, then in the parent.
fn cow_storm(count: usize) -> Result<u128> {
    let pages = Pages::private(count)?;
    timed(1, || {
        pages.write_all(1);
        process::in_child(|| {
            pages.write_all(2);
            Ok(())
        })?;
        pages.write_all(3);
        Ok(())
    })
}

fn first_touch(count: usize) -> Result<u128> {
    let pages = Pages::private(count)?;
    timed(1, || {
        pages.write_all(1);
        Ok(())
    })
}

fn spawn() -> Result<()> {
    let status = Command::new("/bin/true")
        .status()
        .context("cannot start /bin/true")?;
    ensure!(status.success(), "/bin/true: {status}");
    Ok(())
}

/// Maps, moves the heap's end (up and down in turn), unmaps. No page is touched.
fn mappings(count: usize) -> Result<u128> {
    let length = (4 * PAGE).try_into()?;
    let mut up = false;
    timed(count, || {
        up = !up;
        let step = if up { PAGE as isize } else { -(PAGE as isize) };
        // SAFETY: a new mapping that nobody else knows of, gone before anything uses it.
        unsafe {
            let memory = mmap_anonymous(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE)?;
            munmap(memory, length.get())?;
        }
        // SAFETY: each step up is taken back by the next, and nothing allocates in between.
        let moved = unsafe { libc::sbrk(step) };
        ensure!(
            moved as isize != -1,
            "sbrk: {}",
            std::io::Error::last_os_error()
        );
        Ok(())
    })
}

/// What a system call takes that does next to nothing, and what a fault on a fresh page takes. Each is the median of some
/// batches, in case that the process is taken off its CPU in one.
fn bystander() -> Result<()> {
    const BATCHES: usize = 15;
    const CALLS: usize = 100_000;
    const FAULTS: usize = 10_000;
    process::stay_on_one_cpu()?;
    let pages = Pages::private(FAULTS)?;
    let call = median(BATCHES, CALLS, || {
        timed(CALLS, || {
            // SAFETY: it takes no arguments and always succeeds. Not by the library, which may keep what it returned.
            let _ = unsafe { libc::syscall(libc::SYS_getppid) };
            Ok(())
        })
    })?;
    let fault = median(BATCHES, FAULTS, || {
        pages.unmap_frames()?;
        timed(1, || {
            pages.write_all(1);
            Ok(())
        })
    })?;
    println!("{call:.2}\n{fault:.2}");
    Ok(())
}

/// The ns of one of `count` in the median batch; `batch` gives those of all of them.
fn median(batches: usize, count: usize, batch: impl FnMut() -> Result<u128>) -> Result<f64> {
    let mut all = std::iter::repeat_with(batch)
        .take(batches)
        .collect::<Result<Vec<_>>>()?;
    all.sort_unstable();
    Ok(all[batches / 2] as f64 / count as f64)
}

/// A process on each CPU; together they touch `total` fresh pages, a thousand at a time so that memory holds them.
fn faults_on_every_cpu(total: usize) -> Result<u128> {
    const AT_A_TIME: usize = 1_000;
    let cpus = available_parallelism()?.get();
    let rounds = total.div_ceil(cpus * AT_A_TIME);
    timed(1, || {
        let children = process::children(cpus, |cpu| {
            let mut own = CpuSet::new();
            own.set(cpu)?;
            // Where this CPU may not be used the others do its part.
            let _ = sched_setaffinity(Pid::from_raw(0), &own);
            let pages = Pages::private(AT_A_TIME)?;
            for _ in 0..rounds {
                pages.write_all(1);
                pages.unmap_frames()?;
            }
            Ok(())
        })?;
        children.into_iter().try_for_each(process::wait_success)
    })
}
