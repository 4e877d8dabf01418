//! Fork of fork of fork, each writing some of the pages and doing other things to some: `generations`. One process acts
//! at a time, on one CPU; each act is reported with the frames of its pages.

use std::ffi::{CString, c_int};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid, execv, fork, getpid};
use serde_json::json;
use tests::subject::act::{self, act, tell};
use tests::subject::memory::{PAGE, Pages};
use tests::subject::pagemap::Pagemap;
use tests::subject::process::{self, Gate};
use tests::subject::report::{Deed, Fact, report};
use tests::subject::witness::now;
use tests::subject::{files, pin};

use Area::{Anon, Part, Whole};
use Step::{Discard, Exec, Exit, Fork, Move, Reap, Unmap, Write, WriteInThread};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Area {
    /// Anonymous memory: written up to page 330, read up to 340, then untouched.
    Anon,
    /// A file's pages, all written.
    Whole,
    /// A file's pages: written up to page 20, read up to 40, then untouched.
    Part,
}

#[derive(Debug, Clone)]
enum Step {
    Fork(usize),
    Write(Area, Range<usize>),
    WriteInThread(Area, Range<usize>),
    Unmap(Area, Range<usize>),
    Discard(Area, Range<usize>),
    Move(Area, Range<usize>),
    Exec,
    Exit,
    Reap(usize),
}

/// Who does what. Process 0 is the first; 4 is the one that execs.
const STEPS: [(usize, Step); 63] = [
    // The first fork: 0 and 1.
    (0, Fork(1)),
    (1, Write(Anon, 0..30)),
    (1, Write(Whole, 0..10)),
    (1, Write(Part, 0..5)),
    // Pages of the cache, pages never touched, and the zero page: no fork's.
    (1, Write(Part, 20..22)),
    (1, Write(Part, 40..42)),
    (1, Write(Anon, 330..335)),
    (0, Write(Anon, 30..60)),
    (0, Write(Whole, 10..20)),
    // What 1 has copied is left to 0 alone.
    (0, Write(Anon, 0..10)),
    (0, Write(Whole, 0..5)),
    // The second: 1 and 2, while most pages are shared with 0, too.
    (1, Fork(2)),
    (2, Write(Anon, 60..90)),
    (2, Write(Whole, 20..30)),
    (1, Write(Anon, 90..120)),
    (1, Write(Whole, 30..40)),
    (2, Write(Anon, 90..100)),
    (0, Write(Anon, 100..110)),
    (0, Write(Whole, 30..35)),
    (2, Write(Whole, 30..33)),
    // The third: 2 and 3.
    (2, Fork(3)),
    (3, Write(Anon, 120..150)),
    (2, Write(Anon, 150..165)),
    (3, Write(Anon, 150..160)),
    (1, Write(Anon, 120..125)),
    (0, Write(Anon, 120..122)),
    (3, Write(Whole, 40..50)),
    (2, Write(Whole, 40..45)),
    (1, Write(Whole, 40..43)),
    (0, Write(Whole, 40..42)),
    // A thread writes for the process whose memory it shares.
    (2, WriteInThread(Anon, 165..175)),
    (2, WriteInThread(Whole, 50..55)),
    // Nobody but 1 has these, until it forks 4. That one writes some, then execs.
    (1, Write(Anon, 210..220)),
    (1, Write(Whole, 60..70)),
    (1, Fork(4)),
    (4, Write(Anon, 190..200)),
    (4, Write(Whole, 60..63)),
    (1, Write(Anon, 210..212)),
    (4, Exec),
    (1, Reap(4)),
    (1, Write(Anon, 212..217)),
    (1, Write(Whole, 60..68)),
    (1, Write(Anon, 200..205)),
    // A move, and writes on both sides of it.
    (2, Move(Anon, 220..240)),
    (2, Write(Anon, 220..230)),
    (3, Write(Anon, 225..235)),
    // What is unmapped, or given back, is given up.
    (1, Unmap(Anon, 240..250)),
    (0, Write(Anon, 240..245)),
    (2, Discard(Anon, 250..260)),
    (2, Write(Anon, 250..255)),
    (3, Write(Whole, 70..75)),
    (2, Unmap(Whole, 70..80)),
    (3, Discard(Whole, 80..85)),
    // One after the other ends.
    (3, Exit),
    (2, Reap(3)),
    (2, Write(Anon, 260..270)),
    (2, Write(Anon, 100..105)),
    (2, Exit),
    (1, Reap(2)),
    (1, Write(Anon, 265..280)),
    (1, Exit),
    (0, Reap(1)),
    (0, Write(Anon, 280..300)),
];

fn main() -> Result<()> {
    process::begin();
    if std::env::args().nth(1).as_deref() == Some("end") {
        return Ok(());
    }
    process::stay_on_one_cpu()?;

    let (whole, part) = (files::temporary(120)?, files::temporary(60)?);
    let areas = [
        Pages::private(360)?,
        Pages::private_file(&whole, 0, 120)?,
        Pages::private_file(&part, 0, 60)?,
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
    // The fork itself copies what is pinned.
    let _pinned = pin::pin(&areas[1], 110..120)?;
    report(&Fact::Note(
        "areas".to_owned(),
        json!([
            {"file": null, "addr": areas[0].addr(0), "pages": 360},
            {"file": whole.path(), "addr": areas[1].addr(0), "pages": 120},
            {"file": part.path(), "addr": areas[2].addr(0), "pages": 60},
        ]),
    ))?;

    let mut first = Process {
        number: 0,
        areas: areas.map(|pages| pages.addr(0)),
        moved: Vec::new(),
        pagemap: Pagemap::new()?,
        gates: (0..5).map(|_| Gate::new()).collect::<Result<_>>()?,
        children: [None; 5],
    };
    first.act(Deed::Begin, &first.all(), || Ok(()))?;
    first.gates[0].open()?;
    first.go()
}

/// One of the processes.
struct Process {
    number: usize,
    /// Where each area is.
    areas: [u64; 3],
    /// Pages that are elsewhere now.
    moved: Vec<(Area, Range<usize>, u64)>,
    pagemap: Pagemap,
    /// One opens when it is that process's turn.
    gates: Vec<Gate>,
    children: [Option<Pid>; 5],
}

impl Process {
    /// Takes each step that is this process's. What a fork has made goes on here as another process.
    fn go(&mut self) -> Result<()> {
        for (i, (number, step)) in STEPS.into_iter().enumerate() {
            if number != self.number {
                continue;
            }
            self.gates[number].wait()?;
            let next = STEPS.get(i + 1).map(|(number, _)| *number);
            self.take(step, next).with_context(|| format!("step {i}"))?;
        }
        Ok(())
    }

    /// Takes a step, then lets the next process.
    fn take(&mut self, step: Step, next: Option<usize>) -> Result<()> {
        let go_on = |this: &Self| next.map_or(Ok(()), |next| this.gates[next].open());
        match step {
            // The child lets the next.
            Fork(child) if !self.fork(child)? => return Ok(()),
            Fork(_) => {}
            Write(area, which) => self.write(area, which)?,
            WriteInThread(area, which) => {
                std::thread::scope(|scope| scope.spawn(|| self.write(area, which)).join())
                    .map_err(|_| anyhow!("the thread panicked"))??;
            }
            Unmap(area, which) => {
                let (start, length) = self.place(area, &which);
                self.act(Deed::Unmap, &self.addrs(area, which), || {
                    // SAFETY: its own pages, which it doesn't touch again.
                    succeeded(unsafe { libc::munmap(start, length) })
                })?;
            }
            Discard(area, which) => {
                let (start, length) = self.place(area, &which);
                self.act(Deed::Discard, &self.addrs(area, which), || {
                    // SAFETY: its own pages, whose contents don't matter.
                    succeeded(unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) })
                })?;
            }
            Move(area, which) => self.relocate(area, which)?,
            Exec => {
                let program = CString::new(std::env::current_exe()?.into_os_string().into_vec())?;
                self.act(Deed::Exec, &self.all(), || Ok(()))?;
                go_on(self)?;
                execv(&program, &[&program, c"end"])?;
            }
            Exit => {
                self.act(Deed::Exit, &self.all(), || Ok(()))?;
                go_on(self)?;
                // SAFETY: ends the child at once: the files that it mapped are still wanted.
                unsafe { libc::_exit(0) }
            }
            Reap(child) => {
                process::wait_success(self.children[child].context("no such child")?)?;
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
        let parent = getpid().as_raw();
        let from = now()?;
        // SAFETY: one thread.
        if let ForkResult::Parent { child: pid } = unsafe { fork() }? {
            self.children[child] = Some(pid);
            return Ok(false);
        }
        let private = self.pagemap.private_pages()?;
        let table_bytes = self.pagemap.table_bytes()?;
        let until = now()?;
        process::begin();
        self.number = child;
        let deed = Deed::Fork {
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

    fn relocate(&mut self, area: Area, which: Range<usize>) -> Result<()> {
        let (start, length) = self.place(area, &which);
        let to = Pages::private(which.len())?.addr(0);
        let addrs = self.addrs(area, which.clone());
        let before = self.pagemap.frames(&addrs)?;
        let from = now()?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: its own pages, to a place that nothing else uses.
        let moved = unsafe { libc::mremap(start, length, length, flags, to as *mut libc::c_void) };
        ensure!(moved as u64 == to, "mremap: {}", Errno::last());
        let until = now()?;
        self.moved.push((area, which.clone(), to));
        let after = self.pagemap.frames(&self.addrs(area, which))?;
        tell(Deed::Move(to), from, until, &addrs, &before, &after)
    }

    fn act(&self, deed: Deed, addrs: &[u64], work: impl FnOnce() -> Result<()>) -> Result<()> {
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

    /// All pages of all areas.
    fn all(&self) -> Vec<u64> {
        let areas = [(Anon, 360), (Whole, 120), (Part, 60)];
        areas
            .into_iter()
            .flat_map(|(area, count)| self.addrs(area, 0..count))
            .collect()
    }

    /// Where pages start, and how many bytes they are.
    fn place(&self, area: Area, which: &Range<usize>) -> (*mut libc::c_void, usize) {
        (
            self.addr(area, which.start) as *mut libc::c_void,
            which.len() * PAGE,
        )
    }
}

fn succeeded(returned: c_int) -> Result<()> {
    Ok(Errno::result(returned).map(drop)?)
}
