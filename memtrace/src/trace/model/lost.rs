//! What is made good where records were lost, and what is marked as incomplete.

use std::{mem, ops::RangeInclusive, sync::Arc};

use memtrace_ebpf::record::{Ids, Record, ThreadSummary};

use super::{Model, Process, birth::shown, until_nul};

/// Nanoseconds that it takes at the least until an id comes again: the kernel goes round all of them (`alloc_pid` in
/// `kernel/pid.c`), and has the more the more CPUs there are (`PIDS_PER_CPU_DEFAULT` in `include/linux/threads.h`).
const ROUND: u64 = 1_000_000_000;

impl Model {
    /// Records were lost at some moment of that time, of which nothing has been taken yet.
    pub fn lost(&mut self, time: RangeInclusive<u64>) {
        self.losses.note(time);
    }

    /// Notes who does something and isn't known, where that can be.
    pub(super) fn meets(&mut self, record: &Record) {
        if self.losses.is_empty() {
            return;
        }
        let (Record::Fault(_)
        | Record::Handled(_)
        | Record::Call(_)
        | Record::Exec(..)
        | Record::Unobserved(_)) = record
        else {
            return;
        };
        let tid = record.header().tid;
        if !self.threads.contains_key(&tid) {
            self.strangers.insert(tid);
        }
    }

    /// The threads that did something and aren't known, since this was asked last: their births were lost.
    pub fn strangers(&mut self) -> impl Iterator<Item = u32> + use<> {
        mem::take(&mut self.strangers).into_iter()
    }

    /// A thread whose birth was lost: what it does from now on is shown.
    pub fn introduce(&mut self, known: &ThreadSummary, ts: u64) {
        let ThreadSummary { pid, tid, .. } = *known;
        if self.threads.contains_key(&tid) {
            return;
        }
        let ids = shown(known.ids, pid, tid);
        let comm: Arc<str> = until_nul(&known.comm).into();
        self.meet(Ids { pid, tid }, ids, comm.clone(), ts);
        self.add_thread(Ids { pid, tid }, ids, 0, comm, 0, ts);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.counts.incomplete();
        }
    }

    /// A task is born: whoever had its ids before is gone, and if that isn't known yet word of it was lost.
    pub(super) fn ids_come_again(&mut self, pid: u32, tid: u32, is_thread: bool, ts: u64) {
        let mut before: Vec<u32> = Vec::new();
        if !is_thread && self.processes.contains_key(&pid) {
            let threads = self.threads.iter().filter(|(_, thread)| thread.pid == pid);
            before.extend(threads.map(|(tid, _)| *tid));
        } else if self.threads.contains_key(&tid) {
            before.push(tid);
        }
        for tid in before {
            if let Some(thread) = self.threads.remove(&tid) {
                self.leaves(&thread, tid, false, ts);
                self.close_if_over(thread.pid, ts);
            }
        }
        if !is_thread {
            self.book.comes_again(pid);
        }
    }

    /// The process with this id. One of which no thread was known any more goes on if this may be its thread as well.
    pub(super) fn process(
        &mut self,
        pid: u32,
        shown: u32,
        comm: Arc<str>,
        ts: u64,
    ) -> &mut Process {
        let losses = &self.losses;
        // A process keeps its id until its leader is gone, and nobody else has come by it whose birth wasn't lost.
        let is_it = |process: &Process| {
            let again = process.until.saturating_add(ROUND);
            !process.leader_gone || ts < again || !losses.any_in(again..=ts)
        };
        self.processes.entry(pid).or_insert_with(|| {
            self.book.reopen(pid, is_it).unwrap_or_else(|| {
                self.births += 1;
                Process::new(self.births, shown, comm, ts)
            })
        })
    }

    /// What the kernel counted on a thread, which may be one whose birth was lost, goes to its process.
    pub(super) fn counted(&mut self, known: &ThreadSummary, ts: u64) -> &mut Process {
        let shown = shown(known.ids, known.pid, known.tid);
        let comm = until_nul(&known.comm).into();
        let process = self.process(known.pid, shown.pid, comm, ts);
        if process.threads == 0 {
            process.counts.incomplete();
        }
        process.counts.thread(&known.tally);
        process
    }

    /// Closes the account of a process, of which nothing is known to come from the time `ts` on.
    pub(super) fn close(&mut self, pid: u32, mut process: Process, ts: u64) {
        // What the hooks count themselves is never lost.
        let may_lack = !self.summary || !process.counts.are_explained();
        if may_lack && self.losses.any_in(process.since..=ts) {
            process.counts.incomplete();
        }
        process.until = ts;
        self.book.close(pid, process);
    }
}
