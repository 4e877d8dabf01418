//! The ends of threads that the ring buffer had no room for.

use anyhow::{Context as _, Result};
use aya::maps::{MapData, MapError, PerCpuArray, Queue};
use memtrace_ebpf::record::{Gone, MAX_THREADS, Tally};

use memtrace_ebpf::record::Record;

/// The queue of them, and the sum of those that it had no room for.
pub(super) struct Ends {
    queue: Queue<MapData, [u8; size_of::<Gone>()]>,
    further: PerCpuArray<MapData, [u8; size_of::<Tally>()]>,
}

impl Ends {
    pub(super) const fn new(
        queue: Queue<MapData, [u8; size_of::<Gone>()]>,
        further: PerCpuArray<MapData, [u8; size_of::<Tally>()]>,
    ) -> Self {
        Self { queue, further }
    }

    /// Takes those that wait, as records.
    ///
    /// # Errors
    /// The kernel refuses to give them.
    pub(super) fn take(&mut self, into: &mut Vec<Record>) -> Result<()> {
        for _ in 0..MAX_THREADS {
            match self.queue.pop(0) {
                Ok(bytes) => into.extend(Record::decode(&bytes)),
                Err(MapError::ElementNotFound) => break,
                Err(error) => return Err(error).context("can't read the ends of threads"),
            }
        }
        Ok(())
    }

    /// The sum of those that found no room anywhere.
    ///
    /// # Errors
    /// The kernel refuses to show it.
    pub(super) fn further(&self) -> Result<Tally> {
        let mut sum = Tally::default();
        let per_cpu = self.further.get(&0, 0);
        for bytes in per_cpu.context("can't read the sum of ends")?.iter() {
            let one: Tally = bytemuck::pod_read_unaligned(bytes);
            sum.min_flt += one.min_flt;
            sum.maj_flt += one.maj_flt;
            for (sum, count) in sum.kinds.iter_mut().zip(one.kinds) {
                *sum += count;
            }
            for (sum, count) in sum.counted.iter_mut().zip(one.counted) {
                *sum += count;
            }
        }
        Ok(sum)
    }
}
