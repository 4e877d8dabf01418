//! Fork of fork of fork, each writing some of the pages and doing other things to some: `generations [SEED [STEP FIFO]]`.
//! One process acts at a time, on one CPU; each act is reported with the frames of its pages. With SEED, who does what
//! is up to chance. With STEP, all wait before that step, and at the end, for a byte in FIFO.

use std::ffi::{CString, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libc::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{execv, fork};
use serde_json::json;
use tests::subject::act::{self, act, tell};
use tests::subject::fifo::Fifo;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::pagemap::Pagemap;
use tests::subject::process::{self, Gate};
use tests::subject::report::{Action, note, without};
use tests::subject::witness::now;
use tests::subject::{files, pin};

use steps::Area::{self, Anon, Own, Part, Whole};
use steps::{MOST, Step};

mod steps;

fn main() -> Result<()> {
    process::begin();
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let (steps, mut pause) = match args[..] {
        [] => (steps::chosen(), None),
        ["end"] => return Ok(()),
        [seed] => (steps::by_chance(seed.parse()?), None),
        [seed, step, fifo] => {
            let pause = (step.parse()?, Fifo::open(fifo)?);
            (steps::by_chance(seed.parse()?), Some(pause))
        }
        _ => bail!("usage: generations [SEED [STEP FIFO]]"),
    };
    process::stay_on_one_cpu()?;
    // Who has lost its parent can be waited for all the same.
    set_child_subreaper(true)?;

    let (whole, part) = (files::temporary(120)?, files::temporary(60)?);
    let areas = [
        Pages::private(360)?,
        Pages::private_file(&whole, 0, 120)?,
        Pages::private_file(&part, 0, 60)?,
        Pages::private(40)?,
    ];
    (0..330).for_each(|i| areas[0].write(i, 1));
    for i in 330..340 {
        areas[0].read(i);
    }
    areas[1].write_all(1);
    (0..20).for_each(|i| areas[2].write(i, 1));
    for i in 20..40 {
        areas[2].read(i);
    }
    areas[3].write_all(1);
    for (start, advice) in [(0, libc::MADV_DONTFORK), (20, libc::MADV_WIPEONFORK)] {
        let (start, length) = (areas[3].addr(start) as *mut c_void, 20 * PAGE);
        // SAFETY: its own pages.
        succeeded(unsafe { libc::madvise(start, length, advice) })?;
    }
    // The fork itself copies what is pinned.
    let pinned = pin::pin(&areas[1], 110..120);
    if let Err(error) = &pinned {
        // Linux 6.1 and before pin no memory of files.
        let refused = error.downcast_ref() == Some(&Errno::EOPNOTSUPP);
        ensure!(refused, "{error:#}");
        without("pins", format!("{error:#}"))?;
    }
    note(
        "areas",
        json!([
            {"file": null, "addr": areas[0].addr(0), "pages": 360},
            {"file": whole.path(), "addr": areas[1].addr(0), "pages": 120},
            {"file": part.path(), "addr": areas[2].addr(0), "pages": 60},
            {"file": null, "addr": areas[3].addr(0), "pages": 40},
        ]),
    )?;

    let mut first = Process {
        number: 0,
        areas: areas.map(|pages| pages.addr(0)),
        moved: Vec::new(),
        unmapped: Vec::new(),
        pagemap: Pagemap::new()?,
        gates: (0..MOST).map(|_| Gate::new()).collect::<Result<_>>()?,
    };
    first.act(Action::Begin, &first.all(), || Ok(()))?;
    first.gates[0].open()?;
    first.go(&steps, &mut pause)?;
    if let Some((_, fifo)) = &mut pause {
        note("done", true)?;
        fifo.wait()?;
    }
    Ok(())
}

/// One of the processes.
struct Process {
    number: usize,
    /// Where each area is.
    areas: [u64; 4],
    /// Pages that are elsewhere now.
    moved: Vec<(Area, Range<usize>, u64)>,
    /// Pages that it has no more: something else may be there.
    unmapped: Vec<(Area, Range<usize>)>,
    pagemap: Pagemap,
    /// One opens when it is that process's turn.
    gates: Vec<Gate>,
}

impl Process {
    /// Takes each step that is this process's. What a fork has made goes on here as another process.
    fn go(&mut self, steps: &[(usize, Step)], pause: &mut Option<(usize, Fifo)>) -> Result<()> {
        for (i, (number, step)) in steps.iter().enumerate() {
            if *number != self.number {
                continue;
            }
            self.gates[*number].wait()?;
            if let Some((_, fifo)) = pause.as_mut().filter(|(step, _)| *step == i) {
                note("ready", std::process::id())?;
                fifo.wait()?;
            }
            let next = steps.get(i + 1).map(|(number, _)| *number);
            self.take(step.clone(), next)
                .with_context(|| format!("step {i}"))?;
        }
        Ok(())
    }

    /// Takes a step, then lets the next process.
    fn take(&mut self, step: Step, next: Option<usize>) -> Result<()> {
        let go_on = |this: &Self| next.map_or(Ok(()), |next| this.gates[next].open());
        match step {
            // The child lets the next.
            Step::Fork(child) if !self.fork(child)? => return Ok(()),
            Step::Fork(_) => {}
            Step::Write(area, which) => self.write(area, which)?,
            Step::WriteInThread(area, which) => {
                std::thread::scope(|scope| scope.spawn(|| self.write(area, which)).join())
                    .map_err(|_| anyhow!("the thread panicked"))??;
            }
            Step::Unmap(area, which) => {
                let (start, length) = self.place(area, &which);
                self.act(Action::Unmap, &self.addrs(area, which.clone()), || {
                    // SAFETY: its own pages, which it doesn't touch again.
                    succeeded(unsafe { libc::munmap(start, length) })
                })?;
                self.unmapped.push((area, which));
            }
            Step::Discard(area, which) => {
                let (start, length) = self.place(area, &which);
                self.act(Action::Discard, &self.addrs(area, which), || {
                    // SAFETY: its own pages, whose contents don't matter.
                    succeeded(unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) })
                })?;
            }
            Step::Over(area, which) => {
                let (start, length) = self.place(area, &which);
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                self.act(Action::Over, &self.addrs(area, which), || {
                    // SAFETY: over its own pages, whose contents don't matter.
                    let new = unsafe { libc::mmap(start, length, protection, flags, -1, 0) };
                    ensure!(new == start, "mmap: {}", Errno::last());
                    Ok(())
                })?;
            }
            Step::Move(area, which) => {
                let to = Pages::private(which.len())?.page(0).as_ptr();
                // SAFETY: its own pages, to a place that nothing else uses.
                self.relocate(area, which, |start, length| unsafe {
                    libc::mremap(start, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to)
                })?;
            }
            Step::Grow(area, which) => {
                // SAFETY: its own pages, to a place of the kernel's choice.
                self.relocate(area, which, |start, length| unsafe {
                    libc::mremap(start, length, 2 * length, MREMAP_MAYMOVE)
                })?;
            }
            Step::Leave(area, which) => {
                let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
                // SAFETY: its own pages, to a place of the kernel's choice.
                self.relocate(area, which, |start, length| unsafe {
                    libc::mremap(start, length, length, flags, 0)
                })?;
            }
            Step::Exec => {
                let program = CString::new(std::env::current_exe()?.into_os_string().into_vec())?;
                self.act(Action::Exec, &self.all(), || Ok(()))?;
                go_on(self)?;
                execv(&program, &[&program, c"end"])?;
            }
            Step::Exit => {
                self.act(Action::Exit, &self.all(), || Ok(()))?;
                go_on(self)?;
                // SAFETY: ends the child at once: the files that it mapped are still wanted.
                unsafe { libc::_exit(0) }
            }
            Step::Reap => {
                let ended = waitpid(None, None)?;
                ensure!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
            }
        }
        go_on(self)
    }

    /// Forks. Whether this is the child, which has reported what it finds.
    fn fork(&mut self, child: usize) -> Result<bool> {
        let addrs = self.all();
        let before = self.pagemap.frames(&addrs)?;
        // The pages that the child's questions need are touched here already.
        self.pagemap.private_pages()?;
        self.pagemap.table_bytes()?;
        let parent = std::process::id();
        let from = now()?;
        // SAFETY: one thread.
        if unsafe { fork() }?.is_parent() {
            return Ok(false);
        }
        let private = self.pagemap.private_pages()?;
        let table_bytes = self.pagemap.table_bytes()?;
        let until = now()?;
        process::begin();
        self.number = child;
        let deed = Action::Fork {
            parent,
            private,
            table_bytes,
        };
        let after = self.pagemap.frames(&addrs)?;
        tell(deed, from, until, &addrs, &before, &after)?;
        Ok(true)
    }

    fn write(&self, area: Area, which: Range<usize>) -> Result<()> {
        act::write(&self.pagemap, &self.addrs(area, which))
    }

    fn relocate(
        &mut self,
        area: Area,
        which: Range<usize>,
        remap: impl FnOnce(*mut c_void, usize) -> *mut c_void,
    ) -> Result<()> {
        let (start, length) = self.place(area, &which);
        let addrs = self.addrs(area, which.clone());
        let before = self.pagemap.frames(&addrs)?;
        let from = now()?;
        let to = remap(start, length);
        let until = now()?;
        ensure!(to != libc::MAP_FAILED, "mremap: {}", Errno::last());
        let to = to as u64;
        self.moved.push((area, which.clone(), to));
        let after = self.pagemap.frames(&self.addrs(area, which))?;
        tell(Action::Move(to), from, until, &addrs, &before, &after)
    }

    fn act(&self, deed: Action, addrs: &[u64], work: impl FnOnce() -> Result<()>) -> Result<()> {
        act(&self.pagemap, deed, addrs, work)
    }

    fn addr(&self, area: Area, i: usize) -> u64 {
        let moved = self
            .moved
            .iter()
            .find(|(of, which, _)| *of == area && which.contains(&i));
        match moved {
            Some((_, which, to)) => to + ((i - which.start) * PAGE) as u64,
            None => self.areas[area as usize] + (i * PAGE) as u64,
        }
    }

    fn addrs(&self, area: Area, which: Range<usize>) -> Vec<u64> {
        which.map(|i| self.addr(area, i)).collect()
    }

    /// All pages of all areas that it has.
    fn all(&self) -> Vec<u64> {
        let mut areas = vec![(Anon, 360), (Whole, 120), (Part, 60)];
        if self.number == 0 {
            areas.push((Own, 40));
        }
        let pages = areas
            .into_iter()
            .flat_map(|(area, count)| (0..count).map(move |i| (area, i)));
        let is_there = |(area, i): &(Area, usize)| {
            let mut unmapped = self.unmapped.iter();
            !unmapped.any(|(of, which)| of == area && which.contains(i))
        };
        pages
            .filter(is_there)
            .map(|(area, i)| self.addr(area, i))
            .collect()
    }

    /// Where pages start, and how many bytes they are.
    fn place(&self, area: Area, which: &Range<usize>) -> (*mut c_void, usize) {
        (
            self.addr(area, which.start) as *mut c_void,
            which.len() * PAGE,
        )
    }
}

fn succeeded(returned: c_int) -> Result<()> {
    Ok(Errno::result(returned).map(drop)?)
}
