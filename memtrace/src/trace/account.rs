//! The account of each process: its faults as they were seen, beside the kernel's own count.

use std::{collections::BTreeMap, sync::Arc};

use memtrace_ebpf::record::Tally;

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

/// A process's row.
struct Row {
    birth: u64,
    account: Account,
}

/// The accounts of all processes that have ended.
#[derive(Default)]
pub struct AccountBook {
    rows: Vec<Row>,
    rest: Option<Counts>,
    total: Counts,
}

impl AccountBook {
    /// Closes the account of a process, the `birth`th of the trace.
    pub fn close(&mut self, birth: u64, pid: u32, comm: Arc<str>, counts: &Counts, alive: bool) {
        self.total.add(counts);
        if self.rows.len() < ROWS {
            self.rows.push(Row {
                birth,
                account: counts.account(pid, comm, alive),
            });
        } else {
            self.rest.get_or_insert_default().add(counts);
        }
    }

    /// Adds what is known of no process in particular, as their ends were lost.
    pub fn further(&mut self, tally: &Tally) {
        let mut counts = Counts {
            incomplete: true,
            ..Counts::default()
        };
        counts.thread(tally);
        self.total.add(&counts);
        self.rest.get_or_insert_default().add(&counts);
    }

    /// All rows in the order of births, and the sum.
    pub fn finish(mut self) -> (Vec<Account>, Account) {
        self.rows.sort_by_key(|row| row.birth);
        let mut accounts: Vec<Account> = self.rows.into_iter().map(|row| row.account).collect();
        if let Some(rest) = self.rest {
            accounts.push(rest.account(0, REST.into(), false));
        }
        (accounts, self.total.account(0, "total".into(), false))
    }
}
