//! Builds the records of a run.

use memtrace_ebpf::record::Record;
use std::{collections::HashMap, convert::Infallible, ops::RangeInclusive};

use memtrace_ebpf::record::{Header, Kind, Parts, Tally, ThreadSummary};

use crate::trace::{model::Model, order::Order};

mod experiment;
mod memory;
mod outcome;
mod tasks;
mod values;

pub use memory::{Area, FIRST, heap, heap_page, heap_pages, of_frame};
pub use outcome::{Outcome, adds_up, booked};
pub use tasks::{FORK, PTHREAD, VFORK, known};
pub use values::{
    READ, WRITE, ZERO, anonymous, counters, detailed, file, flagged, minor, ro, rw, tallied, wire,
};

/// memtrace itself, the parent of the first process.
pub const MEMTRACE: u32 = 1;

/// What is known of a thread that the story tells of.
#[derive(Clone, Copy, Default)]
pub struct Task {
    pub pid: u32,
    /// The thread whose child it is.
    parent: u32,
    pub parts: Parts,
    serial: u32,
    /// The address space and the address of the VMA that was told of last.
    seen: Option<(u64, u64)>,
}

/// A run's records, in the order of their writing.
#[derive(Default)]
pub struct Story {
    pub records: Vec<Record>,
    pub tasks: HashMap<u32, Task>,
    /// The process of each thread that there was.
    pids: HashMap<u32, u32>,
    /// When records were lost, and what was counted on threads whose ends were.
    pub losses: Vec<RangeInclusive<u64>>,
    pub further: Tally,
    now: u64,
    addresses: u64,
    /// The hooks count, as with `--summary`.
    pub summary: bool,
}

impl Story {
    /// A story that begins with the first process, which has run no program yet.
    pub fn of(pid: u32, mm: u64) -> Self {
        let mut story = Self::default();
        let memtrace = Task {
            pid: MEMTRACE,
            parts: Parts {
                io: 0,
                sysvsem: 0,
                ..story.all_parts()
            },
            ..Task::default()
        };
        story.tasks.insert(MEMTRACE, memtrace);
        story.fork(MEMTRACE, pid, mm);
        story.tasks.remove(&MEMTRACE);
        story
    }

    /// A process 100 with a second thread, 101.
    pub fn threaded() -> Self {
        let mut story = Self::of(100, 0xa);
        story.thread(100, 101, 0);
        story
    }

    /// A process 100 that has forked 200, with which it shares the first pages of its heap.
    pub fn forked(pages: u64) -> Self {
        let mut story = Self::of(100, 0xa);
        story.fork_of(100, 200, 0xb, &[heap_pages(0..pages)]);
        story
    }

    /// The time of what comes next.
    pub fn tick(&mut self) -> u64 {
        self.now += 10;
        self.now
    }

    /// The time of what came last.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Tells what happened at an earlier time, and was written only now.
    pub fn at(&mut self, ts: u64, tell: impl FnOnce(&mut Self)) {
        let now = std::mem::replace(&mut self.now, ts - 10);
        tell(self);
        self.now = now;
    }

    fn head(&mut self, tid: u32, kind: Kind) -> Header {
        Header {
            ts: self.tick(),
            tid,
            kind: kind as u8,
            ..Header::default()
        }
    }

    /// What a thread of the story has.
    pub fn parts(&self, tid: u32) -> Parts {
        self.tasks[&tid].parts
    }

    fn task_mut(&mut self, tid: u32) -> &mut Task {
        self.tasks.get_mut(&tid).expect("a thread of the story")
    }

    /// The address of a new object.
    pub fn address(&mut self) -> u64 {
        self.addresses += 0x40;
        0xffff_8881_0000_0000 + self.addresses
    }

    /// Tells it to the end.
    pub fn play(self) -> Outcome {
        self.play_with(&[])
    }

    /// Tells it to an end at which `living` go on. Whatever the story, its accounts add up.
    pub fn play_with(mut self, living: &[ThreadSummary]) -> Outcome {
        let (mut order, mut model) = (Order::default(), Model::new(ZERO, self.summary));
        let mut events = Vec::new();
        for time in self.losses {
            model.lost(time);
        }
        order.push(&mut self.records);
        let Ok(()) = order.release(u64::MAX, |record, ts| {
            model.take(record, ts, &mut events);
            Ok::<(), Infallible>(())
        });
        let outcome = Outcome::new(events, model.finish(living, &self.further));
        outcome.check(self.summary);
        outcome
    }
}
