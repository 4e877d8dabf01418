//! A small world of address spaces with their page tables: it decides what happens, and compares what is made of it.

use std::{collections::BTreeMap, ops::Range};

use super::{
    finish, fork,
    naive::{Fate, Naive},
    set,
};
use crate::trace::{
    event::{ForkAccount, Region},
    sharing::{ForkArea, Leave, Sharing},
};

/// The first page: the numbers go across a multiple of 2^32.
const FIRST: u64 = 0x7_ffff_fff8;
/// How many page numbers there are.
const PAGES: u64 = 16;
/// How many address spaces live at the most.
const LIVE: usize = 6;

/// An address space's frames by page; 0 for none.
type Table = [u64; PAGES as usize];

fn index(page: u64) -> usize {
    (page - FIRST) as usize
}

/// Numbers that are random enough, the same at each run: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn page(&mut self) -> u64 {
        FIRST + self.below(PAGES)
    }

    fn range(&mut self) -> Range<u64> {
        let start = self.page();
        let longest = FIRST + PAGES - start;
        start..start + 1 + self.below(longest)
    }
}

/// A world.
pub struct World {
    seed: u64,
    step: u32,
    random: Random,
    sharing: Sharing,
    naive: Naive,
    tables: BTreeMap<u32, Table>,
    frames: u64,
    mms: u32,
    forks: u32,
    /// Copies for which a fork was blamed.
    blamed: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            step: 0,
            random: Random(seed),
            sharing: Sharing::default(),
            naive: Naive::default(),
            tables: BTreeMap::new(),
            frames: 0,
            mms: 0,
            forks: 0,
            blamed: 0,
        };
        world.begin();
        world
    }

    /// A process that nothing forked.
    fn begin(&mut self) {
        self.mms += 1;
        self.tables.insert(self.mms, Table::default());
        self.touch(self.mms, FIRST..FIRST + PAGES * 3 / 4);
    }

    fn frame(&mut self) -> u64 {
        self.frames += 1;
        self.frames
    }

    fn table(&mut self, mm: u32) -> &mut Table {
        self.tables.entry(mm).or_default()
    }

    /// New pages where there are none.
    fn touch(&mut self, mm: u32, range: Range<u64>) {
        for page in range {
            let new = self.frame();
            let frame = &mut self.table(mm)[index(page)];
            if *frame == 0 {
                *frame = new;
            }
        }
    }

    /// A page is in a new frame.
    fn renew(&mut self, mm: u32, page: u64) {
        let new = self.frame();
        self.table(mm)[index(page)] = new;
    }

    /// The others that map the same frame.
    fn others(&self, mm: u32, page: u64) -> Vec<u32> {
        let frame = self.tables[&mm][index(page)];
        let others = self
            .tables
            .iter()
            .filter(|(other, table)| **other != mm && frame != 0 && table.contains(&frame));
        others.map(|(other, _)| *other).collect()
    }

    fn any_mm(&mut self) -> u32 {
        let nth = self.random.below(self.tables.len() as u64) as usize;
        self.tables.keys().nth(nth).copied().unwrap_or_default()
    }

    /// Something happens.
    pub fn step(&mut self) {
        self.step += 1;
        let mm = self.any_mm();
        match self.random.below(24) {
            0..4 if self.tables.len() < LIVE => self.fork(mm),
            4..15 => self.write(mm),
            15 => self.lose(mm),
            16 | 17 => self.give_up(mm),
            18 | 19 => self.move_pages(mm),
            20 => {
                let range = self.random.range();
                self.touch(mm, range);
            }
            21 => self.take_over_early(mm),
            22 | 23 => self.leave(mm),
            _ => {}
        }
        let (mm, page) = (self.any_mm(), self.random.page());
        self.compare_sharers(mm, page);
    }

    fn areas(&mut self) -> Vec<ForkArea> {
        let mut areas = Vec::new();
        let mut start = FIRST - 1;
        while start < FIRST + PAGES {
            let end = start + 1 + self.random.below(9);
            let file = match self.random.below(3) {
                0 => None,
                1 => Some("/lib/a".into()),
                _ => Some("/lib/b".into()),
            };
            areas.push(ForkArea {
                pages: start..end,
                region: if self.random.one_in(2) {
                    Region::Lib
                } else {
                    Region::Anon
                },
                file,
            });
            start = end;
        }
        areas
    }

    fn fork(&mut self, parent: u32) {
        self.mms += 1;
        self.forks += 1;
        let child = self.mms;
        let mut table = self.tables[&parent];
        let (mut shared, mut at_once) = (Vec::new(), Vec::new());
        for (page, frame) in (FIRST..).zip(&mut table) {
            if *frame == 0 {
                continue;
            }
            if self.random.one_in(12) {
                at_once.push(page);
                *frame = self.frame();
            } else {
                shared.push(page);
            }
        }
        self.tables.insert(child, table);
        let areas = self.areas();
        self.sharing.fork(
            fork(self.forks, parent, child),
            areas.clone(),
            &set(shared.iter().copied()),
            &set(at_once.iter().copied()),
        );
        self.naive
            .fork(self.forks, [parent, child], areas, &shared, &at_once);
    }

    /// A write: what the kernel does depends on who maps the frame, and on references that nobody sees.
    fn write(&mut self, mm: u32) {
        let page = self.random.page();
        if self.tables[&mm][index(page)] == 0 {
            return;
        }
        if self.others(mm, page).is_empty() && !self.random.one_in(4) {
            let fork = self.sharing.taken_over(mm, page);
            let naive = self.naive.taken_over((mm, page));
            assert_eq!(fork, naive, "seed {}, step {}", self.seed, self.step);
            return;
        }
        let blame = self.sharing.copied(mm, page);
        let naive = self.naive.copied((mm, page));
        assert_eq!(
            blame.map(|blame| (blame.fork.number, blame.reference)),
            naive,
            "seed {}, step {}",
            self.seed,
            self.step
        );
        if let Some(blame) = blame {
            self.blamed += 1;
            assert_eq!(blame.fork.ts, u64::from(blame.fork.number) * 1000);
        }
        self.renew(mm, page);
    }

    /// A page is in a frame of its own, and nobody saw how it came there.
    fn lose(&mut self, mm: u32) {
        let page = self.random.page();
        self.sharing.lost(mm, page);
        self.naive.lost((mm, page));
        self.renew(mm, page);
    }

    /// The word that others have given a page up comes later than the write that takes it over.
    fn take_over_early(&mut self, mm: u32) {
        let page = self.random.page();
        let fork = self.sharing.taken_over(mm, page);
        let naive = self.naive.taken_over((mm, page));
        assert_eq!(fork, naive, "seed {}, step {}", self.seed, self.step);
        self.renew(mm, page);
    }

    fn give_up(&mut self, mm: u32) {
        let range = self.random.range();
        self.sharing.gave_up(mm, &range);
        for page in range {
            self.naive.gave_up((mm, page), Fate::Munmap);
            self.table(mm)[index(page)] = 0;
        }
    }

    fn move_pages(&mut self, mm: u32) {
        let range = self.random.range();
        let len = range.end - range.start;
        let to = FIRST + self.random.below(PAGES - len + 1);
        if to.abs_diff(range.start) < len {
            return;
        }
        self.sharing.moved(mm, &range, to);
        self.naive.moved(mm, range.clone(), to);
        let start = range.start;
        let table = self.table(mm);
        for page in range {
            let frame = std::mem::take(&mut table[index(page)]);
            table[index(page - start + to)] = frame;
        }
    }

    fn leave(&mut self, mm: u32) {
        let how = if self.random.one_in(3) {
            self.sharing.execed(mm, 1000 + mm);
            self.naive.execed(mm);
            Leave::Exec
        } else if self.random.one_in(5) {
            Leave::Unseen
        } else {
            Leave::Exit
        };
        self.end(mm, how);
        if self.tables.is_empty() {
            self.begin();
        }
    }

    fn end(&mut self, mm: u32, how: Leave) {
        self.sharing.left(mm, how);
        self.tables.remove(&mm);
        for node in (FIRST..FIRST + PAGES).map(|page| (mm, page)) {
            match how {
                Leave::Exec => self.naive.gave_up(node, Fate::Exec),
                Leave::Exit => self.naive.gave_up(node, Fate::Exit),
                Leave::Unseen => self.naive.lost(node),
            }
        }
    }

    fn compare_sharers(&self, mm: u32, page: u64) {
        let sharers = self.sharing.sharers(mm, page);
        let others = self.others(mm, page);
        assert_eq!(sharers, others, "seed {}, step {}", self.seed, self.step);
    }

    /// Ends the history, one time in two with the end of all that still lives.
    pub fn finish(mut self) {
        let mm = self.any_mm();
        for page in FIRST..FIRST + PAGES {
            self.compare_sharers(mm, page);
        }
        self.sharing.check(self.naive.sizes());
        if self.random.one_in(2) {
            while !self.tables.is_empty() {
                let mm = self.any_mm();
                self.end(mm, Leave::Exit);
            }
            assert_eq!(self.naive.sizes(), (0, 0));
            assert_eq!(self.sharing.sizes(), [0, 0, 0], "seed {}", self.seed);
        }
        let accounts = finish(self.sharing);
        assert_eq!(accounts.len(), self.forks as usize);
        let mut copies = 0;
        for account in accounts {
            copies += account.by_child + account.by_parent + account.by_others;
            copies += account.copied_again;
            let same = ForkAccount {
                ts: account.ts,
                parent: account.parent,
                child: account.child,
                parent_comm: account.parent_comm.clone(),
                child_comm: account.child_comm.clone(),
                table_bytes: account.table_bytes,
                settled: account.settled,
                ..self.naive.account(account.number)
            };
            assert_eq!(account, same, "seed {}", self.seed);
        }
        assert_eq!(copies, self.blamed, "seed {}", self.seed);
    }
}
