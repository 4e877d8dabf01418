//! Bringing records into the order of their times.
//!
//! A fault is written when it is seen to be over, with the time at which it began; by then later things may have been
//! written. So records wait here until nothing earlier can come: until each CPU has said, by a tick, that all before a
//! time has been written, and no thread that left its CPU in the middle of a fault is still in it.

use std::collections::VecDeque;

use memtrace_ebpf::record::{Fault, FaultPending, Handled, Record};
use rustc_hash::FxHashMap as HashMap;

/// Nanoseconds that the rest waits for one thread's fault; after that it is shown, and the fault later.
const PATIENCE: u64 = 1_000_000_000;
/// Records that wait at the most; the oldest beyond them are shown, whatever may come before them yet.
pub const ROOM: usize = 200_000;

/// Records that wait for their turn.
#[derive(Default)]
pub struct Order {
    /// In the order of their writing; none where it was handed out before one that was written earlier.
    waiting: VecDeque<Option<Record>>,
    /// How many had been written before the first of them.
    before: u64,
    /// When each that waits has its turn: its time, and how many had been written before it. These are sorted, as the records are
    /// several times as large.
    turns: Vec<(u64, u64)>,
    /// Threads that are in the middle of a fault: when it began.
    pending: HashMap<u32, u64>,
    released: u64,
    /// Records that came too late for their place.
    pub late: u64,
}

impl Order {
    /// Takes records in the order in which they were written, leaving `records` empty.
    pub fn push(&mut self, records: &mut Vec<Record>) {
        let written = self.before + self.waiting.len() as u64;
        for (number, record) in (written..).zip(records.drain(..)) {
            match &record {
                Record::FaultPending(FaultPending { head }) => {
                    self.pending.insert(head.tid, head.ts);
                }
                Record::Fault(Fault { head, .. })
                | Record::Handled(Handled {
                    fault: Fault { head, .. },
                    ..
                }) if self.pending.get(&head.tid) == Some(&head.ts) => {
                    self.pending.remove(&head.tid);
                }
                _ => {}
            }
            self.turns.push((record.header().ts, number));
            self.waiting.push_back(Some(record));
        }
    }

    /// Whether a record like that waits.
    pub fn holds(&self, is_it: impl FnMut(&Record) -> bool) -> bool {
        self.waiting.iter().flatten().any(is_it)
    }

    /// How many places are taken, for tests: those that are empty count, too.
    #[cfg(test)]
    pub fn places(&self) -> usize {
        self.waiting.len()
    }

    /// The time of the last record that was handed out.
    pub const fn released(&self) -> u64 {
        self.released
    }

    /// Nothing more will be written: waits for no fault any longer.
    pub fn let_go(&mut self) {
        self.pending.clear();
    }

    /// Hands out, in order, all records up to the time `until`, before which nothing more will be written but pending
    /// faults, and the oldest where too many wait. The second argument of `emit` is the record's time in the output: its own, unless it is late.
    pub fn release<E>(
        &mut self,
        until: u64,
        mut emit: impl FnMut(Record, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        // Places that are empty take room, too.
        let beyond = self.waiting.len().saturating_sub(ROOM);
        let crowded = beyond > 0;
        self.pending
            .retain(|_, began| !crowded && began.saturating_add(PATIENCE) > until);
        let until = self
            .pending
            .values()
            .fold(until, |until, began| until.min(began.saturating_sub(1)));
        // Stable: records of one time stay in the order of their writing, a VMA before its fault. And quick, as they are in
        // order but for a few.
        self.turns.sort_by_key(|(ts, _)| *ts);
        let ready = self
            .turns
            .partition_point(|(ts, _)| *ts <= until)
            .max(beyond.min(self.turns.len()));
        for (ts, number) in self.turns.drain(..ready) {
            let record = self.waiting.get_mut((number - self.before) as usize);
            let Some(record) = record.and_then(Option::take) else {
                continue;
            };
            if matches!(record, Record::Path(..)) {
                // It has no time.
            } else if ts < self.released {
                self.late += 1;
            } else {
                self.released = ts;
            }
            emit(record, self.released)?;
        }
        while self.waiting.pop_front_if(|first| first.is_none()).is_some() {
            self.before += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use memtrace_ebpf::record::{Exit, Header, Path};

    use super::*;

    fn head(tid: u32, ts: u64) -> Header {
        Header {
            ts,
            tid,
            ..Header::default()
        }
    }

    fn fault(tid: u32, ts: u64) -> Record {
        Record::Fault(Fault {
            head: head(tid, ts),
            ..Fault::default()
        })
    }

    fn exit(tid: u32, ts: u64) -> Record {
        Record::Exit(Exit {
            head: head(tid, ts),
            ..Exit::default()
        })
    }

    fn pending(tid: u32, ts: u64) -> Record {
        Record::FaultPending(FaultPending {
            head: head(tid, ts),
        })
    }

    fn released(order: &mut Order, until: u64) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        let Ok(()) = order.release(until, |record, ts| {
            if !matches!(record, Record::FaultPending(_)) {
                out.push((record.header().ts, ts));
            }
            Ok::<(), Infallible>(())
        });
        out
    }

    #[test]
    fn a_fault_that_is_written_late_comes_at_its_time() {
        let mut order = Order::default();
        order.push(&mut vec![exit(2, 20), exit(3, 30), fault(1, 10)]);
        assert_eq!(released(&mut order, 25), [(10, 10), (20, 20)]);
        assert_eq!(released(&mut order, 30), [(30, 30)]);
        assert_eq!(order.late, 0);
    }

    #[test]
    fn a_path_comes_before_all_that_may_refer_to_it() {
        let mut order = Order::default();
        order.push(&mut vec![exit(2, 20)]);
        assert_eq!(released(&mut order, 25), [(20, 20)]);
        let path = Record::Path(Path::default(), Box::default());
        order.push(&mut vec![exit(3, 30), path]);
        assert_eq!(released(&mut order, 25), [(0, 20)], "whatever its turn");
        assert_eq!(released(&mut order, 30), [(30, 30)]);
        assert_eq!(order.late, 0);
    }

    #[test]
    fn a_pending_fault_is_waited_for() {
        let mut order = Order::default();
        order.push(&mut vec![pending(1, 10), exit(2, 20)]);
        assert_eq!(released(&mut order, 100), []);
        order.push(&mut vec![fault(1, 10)]);
        assert_eq!(released(&mut order, 100), [(10, 10), (20, 20)]);
        assert_eq!(order.late, 0);
    }

    #[test]
    fn patience_ends_and_the_order_holds() {
        let mut order = Order::default();
        order.push(&mut vec![pending(1, 10), exit(2, 20)]);
        assert_eq!(released(&mut order, 10 + PATIENCE), [(20, 20)]);
        order.push(&mut vec![fault(1, 10)]);
        assert_eq!(released(&mut order, 11 + PATIENCE), [(10, 20)]);
        assert_eq!(order.late, 1);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut order = Order::default();
        order.push(&mut vec![pending(1, 10)]);
        order.push(&mut (0..=ROOM as u64).map(|n| exit(2, 20 + n)).collect());
        assert_eq!(released(&mut order, 20 + ROOM as u64).len(), ROOM + 1);
    }

    #[test]
    fn what_waits_is_bounded_wherever_the_ticks_are() {
        let mut order = Order::default();
        order.push(&mut (0..ROOM as u64 + 3).map(|n| exit(2, 20 + n)).collect());
        assert_eq!(released(&mut order, 0), [(20, 20), (21, 21), (22, 22)]);
        assert_eq!(released(&mut order, 0), []);
        order.push(&mut vec![fault(1, 21), exit(2, 20 + ROOM as u64 + 3)]);
        assert_eq!(released(&mut order, 0), [(21, 22), (23, 23)]);
        assert_eq!(order.late, 1);
    }
}
