//! The end: the accounts of all processes and forks.

use std::{collections::BTreeSet, mem};

use memtrace_ebpf::record::{Tally, ThreadSummary};
use rustc_hash::FxHashSet as HashSet;

use super::{Model, pages};
use crate::trace::{
    event::{Account, ForkAccount, TaskLifetime},
    sharing::Leave,
};

/// What there is to report at the end.
#[derive(Debug, PartialEq)]
pub struct Finished {
    /// A row per process.
    pub processes: Vec<Account>,
    /// The sum of them.
    pub total: Account,
    /// The accounts of the forks.
    pub forks: Vec<ForkAccount>,
    /// The tasks.
    pub tasks: Vec<TaskLifetime>,
    /// Tasks that were too many.
    pub tasks_left_out: u64,
}

impl Model {
    /// Ends what was traced: the accounts of all processes and forks, and their sums. `living` is what the kernel side
    /// knows of the threads that are still there, `further` what it counted on those whose ends were lost. What is left is a
    /// model of nothing yet, but for the files: the hooks tell the path of each once.
    pub fn finish(&mut self, living: &[ThreadSummary], further: &Tally) -> Finished {
        let next = Self {
            files: mem::take(&mut self.files),
            ..Self::new(self.zero_pfn, self.summary)
        };
        mem::replace(self, next).accounts(living, further)
    }

    fn accounts(mut self, living: &[ThreadSummary], further: &Tally) -> Finished {
        for known in living {
            self.counted(known, u64::MAX).alive = true;
            if !self.threads.contains_key(&known.tid) {
                self.lives.missed();
            }
        }
        if *further != Tally::default() {
            self.book.further(further);
        }
        let living: HashSet<u32> = living.iter().map(|known| known.tid).collect();
        for tid in self.threads.keys().filter(|tid| !living.contains(tid)) {
            self.lives.end(*tid, self.now);
        }
        for (pid, process) in mem::take(&mut self.processes) {
            self.close(pid, process, u64::MAX);
        }
        let (processes, total) = self.book.finish();
        // All their tasks have ended, though not all are known to be gone.
        let ended = self.mms.values().filter(|mm| mm.running == 0);
        let numbers: BTreeSet<_> = ended
            .map(|mm| mm.number)
            .filter(|&number| number != 0)
            .collect();
        for number in numbers {
            self.sharing.left(number, Leave::Exit);
        }
        let mut forks = self.sharing.finish();
        for fork in &mut forks {
            let settled = fork.settled.unwrap_or(u64::MAX);
            fork.incomplete = self.losses.any_in(fork.ts..=settled);
            if self.unfollowed.contains(fork.number) {
                pages::child_unseen(fork);
            }
        }
        let (tasks, tasks_left_out) = self.lives.finish();
        Finished {
            processes,
            total,
            forks,
            tasks,
            tasks_left_out,
        }
    }
}
