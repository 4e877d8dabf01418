//! Programs that are a burden, each for the cases of `cargo xtask soak`. None runs longer than ten minutes.

use std::process::Command;
use std::sync::Barrier;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::ProtFlags;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, pause};
use tests::subject::fifo::Fifo;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process::{self, Gate};
use tests::subject::report::{Fact, Usage, note, report};

const USAGE: &str = "usage: load faults COUNT | forks COUNT ROUNDS | flood FIFO FILE... | mappings COUNT PROCESSES FIFO
     | copies MAPPINGS FORKS | sparse CPU TABLES FORKS | far GIB | threads COUNT PROCESSES | chain COUNT | calls COUNT";

/// Pages that one step of a page table has.
const TABLE: usize = 512;

fn main() -> Result<()> {
    process::begin();
    let args: Vec<_> = std::env::args().skip(1).collect();
    let number =
        |at: usize| -> Result<usize> { args.get(at).context(USAGE)?.parse().context(USAGE) };
    let word = |at: usize| args.get(at).map(String::as_str).context(USAGE);
    match word(0)? {
        "faults" => faults(number(1)?),
        "forks" => forks(number(1)?, number(2)?),
        "flood" => flood(word(1)?, args.get(2..).unwrap_or_default()),
        "mappings" => mappings(number(1)?, number(2)?, word(3)?),
        "copies" => copies(number(1)?, number(2)?),
        "sparse" => sparse(number(1)?, number(2)?, number(3)?),
        "far" => far(number(1)?),
        "threads" => threads(number(1)?, number(2)?),
        "chain" => chain(number(1)?),
        "calls" => calls(number(1)?),
        _ => bail!("{USAGE}"),
    }
}

/// What `whose` cost, as the kernel counts it.
fn usage(name: &str, whose: UsageWho) -> Result<Usage> {
    let usage = getrusage(whose)?;
    Ok(Usage {
        name: name.to_owned(),
        pid: std::process::id(),
        minor: usage.minor_page_faults() as u64,
        major: usage.major_page_faults() as u64,
    })
}

/// Processes that fault as fast as they can, until a signal ends this one.
fn faults(count: usize) -> Result<()> {
    let at_work = Gate::new()?;
    let first = getpid();
    let children = process::children(count, |_| {
        let pages = Pages::private(16 * 1024)?;
        pages.write_all(1);
        at_work.open()?;
        while nix::unistd::getppid() == first {
            pages.unmap_frames()?;
            pages.write_all(1);
        }
        Ok(())
    })?;
    (0..count).try_for_each(|_| at_work.wait())?;
    note("ready", true)?;
    pause();
    for child in children {
        kill(child, Signal::SIGKILL)?;
    }
    Ok(())
}

/// Processes that each fork child after child, which writes what it got, and run a program now and then.
fn forks(count: usize, rounds: usize) -> Result<()> {
    let work = |_| -> Result<()> {
        let pages = Pages::private(256)?;
        for round in 0..rounds {
            pages.write_all(1);
            process::in_child(|| {
                ensure!(
                    (0..pages.count()).all(|i| pages.read(i) == 1),
                    "other contents"
                );
                pages.write_all(2);
                Ok(())
            })?;
            ensure!(
                (0..pages.count()).all(|i| pages.read(i) == 1),
                "the child's writes show"
            );
            if round % 8 == 0 {
                ensure!(
                    Command::new("/bin/true").status()?.success(),
                    "/bin/true fails"
                );
            }
        }
        Ok(())
    };
    let children = process::children(count, work)?;
    note("ready", true)?;
    children.into_iter().try_for_each(process::wait_success)?;
    note("pid", getpid().as_raw())?;
    report(&Fact::Usage(usage("children", UsageWho::RUSAGE_CHILDREN)?))
}

/// More faults than any buffer takes, then each FILE is run; when it may go on, each is run again.
fn flood(fifo: &str, files: &[String]) -> Result<()> {
    let mut fifo = Fifo::open(fifo)?;
    let pages = Pages::private(16 * 1024)?;
    let run = |file: &String| -> Result<()> {
        ensure!(Command::new(file).status()?.success(), "{file} fails");
        Ok(())
    };
    note("ready", true)?;
    fifo.wait()?;
    for _ in 0..128 {
        pages.write_all(1);
        pages.unmap_frames()?;
    }
    // Faults leave a part of the buffer for other records; these fill that, too.
    let one = Pages::private(1)?;
    for _ in 0..200_000 {
        one.unmap_frames()?;
    }
    files.iter().try_for_each(run)?;
    note("flooded", true)?;
    fifo.wait()?;
    files.iter().try_for_each(run)
}

/// One-page mappings, each apart from the next.
fn map_apart(count: usize) -> Result<()> {
    let all = Pages::reserved(2 * count)?;
    all.protect(ProtFlags::PROT_NONE)?;
    for i in 0..count {
        // SAFETY: mapped above.
        let page = unsafe { Pages::at(all.addr(2 * i), 1) }?;
        page.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        page.write(0, 1);
    }
    Ok(())
}

/// Processes of that many mappings and as many gaps. When they may go on, each faults 51,200 times.
fn mappings(count: usize, processes: usize, fifo: &str) -> Result<()> {
    let mut fifo = Fifo::open(fifo)?;
    let (mapped, go_on) = (Gate::new()?, Gate::new()?);
    let children = process::children(processes, |_| {
        let pages = Pages::private(1024)?;
        map_apart(count)?;
        usage("warm", UsageWho::RUSAGE_SELF)?;
        mapped.open()?;
        go_on.wait()?;
        for _ in 0..50 {
            pages.write_all(1);
            pages.unmap_frames()?;
        }
        Ok(())
    })?;
    (0..processes).try_for_each(|_| mapped.wait())?;
    let pids: Vec<_> = children.iter().map(|pid| pid.as_raw()).collect();
    note("processes", pids)?;
    note("ready", true)?;
    fifo.wait()?;
    (0..processes).try_for_each(|_| go_on.open())?;
    children.into_iter().try_for_each(process::wait_success)
}

/// Children of a process of that many mappings, all alive at once.
fn copies(mappings: usize, forks: usize) -> Result<()> {
    map_apart(mappings)?;
    let end = Gate::new()?;
    let children = process::children(forks, |_| end.wait())?;
    children.iter().try_for_each(|_| end.open())?;
    children.into_iter().try_for_each(process::wait_success)
}

/// Forks of memory with one page in each page table.
fn sparse(cpu: usize, tables: usize, forks: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let pages = Pages::reserved(tables * TABLE)?;
    (0..tables).for_each(|i| pages.write(i * TABLE, 1));
    note("ready", true)?;
    (0..forks).try_for_each(|_| process::in_child(|| Ok(())))
}

/// A fork of memory that is spread far, and of 1,024 pages behind it that the child writes.
fn far(gib: usize) -> Result<()> {
    let near = Pages::private(1024)?;
    near.write_all(1);
    let far = Pages::reserved(gib * TABLE * TABLE)?;
    (0..gib).for_each(|i| far.write(i * TABLE * TABLE, 1));
    let child = process::child(|| {
        near.write_all(2);
        Ok(())
    })?;
    note("near", near.addr(0))?;
    note("child", child.as_raw())?;
    process::wait_success(child)
}

/// Processes of so many threads, of which each writes a page, and all live at the same time.
fn threads(count: usize, processes: usize) -> Result<()> {
    let (there, end) = (Gate::new()?, Gate::new()?);
    let children = process::children(processes, |_| {
        let pages = Pages::private(count)?;
        let area = pages.addr(0);
        let (all_there, all_end) = (Barrier::new(count + 1), Barrier::new(count + 1));
        std::thread::scope(|scope| {
            let spawn = |i: usize| {
                let thread = std::thread::Builder::new().stack_size(4 * PAGE);
                let (all_there, all_end) = (&all_there, &all_end);
                thread.spawn_scoped(scope, move || -> Result<()> {
                    // SAFETY: mapped above, and this page is this thread's alone.
                    unsafe { Pages::at(area, count) }?.write(i, 1);
                    all_there.wait();
                    all_end.wait();
                    Ok(())
                })
            };
            let threads = (0..count).map(spawn).collect::<Result<Vec<_>, _>>()?;
            all_there.wait();
            there.open()?;
            end.wait()?;
            all_end.wait();
            threads
                .into_iter()
                .try_for_each(|thread| process::joined(thread.join())?)
        })
    })?;
    (0..processes).try_for_each(|_| there.wait())?;
    (0..processes).try_for_each(|_| end.open())?;
    children.into_iter().try_for_each(process::wait_success)
}

/// Generation after generation, each of which writes a page of its parent's and one of its own.
fn chain(count: usize) -> Result<()> {
    let pages = Pages::private(256)?;
    pages.write_all(1);
    generation(count, &pages)
}

fn generation(left: usize, pages: &Pages) -> Result<()> {
    if left == 0 {
        return Ok(());
    }
    let child = process::child(|| {
        pages.write(left * 3 % pages.count(), 2);
        generation(left - 1, pages)
    })?;
    pages.write(left % pages.count(), 3);
    process::wait_success(child)
}

/// Maps, writes and unmaps a page, again and again.
fn calls(count: usize) -> Result<()> {
    for _ in 0..count {
        let pages = Pages::private(1)?;
        pages.write(0, 1);
        // SAFETY: mapped above, and nothing uses it any more.
        nix::errno::Errno::result(unsafe { libc::munmap(pages.page(0).as_ptr().cast(), PAGE) })?;
    }
    Ok(())
}
