//! Reading what the hooks write: the records, the counts of lost ones, and how far each CPU has come.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use memtrace_ebpf::record::{Kind, Known, THREAD_WORDS};

use super::missed::Missed;
use crate::trace::record::Record;

/// Reader of the ring buffer and of the tables beside it.
pub struct Reader {
    records: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    lost_before: [u64; Kind::SLOTS as usize],
    written_until: PerCpuArray<MapData, u64>,
    threads: HashMap<MapData, u64, u32>,
    states: Array<MapData, [u64; THREAD_WORDS]>,
    missed: Missed,
}

impl Reader {
    pub(super) const fn new(
        records: RingBuf<MapData>,
        lost: PerCpuArray<MapData, u64>,
        written_until: PerCpuArray<MapData, u64>,
        threads: HashMap<MapData, u64, u32>,
        states: Array<MapData, [u64; THREAD_WORDS]>,
        missed: Missed,
    ) -> Self {
        Self {
            records,
            lost,
            lost_before: [0; _],
            written_until,
            threads,
            states,
            missed,
        }
    }

    /// Takes all records out of the ring buffer that are there now, up to `limit`. Nothing else is done meanwhile, as
    /// the writers wait for the cache line of the reader's position. Returns how many bytes were no valid record.
    pub fn drain(&mut self, limit: usize, into: &mut Vec<Record>) -> u64 {
        let mut invalid = 0;
        while into.len() < limit
            && let Some(bytes) = self.records.next()
        {
            match Record::decode(&bytes) {
                Some(record) => into.push(record),
                None => invalid += bytes.len() as u64,
            }
        }
        invalid
    }

    /// For each CPU the time up to which all that happened on it is in the ring buffer: its last tick.
    ///
    /// # Errors
    /// The kernel refuses to show the table.
    pub fn written_until(&self) -> Result<Vec<u64>> {
        Ok(self
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
        for slot in 0..Kind::SLOTS {
            let per_cpu = self
                .lost
                .get(&slot, 0)
                .context("can't read the count of lost records")?;
            let count: u64 = per_cpu.iter().sum();
            let before = std::mem::replace(&mut self.lost_before[slot as usize], count);
            if count > before {
                let name = Kind::from_number(slot as u8).map_or("task", Kind::name);
                *newly.entry(name).or_default() += count - before;
            }
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

    /// What is known of the threads that are traced and live.
    pub fn living(&self) -> Vec<Known> {
        self.threads
            .iter()
            // One that ends while the table is read is no longer there; its record tells the rest.
            .filter_map(Result::ok)
            .filter_map(|(_, index)| self.states.get(&index, 0).ok())
            .map(|words| {
                bytemuck::pod_read_unaligned(&bytemuck::cast_slice(&words)[..size_of::<Known>()])
            })
            .collect()
    }
}
