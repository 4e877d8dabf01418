//! Records come out in the order of their times, however the CPUs mixed them, with the same events.

use std::{collections::VecDeque, convert::Infallible};

use memtrace_ebpf::record::{Exit, Fault, Header, Held, Kind, Seen, Vma};

use super::story::{MEMTRACE, Story, WRITE, ZERO, anonymous, minor, rw, wire};
use crate::trace::{
    event::{Event, Region, What},
    model::Model,
    order::Order,
    record::Record,
};

/// A small generator (xorshift64*): the same numbers for the same seed, anywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const CPUS: usize = 3;
const THREADS: u32 = 7;
const STEPS: usize = 400;

#[derive(Clone, Copy)]
struct Open {
    ts: u64,
    serial: u32,
    held: bool,
}

#[derive(Clone, Copy)]
struct Thread {
    tid: u32,
    open: Option<Open>,
    serial: u32,
}

/// CPUs that run threads as the hooks see them (`memtrace-ebpf/src/hooks/fault.rs`).
struct Machine {
    random: Random,
    now: u64,
    running: Vec<Thread>,
    waiting: VecDeque<Thread>,
    /// A record for which a hook on that CPU has taken its time, but not yet its place in the buffer.
    pending: Vec<Option<Record>>,
    ticked: Vec<u64>,
    buffer: Vec<Record>,
    /// All that happened, each in its place: its time, and the record.
    truth: Vec<Record>,
    held: usize,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let mut threads: VecDeque<Thread> = (0..THREADS)
            .map(|at| Thread {
                tid: 100 + at,
                open: None,
                serial: 0,
            })
            .collect();
        let running: Vec<Thread> = threads.drain(..CPUS).collect();
        Self {
            random: Random(seed),
            now: 10_000,
            running,
            waiting: threads,
            pending: vec![None; CPUS],
            ticked: vec![0; CPUS],
            buffer: Vec::new(),
            truth: Vec::new(),
            held: 0,
        }
    }

    fn head(thread: Thread, ts: u64, kind: Kind) -> Header {
        Header {
            ts,
            tid: thread.tid,
            kind: kind as u8,
            ..Header::default()
        }
    }

    /// The fault under way on a CPU is seen to be over.
    fn close(&mut self, cpu: usize) {
        let thread = self.running[cpu];
        let Some(open) = self.running[cpu].open.take() else {
            return;
        };
        let fault = minor(WRITE, 0x1000 * u64::from(open.serial), 0, rw(open.ts));
        let head = Self::head(thread, open.ts, Kind::Fault);
        let record = wire(
            &Fault {
                head: Header {
                    flags: fault.head.flags,
                    a: 0x11,
                    b: WRITE,
                    ..head
                },
                vma: open.serial,
                ..fault
            },
            &[],
        );
        self.buffer.push(record.clone());
        self.truth.push(record);
    }

    fn begin(&mut self, cpu: usize) {
        self.close(cpu);
        let ts = self.now;
        let another = self.random.below(2) == 0 || self.running[cpu].serial == 0;
        let thread = &mut self.running[cpu];
        thread.serial += u32::from(another);
        let serial = thread.serial;
        thread.open = Some(Open {
            ts,
            serial,
            held: false,
        });
        if another {
            let start = 0x1000 * u64::from(serial);
            let record = wire(
                &Vma {
                    head: Header {
                        a: Seen::Fault as u8,
                        ..Self::head(*thread, ts, Kind::Vma)
                    },
                    serial,
                    ..anonymous(start, start + 0x1000)
                },
                &[],
            );
            self.buffer.push(record.clone());
            self.truth.push(record);
        }
    }

    /// Something else happens to the thread: here its exit, which says by its status when it was.
    fn other(&mut self, cpu: usize) {
        self.close(cpu);
        let record = wire(
            &Exit {
                head: Self::head(self.running[cpu], self.now, Kind::Exit),
                status: (self.now as u32 & 0xff) << 8,
                ..Exit::default()
            },
            &[],
        );
        self.truth.push(record.clone());
        self.pending[cpu] = Some(record);
    }

    fn switch(&mut self, cpu: usize) {
        if self.random.below(3) == 0 {
            self.close(cpu);
        }
        let thread = &mut self.running[cpu];
        let tid = thread.tid;
        if let Some(open) = &mut thread.open
            && !open.held
        {
            open.held = true;
            self.held += 1;
            let head = Header {
                ts: open.ts,
                tid,
                kind: Kind::Held as u8,
                ..Header::default()
            };
            self.buffer.push(wire(&Held { head }, &[]));
        }
        self.waiting.push_back(self.running[cpu]);
        let at = self.random.below(self.waiting.len() as u64) as usize;
        self.running[cpu] = self.waiting.swap_remove_back(at).expect("one waits");
    }

    fn tick(&mut self, cpu: usize) {
        self.ticked[cpu] = match self.running[cpu].open {
            Some(open) if self.random.below(2) == 0 => open.ts - 1,
            _ => {
                self.close(cpu);
                self.now
            }
        };
    }

    fn step(&mut self) {
        self.now += 1 + self.random.below(5);
        let cpu = self.random.below(CPUS as u64) as usize;
        if let Some(record) = self.pending[cpu].take() {
            self.buffer.push(record);
            return;
        }
        match self.random.below(10) {
            0..5 => self.begin(cpu),
            5..7 => self.other(cpu),
            7 => self.switch(cpu),
            _ => self.tick(cpu),
        }
    }
}

/// A model that knows the threads.
fn model() -> Model {
    let mut story = Story::of(100, 0xa);
    for tid in 101..100 + THREADS {
        story.thread(100, tid, 0);
    }
    assert!(
        story
            .records
            .iter()
            .all(|record| record.header().ts < 10_000)
    );
    assert_eq!(story.records[0].header().tid, MEMTRACE);
    let mut model = Model::new(ZERO, false);
    for record in story.records {
        let ts = record.header().ts;
        model.take(record, ts, &mut Vec::new());
    }
    model
}

fn check(seed: u64) -> usize {
    let mut machine = Machine::new(seed);
    let (mut order, mut shuffled) = (Order::default(), model());
    let mut events: Vec<Event> = Vec::new();
    let mut until = 0;
    for _ in 0..STEPS {
        machine.step();
        if machine.random.below(8) == 0 {
            // As Session::pump does.
            let ticked = machine.ticked.iter().copied().min().unwrap_or(0);
            let until = std::mem::replace(&mut until, ticked);
            order.push(&mut machine.buffer);
            let Ok(()) = order.release(until, |record, ts| {
                shuffled.take(record, ts, &mut events);
                Ok::<(), Infallible>(())
            });
        }
    }
    let early = events.len();
    for cpu in 0..CPUS {
        machine.buffer.extend(machine.pending[cpu].take());
        machine.close(cpu);
    }
    while let Some(thread) = machine.waiting.pop_front() {
        machine.running[0] = thread;
        machine.close(0);
    }
    order.push(&mut machine.buffer);
    order.let_go();
    let Ok(()) = order.release(u64::MAX, |record, ts| {
        shuffled.take(record, ts, &mut events);
        Ok::<(), Infallible>(())
    });

    machine
        .truth
        .sort_by_key(|record| (record.header().ts, matches!(record, Record::Fault(_))));
    let mut plain = model();
    let mut expected: Vec<Event> = Vec::new();
    for record in &machine.truth {
        plain.take(record.clone(), record.header().ts, &mut expected);
    }
    assert_eq!(order.late, 0, "seed {seed}");
    assert!(events.is_sorted_by_key(|event| event.ts), "seed {seed}");
    assert_eq!(events, expected, "seed {seed}");
    assert_eq!(shuffled.finish(&[]), plain.finish(&[]), "seed {seed}");
    for event in &events {
        if let What::Fault(fault) = &event.what {
            assert_eq!(
                fault.region,
                Region::Anon,
                "its VMA came before it: seed {seed}"
            );
        }
    }
    assert!(machine.held > 0, "seed {seed} holds none");
    early
}

#[test]
fn what_the_cpus_mix_comes_out_in_order() {
    let early: usize = (1..=200).map(check).sum();
    assert!(
        early > 200 * STEPS / 4,
        "most comes before the end: {early}"
    );
}
