//! CPUs that run threads as the hooks see them: what happens, when, and when a record of it is written.
//!
//! What the kernel allows is allowed here: a fault is handled some time after its exception, and its record written some
//! time after that; a call takes effect before it returns; an exit is known before the memory is given up, and that
//! before the thread is gone; a fork shares the pages before the child is complete. Meanwhile the other CPUs go on.

mod memory;
mod tasks;
mod write;

use std::{collections::VecDeque, ops::Range};

use super::random::Random;
use memory::{Memory, PAGES};
use memtrace_ebpf::record::Record;

pub const CPUS: usize = 3;
/// Threads that live at the same time, at the most.
const THREADS: usize = 9;

/// A fault under way.
#[derive(Clone, Copy)]
struct Open {
    ts: u64,
    page: u64,
    /// The entry at the exception, and how often its frame was mapped.
    before: (u64, u32),
    serial: u32,
    handled: bool,
    held: bool,
}

/// What a thread is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// The program runs.
    Nothing,
    /// A fork: when it began, and the child's memory once that is copied.
    Fork { began: u64, copy: Option<u32> },
    /// The child is there: the call returns.
    Return { began: u64, child: u32 },
    /// Pages are discarded, or moved; and whether that is done.
    Discard { first: u64, count: u64, done: bool },
    Move {
        from: u64,
        to: u64,
        count: u64,
        done: bool,
    },
    /// An exec, which has the new memory already.
    Exec,
    /// An exit, of which that much is done.
    Exit { left: bool },
}

/// A thread.
#[derive(Clone, Copy)]
struct Thread {
    tid: u32,
    pid: u32,
    space: u32,
    serial: u32,
    /// The memory that it was last told of.
    seen: u32,
    open: Option<Open>,
    doing: Doing,
    /// A child that has not been back in user mode.
    fresh: bool,
}

/// A CPU.
#[derive(Default)]
struct Cpu {
    runs: Option<Thread>,
    /// Records for which a hook has taken its time, but not yet their place in the buffer; and a child that waits for
    /// the hook's end.
    pending: VecDeque<Record>,
    child: Option<Thread>,
    ticked: u64,
}

/// All of it.
pub struct Machine {
    pub random: Random,
    now: u64,
    cpus: Vec<Cpu>,
    waiting: VecDeque<Thread>,
    memory: Memory,
    /// What the hooks have written, in that order.
    pub buffer: Vec<Record>,
    /// All that happened, each in its place.
    pub truth: Vec<Record>,
    pub seen: Statistics,
    ids: u32,
}

/// How often what happened.
#[derive(Default)]
pub struct Statistics {
    pub held: usize,
    /// Pages that the forks left shared.
    pub shared: u64,
    /// From when each fork was under way until when.
    pub forking: Vec<Range<u64>>,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        let mut machine = Self {
            random: Random(seed),
            now: 10_000,
            cpus: (0..CPUS).map(|_| Cpu::default()).collect(),
            waiting: VecDeque::new(),
            memory: Memory::default(),
            buffer: Vec::new(),
            truth: Vec::new(),
            seen: Statistics::default(),
            ids: 99,
        };
        machine.first();
        machine
    }

    /// The time up to which each CPU has written all.
    pub fn ticked(&self) -> u64 {
        let times = self.cpus.iter().map(|cpu| cpu.ticked);
        times.min().unwrap_or(0)
    }

    fn thread(&mut self, cpu: usize) -> &mut Thread {
        self.cpus[cpu].runs.as_mut().expect("it runs")
    }

    fn count(&self, of: impl Fn(&Thread) -> bool) -> usize {
        let running = self.cpus.iter().filter_map(|cpu| cpu.runs.as_ref());
        let born = self.cpus.iter().filter_map(|cpu| cpu.child.as_ref());
        let threads = running.chain(born).chain(&self.waiting);
        threads.filter(|thread| of(thread)).count()
    }

    /// A moment passes on one of the CPUs.
    pub fn step(&mut self) {
        self.now += 1 + self.random.below(5);
        let cpu = self.random.below(CPUS as u64) as usize;
        if let Some(record) = self.cpus[cpu].pending.pop_front() {
            self.buffer.push(record);
            if self.cpus[cpu].pending.is_empty() {
                let child = self.cpus[cpu].child.take();
                self.waiting.extend(child);
            }
            return;
        }
        let Some(thread) = self.cpus[cpu].runs else {
            self.cpus[cpu].ticked = self.now;
            self.schedule(cpu);
            return;
        };
        let chance = self.random.below(20);
        match (thread.open.is_some_and(|open| !open.handled), chance) {
            (_, 0) => self.tick(cpu),
            (_, 1) => self.switch(cpu),
            (true, _) => self.handle(cpu),
            (false, _) => self.go_on(cpu, thread),
        }
    }

    /// The thread's next step.
    fn go_on(&mut self, cpu: usize, thread: Thread) {
        if thread.fresh {
            self.thread(cpu).fresh = false;
            if thread.tid == thread.pid {
                self.return_in_child(cpu);
            }
            return;
        }
        match thread.doing {
            Doing::Nothing => self.begin(cpu, thread),
            Doing::Fork { began, copy: None } => {
                let copy = Some(self.memory.dup(thread.space));
                self.thread(cpu).doing = Doing::Fork { began, copy };
            }
            Doing::Fork {
                began,
                copy: Some(copy),
            } => self.birth(cpu, began, Some(copy)),
            Doing::Return { began, child } => self.return_in_parent(cpu, began, child),
            Doing::Discard { .. } | Doing::Move { .. } => self.change(cpu, thread),
            Doing::Exec => self.exec(cpu, thread),
            Doing::Exit { left: false } => {
                self.memory.leave(thread.space);
                self.thread(cpu).doing = Doing::Exit { left: true };
            }
            Doing::Exit { left: true } => self.gone(cpu, thread),
        }
    }

    /// The program does something.
    fn begin(&mut self, cpu: usize, thread: Thread) {
        let threads = self.count(|_| true);
        let beside = |of: fn(Doing) -> bool| {
            self.count(|other| other.space == thread.space && of(other.doing)) > 0
        };
        let alone = self.count(|other| other.space == thread.space) == 1;
        // While a fork has shared pages and is not complete, memtrace has not heard of it yet. A thread beside it that
        // discards such pages, or forks as well, is more than it can sort out afterwards.
        let no_fork = !beside(|doing| matches!(doing, Doing::Fork { .. }));
        let no_discard = !beside(|doing| matches!(doing, Doing::Discard { .. }));
        let first = self.random.below(PAGES);
        let began = self.now;
        match self.random.below(24) {
            0 | 1 if threads < THREADS && no_fork && no_discard => {
                self.close(cpu);
                self.thread(cpu).doing = Doing::Fork { began, copy: None };
            }
            2 if threads < THREADS => {
                self.close(cpu);
                self.birth(cpu, began, None);
            }
            3 if no_fork => {
                self.close(cpu);
                let count = 1 + self.random.below(PAGES - first);
                self.thread(cpu).doing = Doing::Discard {
                    first,
                    count,
                    done: false,
                };
            }
            4 if alone => {
                self.close(cpu);
                let (from, to) = (first / 2, PAGES / 2 + self.random.below(PAGES / 2));
                let count = 1 + self.random.below(PAGES - to).min(PAGES / 2 - from - 1);
                self.thread(cpu).doing = Doing::Move {
                    from,
                    to,
                    count,
                    done: false,
                };
            }
            5 if alone => {
                self.close(cpu);
                let space = self.memory.new_space();
                self.memory.leave(thread.space);
                let thread = self.thread(cpu);
                thread.space = space;
                thread.doing = Doing::Exec;
            }
            6 if threads > CPUS => self.exit(cpu),
            7 => self.switch(cpu),
            8 => self.tick(cpu),
            _ => self.fault(cpu, first),
        }
    }

    /// The CPU takes another thread, if one waits.
    fn schedule(&mut self, cpu: usize) {
        if !self.waiting.is_empty() {
            let at = self.random.below(self.waiting.len() as u64) as usize;
            self.cpus[cpu].runs = self.waiting.swap_remove_back(at);
        }
    }

    /// The thread leaves its CPU.
    fn switch(&mut self, cpu: usize) {
        if self.thread(cpu).open.is_some_and(|open| open.handled) && self.random.below(2) == 0 {
            self.close(cpu);
        }
        self.hold(cpu);
        let thread = self.cpus[cpu].runs.take();
        self.waiting.extend(thread);
        self.schedule(cpu);
    }

    fn tick(&mut self, cpu: usize) {
        self.cpus[cpu].ticked = match self.thread(cpu).open {
            Some(open) if !open.handled => open.ts - 1,
            _ => {
                self.close(cpu);
                self.now
            }
        };
    }

    /// What is under way comes to where it is seen.
    pub fn settle(&mut self) {
        let mut threads: Vec<Thread> = self.waiting.drain(..).collect();
        for cpu in &mut self.cpus {
            self.buffer.extend(cpu.pending.drain(..));
            threads.extend(cpu.runs.take());
        }
        for thread in threads {
            self.cpus[0].runs = Some(thread);
            if thread.open.is_some_and(|open| !open.handled) {
                self.handle(0);
            }
            self.close(0);
            if let Doing::Fork {
                began,
                copy: Some(copy),
            } = thread.doing
            {
                self.now += 1;
                self.birth(0, began, Some(copy));
            }
        }
        self.buffer.extend(self.cpus[0].pending.drain(..));
    }
}
