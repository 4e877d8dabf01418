//! A kernel's memory in small: address spaces, frames, and who maps which.

use std::collections::{BTreeMap, HashMap};

use super::super::story::{ro, rw};

/// The pages that programs use, from the first on.
pub const PAGES: u64 = 14;

/// A page-table entry.
#[derive(Clone, Copy)]
struct Entry {
    frame: u64,
    writable: bool,
}

/// An address space.
struct Space {
    /// Where the kernel keeps it: the address comes again.
    address: u64,
    entries: BTreeMap<u64, Entry>,
    threads: u32,
}

/// All memory.
#[derive(Default)]
pub struct Memory {
    spaces: HashMap<u32, Space>,
    /// How often each frame is mapped.
    mapped: HashMap<u64, u32>,
    /// Addresses of address spaces that are gone: the last is the next one's.
    free: Vec<u64>,
    made: u32,
    frames: u64,
}

impl Memory {
    /// A new address space with one thread.
    pub fn new_space(&mut self) -> u32 {
        self.made += 1;
        let address = self.free.pop().unwrap_or(u64::from(self.made) << 12);
        let space = Space {
            address,
            entries: BTreeMap::new(),
            threads: 1,
        };
        self.spaces.insert(self.made, space);
        self.made
    }

    fn space(&mut self, space: u32) -> &mut Space {
        self.spaces.get_mut(&space).expect("it lives")
    }

    /// Its address.
    pub fn address(&self, space: u32) -> u64 {
        self.spaces[&space].address
    }

    /// A thread more uses it.
    pub fn join(&mut self, space: u32) {
        self.space(space).threads += 1;
    }

    /// A thread uses it no longer.
    pub fn leave(&mut self, space: u32) {
        let of = self.space(space);
        of.threads -= 1;
        if of.threads == 0 {
            self.discard(space, 0, PAGES);
            let gone = self.spaces.remove(&space).expect("it lives");
            self.free.push(gone.address);
        }
    }

    /// The entry for a page as the hardware has it, and how often its frame is mapped.
    pub fn entry(&self, space: u32, page: u64) -> (u64, u32) {
        match self.spaces[&space].entries.get(&page) {
            None => (0, 0),
            Some(entry) if entry.writable => (rw(entry.frame), 0),
            Some(entry) => (ro(entry.frame), self.mapped[&entry.frame]),
        }
    }

    /// Whether a write to a page raises a fault.
    pub fn faults(&self, space: u32, page: u64) -> bool {
        let entry = self.spaces[&space].entries.get(&page);
        entry.is_none_or(|entry| !entry.writable)
    }

    /// Handles the fault of a write.
    pub fn write(&mut self, space: u32, page: u64) {
        let before = self.spaces[&space].entries.get(&page).copied();
        if let Some(before) = before {
            if self.mapped[&before.frame] == 1 {
                self.map(space, page, before.frame);
                return;
            }
            self.unmap(before.frame);
        }
        self.frames += 1;
        let frame = 0x1000 + self.frames;
        self.mapped.insert(frame, 1);
        self.map(space, page, frame);
    }

    fn map(&mut self, space: u32, page: u64, frame: u64) {
        let entry = Entry {
            frame,
            writable: true,
        };
        self.space(space).entries.insert(page, entry);
    }

    fn unmap(&mut self, frame: u64) {
        let mapped = self.mapped.get_mut(&frame).expect("it is mapped");
        *mapped -= 1;
        if *mapped == 0 {
            self.mapped.remove(&frame);
        }
    }

    /// A copy of an address space, as a fork makes it.
    pub fn dup(&mut self, space: u32) -> u32 {
        let copy = self.new_space();
        for entry in self.space(space).entries.values_mut() {
            entry.writable = false;
        }
        let entries = self.spaces[&space].entries.clone();
        for entry in entries.values() {
            *self.mapped.get_mut(&entry.frame).expect("it is mapped") += 1;
        }
        self.space(copy).entries = entries;
        copy
    }

    /// The pages that are there.
    pub fn present(&self, space: u32) -> Vec<u64> {
        self.spaces[&space].entries.keys().copied().collect()
    }

    /// Pages are given up.
    pub fn discard(&mut self, space: u32, first: u64, count: u64) {
        let gone: Vec<u64> = (first..first + count)
            .filter_map(|page| self.space(space).entries.remove(&page))
            .map(|entry| entry.frame)
            .collect();
        for frame in gone {
            self.unmap(frame);
        }
    }

    /// Pages move, and what was there is given up.
    pub fn relocate(&mut self, space: u32, from: u64, to: u64, count: u64) {
        self.discard(space, to, count);
        let entries = &mut self.space(space).entries;
        for page in 0..count {
            if let Some(entry) = entries.remove(&(from + page)) {
                entries.insert(to + page, entry);
            }
        }
    }
}
