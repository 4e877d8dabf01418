//! Reading what the hooks write: the records, the counts of lost ones, and how far each CPU has come.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd},
};

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use memtrace_ebpf::record::{Kind, Tally, ThreadSummary};

use super::{ends::Ends, fault_log::FaultLog, missed::Missed, threads::Threads};
use memtrace_ebpf::record::Record;

/// Bytes that the ring buffer has before each record; records begin at multiples of them.
const RECORD_HEAD: u64 = 8;

/// The ring buffer, and the maps about it.
pub(super) struct Ring {
    pub(super) records: RingBuf<MapData>,
    /// Bytes that it has room for.
    pub(super) room: u64,
    /// 1 while the hooks need not wake the reader.
    pub(super) awake: Array<MapData, u64>,
    /// How many records found no room, by kind.
    pub(super) lost: PerCpuArray<MapData, [u64; Kind::SLOTS as usize]>,
    pub(super) written_until: PerCpuArray<MapData, u64>,
}

/// Reader of the ring buffer and of the tables beside it.
pub struct Reader {
    ring: Ring,
    /// How many of them may have been written before the last [`Self::mark`] and not been taken out yet.
    unread: u64,
    /// Faults that were passed over, as of the last [`Self::newly_lost`].
    passed_over: u64,
    lost_before: [u64; Kind::SLOTS as usize],
    threads: Threads,
    ends: Ends,
    missed: Missed,
    faults: FaultLog,
    /// Faults of the log: in the ring buffer there may be records that are older yet.
    held: Vec<Record>,
    /// How many of its bytes those may be.
    before_held: u64,
}

impl Reader {
    pub(super) const fn new(
        ring: Ring,
        threads: Threads,
        ends: Ends,
        missed: Missed,
        faults: FaultLog,
    ) -> Self {
        Self {
            ring,
            unread: 0,
            passed_over: 0,
            lost_before: [0; _],
            threads,
            ends,
            missed,
            faults,
            held: Vec::new(),
            before_held: 0,
        }
    }

    /// What is readable when there are records, if [the reader sleeps](Self::set_awake).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ring.records.as_fd()
    }

    /// Whether the hooks need not wake the reader, as it looks by itself.
    ///
    /// # Errors
    /// The kernel refuses to note it.
    pub fn set_awake(&mut self, awake: bool) -> Result<()> {
        let noted = self.ring.awake.set(0, u64::from(awake), 0);
        noted.context("can't note whether the reader sleeps")
    }

    /// Takes records out that are there now, up to `limit` of the ring buffer and of each CPU's log: in the order of their writing,
    /// but for faults, which come after what is older than they are. Nothing else is done meanwhile, as the writers wait for the
    /// cache line of the reader's position. Returns whether there may be more.
    pub fn drain(&mut self, limit: usize, into: &mut Vec<Record>) -> bool {
        let mut more = false;
        if self.held.is_empty() {
            more = self.faults.read(limit, &mut self.held);
            self.before_held = self.ring.room;
        }
        more |= self.drain_ring(limit, into);
        if self.before_held == 0 {
            into.append(&mut self.held);
        }
        more
    }

    fn drain_ring(&mut self, limit: usize, into: &mut Vec<Record>) -> bool {
        while into.len() < limit {
            let Some(bytes) = self.ring.records.next() else {
                (self.unread, self.before_held) = (0, 0);
                return false;
            };
            let len = (bytes.len() as u64).next_multiple_of(RECORD_HEAD) + RECORD_HEAD;
            self.unread = self.unread.saturating_sub(len);
            self.before_held = self.before_held.saturating_sub(len);
            into.extend(Record::decode(&bytes));
        }
        true
    }

    /// Takes records out, up to `limit`, but passes over faults, which count as lost. Returns whether there may be more.
    pub fn drain_but_faults(&mut self, limit: usize, into: &mut Vec<Record>) -> bool {
        self.passed_over += self.faults.pass_over() + self.held.drain(..).len() as u64;
        while into.len() < limit {
            let Some(bytes) = self.ring.records.next() else {
                return false;
            };
            if Record::is_fault(&bytes) {
                self.passed_over += 1;
            } else {
                into.extend(Record::decode(&bytes));
            }
        }
        true
    }

    /// Takes the ends of threads that the ring buffer had no room for: later than what was in it.
    ///
    /// # Errors
    /// The kernel refuses to give them.
    pub fn take_ends(&mut self, into: &mut Vec<Record>) -> Result<()> {
        self.ends.take(into)
    }

    /// The sum of the ends that found no room anywhere.
    ///
    /// # Errors
    /// The kernel refuses to show it.
    pub fn further_ends(&self) -> Result<Tally> {
        self.ends.further()
    }

    /// Notes that all that has been written up to now is to be read.
    pub fn mark(&mut self) {
        self.unread = self.ring.room;
        self.faults.mark();
    }

    /// Whether all has been read that had been written at the last [`Self::mark`]: the buffer was empty once since, or so much
    /// has been read as it has room for.
    pub fn is_past_mark(&self) -> bool {
        self.unread == 0 && self.held.is_empty() && self.faults.is_past_mark()
    }

    /// For each CPU the time up to which all that happened on it is in the ring buffer: its last tick.
    ///
    /// # Errors
    /// The kernel refuses to show the table.
    pub fn written_until(&self) -> Result<Vec<u64>> {
        Ok(self
            .ring
            .written_until
            .get(&0, 0)
            .context("can't read the ticks")?
            .to_vec())
    }

    /// Records that were lost since this was asked last, by kind, `task` standing for tasks that could not be followed.
    /// Kinds of which none was lost are left out.
    ///
    /// # Errors
    /// The kernel refuses to show the table.
    pub fn newly_lost(&mut self) -> Result<BTreeMap<&'static str, u64>> {
        let mut newly: BTreeMap<_, u64> = BTreeMap::new();
        let passed_over = std::mem::take(&mut self.passed_over);
        if passed_over > 0 {
            newly.insert(Kind::Fault.name(), passed_over);
        }
        let per_cpu = self.ring.lost.get(&0, 0);
        let per_cpu = per_cpu.context("can't read the count of lost records")?;
        for (slot, before) in (0_u8..).zip(&mut self.lost_before) {
            let count: u64 = per_cpu.iter().map(|counts| counts[usize::from(slot)]).sum();
            if count > *before {
                let name = Kind::from_number(slot).map_or("task", Kind::name);
                *newly.entry(name).or_default() += count - *before;
            }
            *before = count;
        }
        Ok(newly)
    }

    /// How often the kernel has left each hook out since this was asked last, for whatever task. Hooks that it didn't leave
    /// out are not there.
    ///
    /// # Errors
    /// /proc doesn't show it.
    pub fn newly_missed(&mut self) -> Result<BTreeMap<String, u64>> {
        self.missed.newly()
    }

    /// Whether any thread is traced that lives.
    pub fn any_lives(&self) -> bool {
        self.threads.any_lives()
    }

    /// What is known of the threads that are traced and live.
    pub fn living(&self) -> Vec<ThreadSummary> {
        self.threads.living()
    }
}
