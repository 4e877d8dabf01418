//! What the hooks write of faults and of calls that change memory.

use memtrace_ebpf::{
    pte::PAGE_SIZE,
    record::{
        Call, Detail, FAULT_MINOR, Fault, FaultDetail, FaultPending, Frame, Header, Kind, Vma,
        VmaReason,
    },
    syscall,
};

use super::{
    super::story::{WRITE, heap, heap_page, wire},
    Doing, Machine, Open, Thread,
};
use memtrace_ebpf::record::Record;

const MADV_DONTNEED: u64 = 4;
const MREMAP: u64 = 1 | 2 | 4;

impl Machine {
    pub(super) fn head(tid: u32, ts: u64, kind: Kind) -> Header {
        Header {
            ts,
            tid,
            kind: kind as u8,
            ..Header::default()
        }
    }

    /// A hook writes a record at once.
    fn write(&mut self, record: Record) {
        self.buffer.push(record.clone());
        self.truth.push(record);
    }

    /// A hook has taken its time, and will write.
    pub(super) fn promise(&mut self, cpu: usize, record: Record) {
        self.cpus[cpu].pending.push_back(record.clone());
        self.truth.push(record);
    }

    /// The program writes to a page.
    pub(super) fn fault(&mut self, cpu: usize, page: u64) {
        let (now, space) = (self.now, self.thread(cpu).space);
        // Two threads at one page would look like two copies, though one finds it done.
        let is_there = |other: &Thread| {
            other.space == space && other.open.is_some_and(|open| open.page == page)
        };
        if !self.memory.faults(space, page) || self.count(is_there) > 0 {
            return;
        }
        self.close(cpu);
        let address = self.memory.address(space);
        let before = self.memory.entry(space, page);
        let thread = self.thread(cpu);
        let another = thread.seen != space;
        thread.serial += u32::from(another);
        thread.seen = space;
        thread.open = Some(Open {
            ts: now,
            page,
            before,
            serial: thread.serial,
            handled: false,
            held: false,
        });
        let Thread { tid, serial, .. } = *thread;
        if another {
            let record = Vma {
                head: Header {
                    detail: Detail::reason(VmaReason::Fault as u8),
                    ..Self::head(tid, now, Kind::Vma)
                },
                mm: address,
                serial,
                ..heap()
            };
            self.write(wire(&record, &[]));
        }
    }

    /// The kernel handles the fault under way.
    pub(super) fn handle(&mut self, cpu: usize) {
        let thread = self.thread(cpu);
        let space = thread.space;
        if let Some(open) = &mut thread.open {
            open.handled = true;
            let page = open.page;
            self.memory.write(space, page);
        }
    }

    /// The fault under way is seen to be over.
    pub(super) fn close(&mut self, cpu: usize) {
        let thread = self.thread(cpu);
        let Some(open) = thread.open.take() else {
            return;
        };
        let Thread { tid, space, .. } = *thread;
        let (after, _) = self.memory.entry(space, open.page);
        let (before, map_count) = open.before;
        let frame = if before == 0 {
            Frame::Unknown
        } else {
            Frame::Anonymous
        };
        let detail = FaultDetail {
            levels: 0x11,
            error: WRITE,
            signal: 0,
            frame: frame as u8,
        };
        let record = Fault {
            head: Header {
                flags: FAULT_MINOR,
                detail: detail.into(),
                ..Self::head(tid, open.ts, Kind::Fault)
            },
            address: heap_page(open.page),
            ip: 0,
            before,
            after,
            vma: open.serial,
            map_count,
        };
        self.write(wire(&record, &[]));
    }

    /// The thread leaves its CPU: if that is in the middle of a fault, it is said.
    pub(super) fn hold(&mut self, cpu: usize) {
        let thread = self.thread(cpu);
        let tid = thread.tid;
        if let Some(open) = &mut thread.open
            && !open.held
        {
            open.held = true;
            let head = Self::head(tid, open.ts, Kind::FaultPending);
            self.seen.held += 1;
            self.buffer.push(wire(&FaultPending { head }, &[]));
        }
    }

    /// A call that changes memory does so, or returns.
    pub(super) fn change(&mut self, cpu: usize, thread: Thread) {
        let space = thread.space;
        let at = heap_page;
        let (number, args, ret) = match thread.doing {
            Doing::Discard { first, count, done } => {
                if !done {
                    self.memory.discard(space, first, count);
                    self.thread(cpu).doing = Doing::Discard {
                        first,
                        count,
                        done: true,
                    };
                    return;
                }
                let args = [at(first), count * PAGE_SIZE, MADV_DONTNEED, 0, 0, 0];
                (syscall::MADVISE, args, 0)
            }
            Doing::Move {
                from,
                to,
                count,
                done,
            } => {
                if !done {
                    self.memory.relocate(space, from, to, count);
                    self.thread(cpu).doing = Doing::Move {
                        from,
                        to,
                        count,
                        done: true,
                    };
                    return;
                }
                let len = count * PAGE_SIZE;
                let args = [at(from), len, len, MREMAP, at(to), 0];
                (syscall::MREMAP, args, at(to) as i64)
            }
            _ => return,
        };
        self.thread(cpu).doing = Doing::Nothing;
        let record = Call {
            head: Self::head(thread.tid, self.now, Kind::Call),
            number,
            args,
            ret,
            ..Call::default()
        };
        self.promise(cpu, wire(&record, &[]));
    }
}
