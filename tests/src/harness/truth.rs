//! What must become of the pages that forks share: worked out from the frames that a subject saw, page by page.
//!
//! A fork joins parent and child by an *edge* at each page that both then have in the same frame. All that have a frame
//! are a tree. Who leaves it, by a copy or by giving the page up, ends the edge of the latest fork among its own; its
//! others are passed on, so that the rest stays a tree. This is the definition of the accounts, in its plainest form.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::subject::memory::PAGE;
use crate::subject::pagemap::Frame;
use crate::subject::report::{Act, Action};

/// A process.
type Pid = u32;

/// Addresses of files.
type Places = Vec<(Range<u64>, Option<String>)>;

/// What all acts so far must have led to.
#[derive(Debug)]
pub struct Truth {
    /// Which addresses are of which file; no file for anonymous memory.
    places: Places,
    /// Where the processes have moved pages to.
    moved: HashMap<Pid, Places>,
    /// The frame of each private page of each process.
    frames: HashMap<Pid, BTreeMap<u64, u64>>,
    /// Of each frame that is shared.
    edges: HashMap<u64, Vec<Edge>>,
    /// Frames that one process alone has left, and how that came.
    sole_owners: HashMap<u64, (usize, Release)>,
    /// Pages of all the machine that the kernel had moved when the first act was over.
    migrated: Option<u64>,
    /// Those of the processes among them.
    followed: u64,
    /// All forks, in their order.
    pub forks: Vec<Fork>,
    /// All copies.
    pub copies: Vec<Copied>,
}

/// A fork.
#[derive(Debug)]
pub struct Fork {
    /// Who forked.
    pub parent: Pid,
    /// Who was made.
    pub child: Pid,
    /// Private pages that the child had when it began to run, in all of its memory.
    pub private: u64,
    /// Bytes of its page tables then.
    pub table_bytes: u64,
    /// When the child had found these out.
    pub until: u64,
    /// The time of the child's exec; it was before.
    pub exec: Option<u64>,
    /// What became of its pages, by file.
    pub outcomes: BTreeMap<Option<String>, Outcome>,
}

/// What became of pages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the account of a fork")]
pub struct Outcome {
    pub pages: u64,
    pub by_child: u64,
    pub by_parent: u64,
    pub by_others: u64,
    pub at_once: u64,
    pub taken_over: u64,
    pub exec: u64,
    pub exit: u64,
    pub munmap: u64,
    pub copied_again: u64,
}

impl Outcome {
    /// Copied by anyone, as the account of an area has it.
    pub fn copied(&self) -> u64 {
        self.by_child + self.by_parent + self.by_others + self.at_once
    }

    /// Given up by anything.
    pub fn given_up(&self) -> u64 {
        self.exec + self.exit + self.munmap
    }
}

/// A page that was copied as it was written.
#[derive(Debug)]
pub struct Copied {
    /// The thread.
    pub tid: u32,
    /// The page.
    pub addr: u64,
    /// A time before and one after.
    pub time: Range<u64>,
    /// The frame before.
    pub before: u64,
    /// The frame after.
    pub after: u64,
    /// Why.
    pub cause: Cause,
}

/// Why a page was copied.
#[derive(Debug, PartialEq, Eq)]
pub enum Cause {
    /// That fork, and with whom the page was shared.
    Fork(usize, Vec<Pid>),
    /// Nobody had the page any more since that fork.
    Reference(usize),
    /// It was a file's.
    PageCache,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    fork: usize,
    ends: [Pid; 2],
}

impl Edge {
    fn other(self, end: Pid) -> Option<Pid> {
        match self.ends {
            [one, other] | [other, one] if one == end => Some(other),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    Copied,
    Exec,
    Exit,
    Unmapped,
}

impl Truth {
    /// With areas of memory as a subject reports them: `file`, `addr`, and how many `pages`.
    pub fn of(areas: &Value) -> Result<Self> {
        let mut places = Places::new();
        for area in areas.as_array().context("areas")? {
            let number = |field: &str| area[field].as_u64().context("a number");
            let start = number("addr")?;
            let file = area["file"].as_str().map(str::to_owned);
            places.push((start..start + number("pages")? * PAGE as u64, file));
        }
        Ok(Self {
            places,
            moved: HashMap::new(),
            frames: HashMap::new(),
            edges: HashMap::new(),
            sole_owners: HashMap::new(),
            migrated: None,
            followed: 0,
            forks: Vec::new(),
            copies: Vec::new(),
        })
    }

    /// Whether that address is in one of the areas.
    pub fn has(&self, addr: u64) -> bool {
        let moved = self.moved.values().flatten();
        let mut places = self.places.iter().chain(moved);
        places.any(|(place, _)| place.contains(&addr))
    }

    /// Takes in what was done.
    pub fn add(&mut self, act: &Act) -> Result<()> {
        let whose = match act.deed {
            Action::Fork { parent, .. } => parent,
            _ => act.pid,
        };
        for &(addr, now, _) in &act.pages {
            self.follow(whose, addr, private(now));
        }
        let moved = act.migrated - *self.migrated.get_or_insert(act.migrated);
        ensure!(
            self.followed <= moved,
            "more pages have changed than the kernel has moved"
        );
        match act.deed {
            Action::Begin => {
                let private = act
                    .pages
                    .iter()
                    .filter_map(|&(addr, frame, _)| Some((addr, private(frame)?)));
                self.frames.insert(act.pid, private.collect());
            }
            Action::Fork {
                parent,
                private,
                table_bytes,
            } => {
                self.forks.push(Fork {
                    parent,
                    child: act.pid,
                    private,
                    table_bytes,
                    until: act.until,
                    exec: None,
                    outcomes: BTreeMap::new(),
                });
                self.fork(parent, act)?;
            }
            Action::Write => {
                for &(addr, before, after) in &act.pages {
                    self.write(act, addr, before, after)
                        .with_context(|| format!("a write of {addr:#x} by {}", act.pid))?;
                }
            }
            Action::Move(to) => {
                let start = act.pages.first().context("no pages")?.0;
                let end = to + (act.pages.len() * PAGE) as u64;
                let file = self.file(act.pid, start);
                self.moved.entry(act.pid).or_default().push((to..end, file));
                let of_process = self.frames.get_mut(&act.pid).context("no such process")?;
                for &(addr, before, after) in &act.pages {
                    ensure!(before == after, "a moved page has another frame");
                    if let Some(frame) = of_process.remove(&addr) {
                        of_process.insert(addr - start + to, frame);
                    }
                }
            }
            Action::Unmap | Action::Discard => self.give_up(act, Release::Unmapped)?,
            Action::Over => {
                self.give_up(act, Release::Unmapped)?;
                let start = act.pages.first().context("no pages")?.0;
                let place = start..start + (act.pages.len() * PAGE) as u64;
                self.moved.entry(act.pid).or_default().push((place, None));
            }
            Action::Exit => self.give_up(act, Release::Exit)?,
            Action::Exec => {
                self.give_up(act, Release::Exec)?;
                let made = self.forks.iter_mut().find(|fork| fork.child == act.pid);
                made.context("an exec, but no fork")?.exec = Some(act.from);
            }
        }
        Ok(())
    }

    /// A page is in that frame now. Where it was in another after the last act the kernel has moved it meanwhile, for all who map
    /// it, to have large pages for others (`migrate_pages` in `mm/migrate.c`).
    fn follow(&mut self, pid: Pid, addr: u64, now: Option<u64>) {
        let (Some(before), Some(now)) = (self.frame(pid, addr), now) else {
            return;
        };
        let of_all = || self.frames.values().flat_map(BTreeMap::values);
        if before == now || of_all().any(|frame| *frame == now) {
            return;
        }
        self.followed += 1;
        for frame in self.frames.values_mut().flat_map(BTreeMap::values_mut) {
            if *frame == before {
                *frame = now;
            }
        }
        if let Some(edges) = self.edges.remove(&before) {
            self.edges.insert(now, edges);
        }
        if let Some(sole_owner) = self.sole_owners.remove(&before) {
            self.sole_owners.insert(now, sole_owner);
        }
    }

    fn fork(&mut self, parent: Pid, act: &Act) -> Result<()> {
        let number = self.forks.len();
        let moved = self.moved.get(&parent).cloned().unwrap_or_default();
        self.moved.insert(act.pid, moved);
        let mut of_child = BTreeMap::new();
        for &(addr, before, after) in &act.pages {
            ensure!(
                private(before) == self.frame(parent, addr),
                "{addr:#x} has changed in {parent}"
            );
            let (Some(before), Some(after)) = (private(before), private(after)) else {
                ensure!(private(after).is_none(), "{addr:#x} is new in the child");
                continue;
            };
            of_child.insert(addr, after);
            self.outcome(number, parent, addr)?.pages += 1;
            if before == after {
                let ends = [parent, act.pid];
                self.edges
                    .entry(before)
                    .or_default()
                    .push(Edge { fork: number, ends });
                self.sole_owners.remove(&before);
            } else {
                self.outcome(number, parent, addr)?.at_once += 1;
            }
        }
        self.frames.insert(act.pid, of_child);
        Ok(())
    }

    fn write(
        &mut self,
        act: &Act,
        addr: u64,
        before: Option<Frame>,
        after: Option<Frame>,
    ) -> Result<()> {
        let new = private(after).context("it is not private after the write")?;
        ensure!(
            private(before) == self.frame(act.pid, addr),
            "it has changed before"
        );
        let place = self.frames.get_mut(&act.pid).context("no such process")?;
        place.insert(addr, new);
        let is_copy = before.is_some_and(|before| before.number != new);
        let cause = match private(before) {
            None if is_copy && self.file(act.pid, addr).is_some() => Some(Cause::PageCache),
            None => None,
            Some(old) if self.edges.contains_key(&old) => {
                ensure!(is_copy, "taken over, though it is shared");
                let mut sharers = self.sharers(act.pid, old);
                let edges = self.edges.get(&old).map_or(0, Vec::len);
                ensure!(
                    edges == sharers.len(),
                    "{edges} edges, and {sharers:?} share it"
                );
                let number = self.leave(act.pid, old, Release::Copied)?;
                *self.by(number, act.pid, addr)? += 1;
                sharers.sort_unstable();
                Some(Cause::Fork(number, sharers))
            }
            Some(old) => {
                let number = self.write_of_sole_owner(act.pid, addr, old, is_copy)?;
                number.filter(|_| is_copy).map(Cause::Reference)
            }
        };
        if let (Some(cause), Some(before)) = (cause, before) {
            self.copies.push(Copied {
                tid: act.tid,
                addr,
                time: act.from..act.until,
                before: before.number,
                after: new,
                cause,
            });
        }
        Ok(())
    }

    /// A write of a frame that nobody else has. The fork since which that is so.
    fn write_of_sole_owner(
        &mut self,
        pid: Pid,
        addr: u64,
        frame: u64,
        is_copy: bool,
    ) -> Result<Option<usize>> {
        let Some((number, how)) = self.sole_owners.remove(&frame) else {
            ensure!(!is_copy, "copied, though nobody else has had it");
            return Ok(None);
        };
        let outcome = self.outcome(number, pid, addr)?;
        match how {
            Release::Copied => outcome.copied_again += u64::from(is_copy),
            Release::Exec => outcome.exec -= 1,
            Release::Exit => outcome.exit -= 1,
            Release::Unmapped => outcome.munmap -= 1,
        }
        if how != Release::Copied {
            if is_copy {
                *self.by(number, pid, addr)? += 1;
            } else {
                outcome.taken_over += 1;
            }
        }
        Ok(Some(number))
    }

    fn give_up(&mut self, act: &Act, how: Release) -> Result<()> {
        for &(addr, before, _) in &act.pages {
            let place = self.frames.get_mut(&act.pid).context("no such process")?;
            let frame = place.remove(&addr);
            ensure!(frame == private(before), "{addr:#x} has changed before");
            let Some(frame) = frame else { continue };
            self.sole_owners.remove(&frame);
            if self.edges.contains_key(&frame) {
                let number = self.leave(act.pid, frame, how)?;
                let outcome = self.outcome(number, act.pid, addr)?;
                match how {
                    Release::Exec => outcome.exec += 1,
                    Release::Exit => outcome.exit += 1,
                    Release::Unmapped => outcome.munmap += 1,
                    Release::Copied => bail!("a copy is no giving up"),
                }
            }
        }
        Ok(())
    }

    /// A process leaves a frame. The fork whose edge that ends.
    fn leave(&mut self, pid: Pid, frame: u64, how: Release) -> Result<usize> {
        let edges = self.edges.remove(&frame).context("nobody shares it")?;
        let (mut own, mut rest): (Vec<_>, Vec<_>) = edges
            .into_iter()
            .partition(|edge| edge.other(pid).is_some());
        own.sort_by_key(|edge| std::cmp::Reverse(edge.fork));
        let ended = *own.first().context("it doesn't share it itself")?;
        for pair in own.windows(2) {
            let ends = [pair[0], pair[1]].map(|edge| edge.other(pid).unwrap_or(pid));
            rest.push(Edge {
                fork: pair[1].fork,
                ends,
            });
        }
        if rest.is_empty() {
            self.sole_owners.insert(frame, (ended.fork, how));
        } else {
            self.edges.insert(frame, rest);
        }
        Ok(ended.fork)
    }

    /// Who else has that frame.
    fn sharers(&self, pid: Pid, frame: u64) -> Vec<Pid> {
        let have = |frames: &BTreeMap<u64, u64>| frames.values().any(|&one| one == frame);
        let sharers = self.frames.iter().filter(|(_, frames)| have(frames));
        sharers
            .map(|(&one, _)| one)
            .filter(|&one| one != pid)
            .collect()
    }

    /// The count of copies of a fork by such a process.
    fn by(&mut self, number: usize, pid: Pid, addr: u64) -> Result<&mut u64> {
        let fork = &self.forks[number - 1];
        let (parent, child) = (fork.parent, fork.child);
        let outcome = self.outcome(number, pid, addr)?;
        Ok(match pid {
            pid if pid == child => &mut outcome.by_child,
            pid if pid == parent => &mut outcome.by_parent,
            _ => &mut outcome.by_others,
        })
    }

    fn outcome(&mut self, number: usize, pid: Pid, addr: u64) -> Result<&mut Outcome> {
        let file = self.file(pid, addr);
        let fork = self.forks.get_mut(number - 1).context("no such fork")?;
        Ok(fork.outcomes.entry(file).or_default())
    }

    fn file(&self, pid: Pid, addr: u64) -> Option<String> {
        // The latest first: pages can have been moved to where others were.
        let moved = self.moved.get(&pid).into_iter().flatten().rev();
        let mut places = moved.chain(&self.places);
        let place = places.find(|(place, _)| place.contains(&addr));
        place.and_then(|(_, file)| file.clone())
    }

    fn frame(&self, pid: Pid, addr: u64) -> Option<u64> {
        self.frames.get(&pid)?.get(&addr).copied()
    }
}

fn private(frame: Option<Frame>) -> Option<u64> {
    frame
        .filter(|frame| frame.private)
        .map(|frame| frame.number)
}
