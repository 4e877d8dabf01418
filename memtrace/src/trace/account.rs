//! The account of each process: its faults as they were seen, beside the kernel's own count.

use std::{collections::BTreeMap, sync::Arc};

use memtrace_ebpf::record::Tally;
use rustc_hash::FxHashMap as HashMap;

use super::event::{Account, Counted, FaultKind, Name};

/// Rows that are kept of processes that have ended; the rest are summed up in one.
const ROWS: usize = 20_000;

/// Name of the row of those.
const REST: &str = "(further processes)";
/// Counted faults that neither a fault nor a record of unobserved ones explains: as when records were lost.
pub const UNEXPLAINED: &str = "unexplained";

/// What is counted for a process.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    kinds: [u64; FaultKind::COUNT],
    /// Counted faults among them.
    counted: u64,
    min_flt: u64,
    maj_flt: u64,
    unobserved_by: BTreeMap<Name, i64>,
    before_exec: u64,
    /// Records may have been lost that were about it.
    incomplete: bool,
}

impl Counts {
    /// A fault was seen.
    pub fn fault(&mut self, kind: FaultKind, counted: Option<Counted>) {
        self.kinds[kind as usize] += 1;
        self.counted += u64::from(counted.is_some());
    }

    /// A thread was there when memtrace attached: what the kernel had counted on it.
    pub fn base(&mut self, min_flt: u64, maj_flt: u64) {
        self.min_flt = self.min_flt.wrapping_sub(min_flt);
        self.maj_flt = self.maj_flt.wrapping_sub(maj_flt);
    }

    /// The kernel counted some without an exception.
    pub fn unobserved(&mut self, by: &'static str, count: u64) {
        if count > 0 {
            *self.unobserved_by.entry(by.into()).or_default() += count as i64;
        }
    }

    /// memtrace's own child took these before it became the program: the kernel had counted them, but not on the program.
    pub fn before_exec(&mut self, minor: u64, major: u64) {
        self.base(minor, major);
        self.before_exec += minor + major;
    }

    /// Records may have been lost that were about it.
    pub const fn incomplete(&mut self) {
        self.incomplete = true;
    }

    /// A thread has ended, or the trace has: what the kernel counted on it, and with `--summary` the hooks.
    pub fn thread(&mut self, tally: &Tally) {
        self.min_flt = self.min_flt.wrapping_add(tally.min_flt);
        self.maj_flt = self.maj_flt.wrapping_add(tally.maj_flt);
        for (kind, count) in self.kinds.iter_mut().zip(tally.kinds) {
            *kind += u64::from(count);
        }
        self.counted += tally
            .counted
            .iter()
            .map(|count| u64::from(*count))
            .sum::<u64>();
    }

    /// Whether each fault that the kernel counted was seen, or is known to have come without an exception.
    pub fn are_explained(&self) -> bool {
        let [min_flt, maj_flt] = self.of_trace();
        self.remainder(min_flt + maj_flt) == 0
    }

    /// What the kernel counted in the trace, minor and major.
    fn of_trace(&self) -> [u64; 2] {
        // Of an attached process whose threads' ends were lost only what they began with is known.
        [self.min_flt, self.maj_flt].map(|count| if count as i64 > 0 { count } else { 0 })
    }

    /// What the kernel counted beyond all that is known.
    fn remainder(&self, kernel: u64) -> i64 {
        kernel as i64 - self.counted as i64 - self.unobserved_by.values().sum::<i64>()
    }

    fn add(&mut self, other: &Self) {
        for (kind, count) in self.kinds.iter_mut().zip(other.kinds) {
            *kind += count;
        }
        self.counted += other.counted;
        self.min_flt = self.min_flt.wrapping_add(other.min_flt);
        self.maj_flt = self.maj_flt.wrapping_add(other.maj_flt);
        self.before_exec += other.before_exec;
        self.incomplete |= other.incomplete;
        for (by, count) in &other.unobserved_by {
            *self.unobserved_by.entry(by.clone()).or_default() += count;
        }
    }

    fn account(&self, pid: u32, comm: Arc<str>, alive: bool) -> Account {
        let [min_flt, maj_flt] = self.of_trace();
        let unobserved = (min_flt + maj_flt) as i64 - self.counted as i64;
        let mut unobserved_by = self.unobserved_by.clone();
        let remainder = self.remainder(min_flt + maj_flt);
        if remainder != 0 {
            unobserved_by.insert(UNEXPLAINED.into(), remainder);
        }
        let faults = FaultKind::ALL
            .iter()
            .filter(|kind| self.kinds[**kind as usize] > 0)
            .map(|kind| (kind.name().into(), self.kinds[*kind as usize]))
            .collect();
        Account {
            pid,
            comm,
            faults,
            min_flt,
            maj_flt,
            unobserved,
            unobserved_by,
            before_exec: self.before_exec,
            incomplete: self.incomplete,
            alive,
        }
    }
}

/// A process.
pub struct Process {
    /// Which of all processes it is, in the order of births.
    pub birth: u64,
    /// When it was first known of.
    pub since: u64,
    /// When none of its threads was known to live any more.
    pub until: u64,
    /// Its id as a reader sees it.
    pub shown: u32,
    /// Its last name.
    pub comm: Arc<str>,
    /// What is counted for it.
    pub counts: Counts,
    /// The fork that made it; 0 for none.
    pub fork: u32,
    /// Threads that have not begun to exit.
    pub running: u32,
    /// Threads that are not gone.
    pub threads: u32,
    /// Whether the thread with its id is gone, or one was that had it.
    pub leader_gone: bool,
    /// Whether it lives on when the trace ends.
    pub alive: bool,
}

impl Process {
    /// The `birth`th process, without a thread yet.
    pub fn new(birth: u64, shown: u32, comm: Arc<str>, since: u64) -> Self {
        Self {
            birth,
            since,
            until: 0,
            shown,
            comm,
            counts: Counts::default(),
            fork: 0,
            running: 0,
            threads: 0,
            leader_gone: false,
            alive: false,
        }
    }
}

/// The accounts of all processes that have ended.
#[derive(Default)]
pub struct AccountBook {
    /// The last that had each id.
    last: HashMap<u32, Process>,
    /// Those whose ids came again.
    before: Vec<Process>,
    rest: Option<Counts>,
}

impl AccountBook {
    /// Closes the account of the process with this id.
    pub fn close(&mut self, pid: u32, process: Process) {
        self.comes_again(pid);
        if self.last.len() + self.before.len() < ROWS {
            self.last.insert(pid, process);
        } else {
            self.rest.get_or_insert_default().add(&process.counts);
        }
    }

    /// The id is another process's from now on.
    pub fn comes_again(&mut self, pid: u32) {
        self.before.extend(self.last.remove(&pid));
    }

    /// Opens the account again of the process that had this id last, if it is the one.
    pub fn reopen(&mut self, pid: u32, is_it: impl FnOnce(&Process) -> bool) -> Option<Process> {
        self.last.get(&pid).filter(|process| is_it(process))?;
        self.last.remove(&pid)
    }

    /// Adds what is known of no process in particular, as their ends were lost.
    pub fn further(&mut self, tally: &Tally) {
        let rest = self.rest.get_or_insert_default();
        rest.incomplete();
        rest.thread(tally);
    }

    /// All rows in the order of births, and the sum.
    pub fn finish(mut self) -> (Vec<Account>, Account) {
        self.before.extend(self.last.into_values());
        self.before.sort_by_key(|process| process.birth);
        let mut total = Counts::default();
        let mut accounts = Vec::new();
        for process in self.before {
            total.add(&process.counts);
            let Process { shown, comm, .. } = process;
            accounts.push(process.counts.account(shown, comm, process.alive));
        }
        if let Some(rest) = self.rest {
            total.add(&rest);
            accounts.push(rest.account(0, REST.into(), false));
        }
        (accounts, total.account(0, "total".into(), false))
    }
}
