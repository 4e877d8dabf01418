//! Builds the records of a run.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use bytemuck::{Pod, bytes_of};
use memtrace_ebpf::{
    fault::{error_code, vm},
    record::{
        Birth, Bounds, Call, Exec, Exit, FAULT_MINOR, Fault, Gone, Header, Kind, Known, Parts,
        Path, Rename, Seen, Tally, Unobserved, VMA_HAS_OPS, Vma,
    },
    syscall,
};

use crate::trace::{
    event::{self, Account, Event, ForkAccount, Life, What},
    model::{Finished, Model},
    order::Order,
    record::Record,
};

/// memtrace itself, the parent of the first process.
pub const MEMTRACE: u32 = 1;
/// The zero page's frame.
pub const ZERO: u64 = 0x77;
/// Error codes of user mode.
pub const READ: u8 = error_code::USER;
pub const WRITE: u8 = error_code::USER | error_code::WRITE;
/// Flags of `fork` as libc calls it, and of `pthread_create`.
const FORK: u64 = 0x0120_0011;
const PTHREAD: u64 = 0x003d_0f00;
const VFORK: u64 = 0x4111;

/// An entry that maps a frame, read-only.
pub const fn ro(pfn: u64) -> u64 {
    pfn << 12 | 1
}

/// An entry that maps a frame, writable and written.
pub const fn rw(pfn: u64) -> u64 {
    pfn << 12 | 0x43
}

/// A record as it comes out of the ring buffer.
pub fn wire<T: Pod>(record: &T, rest: &[u8]) -> Record {
    let bytes = [bytes_of(record), rest].concat();
    Record::decode(&bytes).expect("a record of the hooks' own making")
}

/// What is known of a thread that the story tells of.
#[derive(Clone, Copy, Default)]
struct Task {
    pid: u32,
    mm: u64,
    serial: u32,
}

/// A run's records, in the order of their writing.
#[derive(Default)]
pub struct Story {
    pub records: Vec<Record>,
    now: u64,
    tasks: HashMap<u32, Task>,
}

/// What comes of it.
pub struct Outcome {
    pub events: Vec<Event>,
    pub rows: Vec<Account>,
    pub total: Account,
    pub forks: Vec<ForkAccount>,
    pub tasks: Vec<Life>,
}

impl Story {
    /// A story that begins with the first process, which has run no program yet.
    pub fn of(pid: u32, mm: u64) -> Self {
        let mut story = Self::default();
        story.fork(MEMTRACE, pid, mm);
        story
    }

    /// The time of what comes next.
    pub fn tick(&mut self) -> u64 {
        self.now += 10;
        self.now
    }

    fn head(&mut self, tid: u32, kind: Kind) -> Header {
        Header {
            ts: self.tick(),
            tid,
            kind: kind as u8,
            ..Header::default()
        }
    }

    fn birth(&mut self, parent: u32, child_tid: u32, child: Task, birth: Birth) {
        let from = self.tasks.get(&parent).copied().unwrap_or_default();
        let part = |mm| Parts {
            mm,
            ..Parts::default()
        };
        let record = Birth {
            head: self.head(parent, Kind::Birth),
            parent_pid: from.pid,
            child_pid: child.pid,
            child_tid,
            followed: 1,
            parent: part(from.mm),
            child: part(child.mm),
            comm: *b"first\0\0\0\0\0\0\0\0\0\0\0",
            ..birth
        };
        self.tasks.insert(child_tid, child);
        self.records.push(wire(&record, &[]));
    }

    /// `parent` forks a process with an address space of its own.
    pub fn fork(&mut self, parent: u32, pid: u32, mm: u64) {
        let child = Task { pid, mm, serial: 0 };
        let birth = Birth {
            flags: FORK,
            exit_signal: 17,
            call: syscall::CLONE,
            ..Birth::default()
        };
        self.birth(parent, pid, child, birth);
    }

    /// `parent` forks a process in its own address space.
    pub fn vfork(&mut self, parent: u32, pid: u32) {
        let mm = self.tasks[&parent].mm;
        let child = Task { pid, mm, serial: 0 };
        let birth = Birth {
            flags: VFORK,
            exit_signal: 17,
            call: syscall::VFORK,
            ..Birth::default()
        };
        self.birth(parent, pid, child, birth);
    }

    /// `parent` starts a thread whose stack has `stack` in it.
    pub fn thread(&mut self, parent: u32, tid: u32, stack: u64) {
        let child = Task {
            serial: 0,
            ..self.tasks[&parent]
        };
        let birth = Birth {
            flags: PTHREAD,
            exit_signal: -1,
            call: syscall::CLONE3,
            stack,
            ..Birth::default()
        };
        self.birth(parent, tid, child, birth);
    }

    /// A file is announced.
    pub fn path(&mut self, tid: u32, file: u64, path: &str) {
        let components: Vec<&str> = path.split('/').skip(1).collect();
        let mut bytes = Vec::new();
        for component in components.iter().rev() {
            bytes.extend_from_slice(component.as_bytes());
            bytes.push(0);
        }
        let record = Path {
            head: self.head(tid, Kind::Path),
            file,
            len: bytes.len() as u32,
            ..Path::default()
        };
        self.records.push(wire(&record, &bytes));
    }

    /// The thread that was `old_tid` has exec'ed.
    pub fn exec(&mut self, old_tid: u32, mm: u64, exe: u64, bounds: Bounds, args: &[&str]) {
        let task = self.tasks.remove(&old_tid).expect("a thread of the story");
        let tid = task.pid;
        self.tasks.insert(tid, Task { mm, ..task });
        let name = b"./prog\0";
        let args: String = args.iter().flat_map(|arg| [*arg, "\0"]).collect();
        let record = Exec {
            head: self.head(tid, Kind::Exec),
            pid: tid,
            old_tid,
            mm,
            exe,
            bounds,
            name_len: name.len() as u32,
            args_len: args.len() as u32,
            ..Exec::default()
        };
        self.records
            .push(wire(&record, &[name, args.as_bytes()].concat()));
    }

    /// An exec of the thread's is under way: it uses the new address space already.
    pub fn in_exec(&mut self, tid: u32, mm: u64) {
        self.tasks.get_mut(&tid).expect("a thread of the story").mm = mm;
    }

    /// The hooks saw a VMA.
    pub fn vma(&mut self, tid: u32, seen: Seen, vma: Vma) {
        let head = self.head(tid, Kind::Vma);
        let task = self.tasks.get_mut(&tid).expect("a thread of the story");
        task.serial += 1;
        let record = Vma {
            head: Header {
                flags: vma.head.flags,
                a: seen as u8,
                ..head
            },
            mm: task.mm,
            serial: task.serial,
            ..vma
        };
        self.records.push(wire(&record, &[]));
    }

    /// The hooks saw a VMA, but its record was lost.
    pub fn lost_vma(&mut self, tid: u32) {
        self.tick();
        self.tasks
            .get_mut(&tid)
            .expect("a thread of the story")
            .serial += 1;
    }

    /// A fault in the VMA seen last.
    pub fn fault(&mut self, tid: u32, fault: Fault) {
        self.fault_at(0x11, tid, fault);
    }

    /// The same; the levels of its entries are those of the header's byte `levels`.
    pub fn fault_at(&mut self, levels: u8, tid: u32, fault: Fault) {
        let record = Fault {
            head: Header {
                flags: fault.head.flags,
                a: levels,
                b: fault.head.b,
                ..self.head(tid, Kind::Fault)
            },
            vma: self.tasks[&tid].serial,
            ..fault
        };
        self.records.push(wire(&record, &[]));
    }

    /// A mapping call has returned.
    pub fn call(&mut self, tid: u32, number: u32, args: [u64; 6], ret: i64) {
        let record = Call {
            head: self.head(tid, Kind::Call),
            number,
            args,
            ret,
            ..Call::default()
        };
        self.records.push(wire(&record, &[]));
    }

    /// The kernel counted faults without an exception.
    pub fn unobserved(&mut self, tid: u32, call: u32, minor: u32, major: u32) {
        let record = Unobserved {
            head: self.head(tid, Kind::Unobserved),
            call,
            minor,
            major,
            ..Unobserved::default()
        };
        self.records.push(wire(&record, &[]));
    }

    pub fn rename(&mut self, tid: u32, name: &str) {
        let mut record = Rename {
            head: self.head(tid, Kind::Rename),
            ..Rename::default()
        };
        record.comm[..name.len()].copy_from_slice(name.as_bytes());
        self.records.push(wire(&record, &[]));
    }

    pub fn exit(&mut self, tid: u32, status: u32) {
        let record = Exit {
            head: self.head(tid, Kind::Exit),
            status,
            ..Exit::default()
        };
        self.records.push(wire(&record, &[]));
    }

    pub fn gone(&mut self, tid: u32, tally: Tally) {
        let record = Gone {
            head: self.head(tid, Kind::Gone),
            tally,
        };
        self.records.push(wire(&record, &[]));
    }

    /// Tells it to the end.
    pub fn play(self) -> Outcome {
        self.play_with(&[])
    }

    /// Tells it to an end at which `living` go on.
    pub fn play_with(mut self, living: &[Known]) -> Outcome {
        let (mut order, mut model) = (Order::default(), Model::new(ZERO, false));
        let mut events = Vec::new();
        order.push(&mut self.records);
        let Ok(()) = order.release(u64::MAX, |record, ts| {
            model.take(record, ts, &mut events);
            Ok::<(), Infallible>(())
        });
        let Finished {
            processes: rows,
            total,
            forks,
            tasks,
            ..
        } = model.finish(living);
        Outcome {
            events,
            rows,
            total,
            forks,
            tasks,
        }
    }
}

impl Outcome {
    /// The faults, in order.
    pub fn faults(&self) -> Vec<&event::Fault> {
        self.events
            .iter()
            .filter_map(|event| match &event.what {
                What::Fault(fault) => Some(fault),
                _ => None,
            })
            .collect()
    }

    /// The kinds of the faults by name, in order.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.faults()
            .iter()
            .map(|fault| fault.kind.name())
            .collect()
    }

    /// The regions of the faults by name, in order; in a library with its part.
    pub fn regions(&self) -> Vec<String> {
        self.faults()
            .iter()
            .map(|fault| match fault.part {
                Some(part) => format!("{} {}", fault.region.name(), part.name()),
                None => fault.region.name().to_owned(),
            })
            .collect()
    }

    /// The row of a process that is the only one of its pid.
    pub fn row(&self, pid: u32) -> &Account {
        let mut rows = self.rows.iter().filter(|row| row.pid == pid);
        let row = rows.next().expect("a row of the process");
        assert!(rows.next().is_none(), "two rows for {pid}");
        row
    }
}

/// A fault that the kernel counted as minor.
pub fn minor(error: u8, address: u64, before: u64, after: u64) -> Fault {
    Fault {
        head: Header {
            flags: FAULT_MINOR,
            b: error,
            ..Header::default()
        },
        address,
        ip: 0x40_1000,
        before,
        after,
        ..Fault::default()
    }
}

/// The same with other flags.
pub fn flagged(fault: Fault, flags: u8) -> Fault {
    let head = Header {
        flags,
        ..fault.head
    };
    Fault { head, ..fault }
}

/// Private anonymous memory.
pub fn anonymous(start: u64, end: u64) -> Vma {
    Vma {
        start,
        end,
        flags: vm::READ | vm::WRITE,
        ..Vma::default()
    }
}

/// A mapped file; `flags` are `VM_*`.
pub fn file(start: u64, end: u64, flags: u64, file: u64, pgoff: u64) -> Vma {
    Vma {
        head: Header {
            flags: VMA_HAS_OPS,
            ..Header::default()
        },
        start,
        end,
        flags,
        pgoff,
        file,
        ..Vma::default()
    }
}

/// Faults of each kind, as an account has them.
pub fn tallied(pairs: &[(&'static str, u64)]) -> BTreeMap<&'static str, u64> {
    pairs.iter().copied().collect()
}

/// Only the kernel's counters.
pub fn counters(min_flt: u64, maj_flt: u64) -> Tally {
    Tally {
        min_flt,
        maj_flt,
        ..Tally::default()
    }
}
