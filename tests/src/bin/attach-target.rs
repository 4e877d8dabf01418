//! Programs to attach to: `attach-target idle|faults|prefork|stream|forks|maps|threads|crowd FIFO`. Each reports "ready", goes on at each byte
//! in FIFO, and reports "done" before it waits for the last. Those that work all the time do some when they start, more whenever
//! they are asked to, and some more when they are to go on: so it is counted, and not a matter of time, what they do.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use nix::unistd::gettid;
use serde_json::json;
use tests::subject::act::write;
use tests::subject::fifo::Fifo;
use tests::subject::files;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::pagemap::Pagemap;
use tests::subject::process::{self, Gate};
use tests::subject::report::note;

const USAGE: &str = "usage: attach-target idle|faults|prefork|stream|forks|maps|threads|crowd FIFO";

fn main() -> Result<()> {
    process::begin();
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [mode, fifo] = &args[..] else {
        bail!("{USAGE}")
    };
    match mode.as_str() {
        "idle" => idle(&mut Fifo::open(fifo)?),
        "faults" => faults(&mut Fifo::open(fifo)?),
        "prefork" => prefork(&mut Fifo::open(fifo)?),
        "stream" => stream(&mut Fifo::open(fifo)?),
        "forks" => forks(&mut Fifo::open(fifo)?),
        "maps" => maps(&mut Fifo::open(fifo)?),
        "threads" => threads(&mut Fifo::open(fifo)?),
        "crowd" => crowd(&mut Fifo::open(fifo)?),
        _ => bail!("{USAGE}"),
    }
}

fn addrs(pages: &Pages, which: std::ops::Range<usize>) -> Vec<u64> {
    which.map(|i| pages.addr(i)).collect()
}

/// Memory of every sort, and threads; then touches of every sort, and a fork.
fn idle(fifo: &mut Fifo) -> Result<()> {
    process::stay_on_one_cpu()?;
    let file = files::temporary(50)?;
    let (anon, shared) = (Pages::private(300)?, Pages::shared(40)?);
    let of_file = Pages::private_file(&file, 0, 50)?;
    for i in 0..200 {
        anon.write(i, 1);
    }
    for i in 200..220 {
        anon.read(i);
    }
    for i in 0..10 {
        of_file.write(i, 1);
    }
    for i in 10..30 {
        of_file.read(i);
    }
    for i in 0..25 {
        shared.write(i, 1);
    }
    let pagemap = Pagemap::new()?;
    note(
        "areas",
        json!({"anon": anon.addr(0), "file": of_file.addr(0), "shared": shared.addr(0)}),
    )?;

    let all_wait = Barrier::new(3);
    let at_end = [Gate::new()?, Gate::new()?];
    std::thread::scope(|scope| {
        for gate in &at_end {
            scope.spawn(|| {
                all_wait.wait();
                gate.wait()
            });
        }
        all_wait.wait();
        note("ready", std::process::id())?;
        fifo.wait()?;

        write(&pagemap, &addrs(&anon, 0..10))?;
        write(&pagemap, &addrs(&anon, 200..240))?;
        write(&pagemap, &addrs(&of_file, 5..15))?;
        write(&pagemap, &addrs(&shared, 20..30))?;
        process::in_child(|| write(&pagemap, &addrs(&anon, 50..80)))?;
        write(&pagemap, &addrs(&anon, 50..60))?;
        note("done", true)?;
        fifo.wait()?;
        at_end.iter().try_for_each(Gate::open)
    })
}

/// A fault for each of so many pages, and nothing else.
fn faults(fifo: &mut Fifo) -> Result<()> {
    let pages = Pages::private(8000)?;
    note("count", pages.count())?;
    note("ready", std::process::id())?;
    fifo.wait()?;
    pages.write_all(1);
    note("done", true)?;
    fifo.wait()
}

/// A child from before, and another from after.
fn prefork(fifo: &mut Fifo) -> Result<()> {
    process::stay_on_one_cpu()?;
    let pages = Pages::private(200)?;
    pages.write_all(1);
    let pagemap = Pagemap::new()?;
    let write = |which| write(&pagemap, &addrs(&pages, which));
    note("area", pages.addr(0))?;

    let (to_old, to_new, back) = (Gate::new()?, Gate::new()?, Gate::new()?);
    let old = process::child(|| {
        to_old.wait()?;
        write(0..40)?;
        back.open()?;
        to_old.wait()?;
        write(100..110)?;
        back.open()?;
        to_old.wait()
    })?;
    note("old", old.as_raw())?;
    note("ready", std::process::id())?;
    fifo.wait()?;

    to_old.open()?;
    back.wait()?;
    write(40..70)?;
    write(0..20)?;
    let new = process::child(|| {
        write(100..120)?;
        write(0..5)?;
        back.open()?;
        to_new.wait()
    })?;
    note("new", new.as_raw())?;
    back.wait()?;
    to_old.open()?;
    back.wait()?;
    write(100..115)?;
    note("done", true)?;

    fifo.wait()?;
    to_old.open()?;
    to_new.open()?;
    process::wait_success(old)?;
    process::wait_success(new)
}

/// Does some work at the start, at each byte that asks for more, and at the one that lets it go on.
fn at_work(fifo: &mut Fifo, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    work()?;
    note("ready", std::process::id())?;
    while fifo.wants_more()? {
        work()?;
    }
    work()
}

/// Two threads that write one fresh page after the other.
fn stream(fifo: &mut Fifo) -> Result<()> {
    const MOST: usize = 1 << 18;
    /// Pages that each writes in one go; as many are left for the last.
    const SOME: usize = 64;
    /// How long a page takes at least: so that a snapshot comes in the middle.
    const PACE: Duration = Duration::from_micros(50);
    // Each is a mapping of its own: what is around it may not be touched.
    let all = Pages::private(2 * MOST + 3)?;
    for i in [0, MOST + 1, 2 * MOST + 2] {
        // SAFETY: mapped above.
        unsafe { Pages::at(all.addr(i), 1) }?.protect(ProtFlags::PROT_NONE)?;
    }
    let areas = [1, MOST + 2].map(|i| all.addr(i));
    note("areas", json!(areas))?;
    let write = |area: u64, from: usize| -> Result<()> {
        // SAFETY: mapped above, and this thread's alone.
        let pages = unsafe { Pages::at(area, MOST) }?;
        for page in from..from + SOME {
            let start = Instant::now();
            pages.write(page, 1);
            while start.elapsed() < PACE {
                std::hint::spin_loop();
            }
        }
        Ok(())
    };
    let mut written = 0;
    let mut write_some = |most: usize| {
        if written + SOME <= most {
            both(areas.map(|area| move || write(area, written)))?;
            written += SOME;
        }
        Ok(())
    };
    at_work(fifo, || write_some(MOST - SOME))?;
    write_some(MOST)?;
    note("written", json!([written, written]))?;
    note("done", true)?;
    fifo.wait()
}

/// Has two threads work at the same time.
fn both(work: [impl FnOnce() -> Result<()> + Send; 2]) -> Result<()> {
    std::thread::scope(|scope| {
        let threads = work.map(|work| scope.spawn(work));
        threads
            .into_iter()
            .try_for_each(|thread| process::joined(thread.join())?)
    })
}

/// Forks one child after the other, each of which writes five pages.
fn forks(fifo: &mut Fifo) -> Result<()> {
    const SOME: usize = 20;
    let pages = Pages::private(20)?;
    pages.write_all(1);
    note("area", pages.addr(0))?;
    let mut children = Vec::new();
    at_work(fifo, || {
        for _ in 0..SOME {
            let child = process::child(|| {
                (0..5).for_each(|i| pages.write(i, 2));
                Ok(())
            })?;
            children.push(child.as_raw());
            process::wait_success(child)?;
        }
        Ok(())
    })?;
    note("children", json!(children))?;
    note("done", true)?;
    fifo.wait()
}

/// Two threads that map memory, write it, protect a part of it, move it, and unmap it.
fn maps(fifo: &mut Fifo) -> Result<()> {
    const SOME: usize = 50;
    let work = || -> Result<()> {
        for _ in 0..SOME {
            let pages = Pages::private(16)?;
            pages.write_all(1);
            // SAFETY: within what was mapped above.
            unsafe { Pages::at(pages.addr(4), 4) }?.protect(ProtFlags::PROT_READ)?;
            let (start, length) = (pages.page(8).as_ptr().cast(), 8 * PAGE);
            // SAFETY: what was mapped above.
            let moved = unsafe { libc::mremap(start, length, 2 * length, libc::MREMAP_MAYMOVE) };
            ensure!(moved != libc::MAP_FAILED, "mremap: {}", Errno::last());
            // SAFETY: what has been moved.
            unsafe { Pages::at(moved as u64, 16) }?.write_all(1);
            // SAFETY: nothing uses it any more.
            Errno::result(unsafe { libc::munmap(moved, 2 * length) })?;
            // SAFETY: as above.
            Errno::result(unsafe { libc::munmap(pages.page(0).as_ptr().cast(), 8 * PAGE) })?;
        }
        Ok(())
    };
    at_work(fifo, || both([work, work]))?;
    note("done", true)?;
    fifo.wait()
}

/// One thread after the other, each of which writes a page.
fn threads(fifo: &mut Fifo) -> Result<()> {
    const SOME: usize = 20;
    let pages = Pages::private(1)?.addr(0);
    let mut tids = Vec::new();
    note("area", pages)?;
    at_work(fifo, || {
        for _ in 0..SOME {
            let thread = std::thread::spawn(move || -> Result<i32> {
                // SAFETY: mapped above, and no other thread uses it meanwhile.
                let page = unsafe { Pages::at(pages, 1) }?;
                page.unmap_frames()?;
                page.write(0, 1);
                Ok(gettid().as_raw())
            });
            tids.push(process::joined(thread.join())??);
        }
        Ok(())
    })?;
    note("tids", json!(tids))?;
    note("done", true)?;
    fifo.wait()
}

/// A thousand threads, each of which writes a page of its own.
fn crowd(fifo: &mut Fifo) -> Result<()> {
    const COUNT: usize = 1000;
    let pages = Pages::private(COUNT)?;
    let area = pages.addr(0);
    let (all_wait, all_go) = (Barrier::new(COUNT + 1), Barrier::new(COUNT + 1));
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for i in 0..COUNT {
            let (all_wait, all_go) = (&all_wait, &all_go);
            let thread = std::thread::Builder::new()
                .stack_size(1 << 16)
                .spawn_scoped(scope, move || {
                    all_wait.wait();
                    all_go.wait();
                    // SAFETY: mapped above, and this page is this thread's alone.
                    let page = unsafe { Pages::at(area, COUNT) };
                    page.map(|pages| pages.write(i, 1))
                        .map(|()| gettid().as_raw())
                })?;
            threads.push(thread);
        }
        all_wait.wait();
        note("area", area)?;
        note("ready", std::process::id())?;
        fifo.wait()?;
        all_go.wait();
        let mut tids = Vec::new();
        for thread in threads {
            tids.push(process::joined(thread.join())??);
        }
        note("tids", json!(tids))
    })?;
    note("done", true)?;
    fifo.wait()
}
