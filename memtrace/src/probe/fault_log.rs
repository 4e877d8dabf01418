//! The log of faults of each CPU, which the hooks write into memory that is mapped here.

use std::{
    num::NonZero,
    os::fd::AsFd as _,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{Ebpf, maps::Map, util::nr_cpus};
use memtrace_ebpf::{
    arch::STORES_IN_ORDER,
    control::LogEnds,
    record::{Fault, Record},
};
use nix::{
    libc::c_void,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);
/// Slots at most: as many faults as a CPU takes while the reader gets none, and few enough to stay in its cache.
const SLOTS: u32 = 1 << 14;

/// How large the logs are.
#[derive(Clone, Copy)]
pub(super) struct LogSize {
    /// The CPUs that there may be.
    pub(super) cpus: u32,
    /// How many slots each CPU's log has: together an eighth of the ring buffer at the most. None where the log isn't used: the hooks
    /// on a function tell more of a fault than it holds, and it needs stores that are seen in their order.
    pub(super) slots: u32,
}

impl LogSize {
    /// That beside a ring buffer of so many bytes.
    ///
    /// # Errors
    /// The kernel doesn't tell its CPUs.
    pub(super) fn beside(ring_bytes: u32, fentry: bool) -> Result<Self> {
        let cpus = nr_cpus().map_err(|(what, error)| anyhow!("can't read {what}: {error}"))?;
        let cpus = u32::try_from(cpus)?;
        let slots = if fentry || !STORES_IN_ORDER {
            0
        } else {
            slots(ring_bytes, cpus)
        };
        Ok(Self { cpus, slots })
    }
}

/// As many slots, a power of two or none, beside a ring buffer of so many bytes.
fn slots(ring_bytes: u32, cpus: u32) -> u32 {
    let room = ring_bytes / 8 / size_of::<Fault>() as u32 / cpus.max(1);
    room.checked_ilog2().map_or(0, |log| 1 << log).min(SLOTS)
}

/// The logs of all CPUs.
pub(super) struct FaultLog {
    faults: Mapping,
    ends: Mapping,
    slots: u64,
    cpus: Vec<Cpu>,
}

/// How far a CPU's log was read.
#[derive(Clone, Copy, Default)]
struct Cpu {
    read: u64,
    /// What had been written at the last [`FaultLog::mark`].
    marked: u64,
}

impl FaultLog {
    /// Those of the object's maps.
    ///
    /// # Errors
    /// It has no such maps, or they can't be mapped.
    pub(super) fn new(ebpf: &Ebpf, LogSize { cpus, slots }: LogSize) -> Result<Self> {
        let cpus = if slots == 0 { 0 } else { cpus as usize };
        Self::mapped(slots as usize, cpus, |name, len| {
            let Some(Map::Array(map)) = ebpf.map(name) else {
                bail!("the object has no map {name}");
            };
            // SAFETY: new memory, at a place of the kernel's choice.
            let start = unsafe {
                mmap(
                    None,
                    len,
                    READ_WRITE,
                    MapFlags::MAP_SHARED,
                    map.fd().as_fd(),
                    0,
                )
            };
            start.with_context(|| format!("can't map the map {name}"))
        })
    }

    /// Those of so many CPUs, with memory for each of the two maps by its name and length.
    fn mapped(
        slots: usize,
        cpus: usize,
        memory: impl Fn(&str, NonZero<usize>) -> Result<NonNull<c_void>>,
    ) -> Result<Self> {
        let map = |name, len: usize| {
            let len = NonZero::new(len).unwrap_or(NonZero::<usize>::MIN);
            let start = memory(name, len)?;
            anyhow::Ok(Mapping {
                start,
                len: len.get(),
            })
        };
        Ok(Self {
            faults: map("FAULTS", slots * cpus * size_of::<Fault>())?,
            ends: map("LOG_ENDS", cpus * size_of::<LogEnds>())?,
            slots: slots as u64,
            cpus: vec![Cpu::default(); cpus],
        })
    }

    /// Takes what is there now, up to `limit` of each CPU. Returns whether there may be more.
    pub(super) fn read(&mut self, limit: usize, into: &mut Vec<Record>) -> bool {
        let mut more = false;
        for index in 0..self.cpus.len() {
            let (first, written) = (self.cpus[index].read, self.written(index));
            let end = written.min(first + limit as u64);
            into.extend((first..end).map(|count| Record::Fault(self.fault(index, count))));
            more |= end < written;
            self.is_read(index, end);
        }
        more
    }

    /// Passes over what is there now. Returns how much that was.
    pub(super) fn pass_over(&mut self) -> u64 {
        let mut passed = 0;
        for index in 0..self.cpus.len() {
            let written = self.written(index);
            passed += written - self.cpus[index].read;
            self.is_read(index, written);
        }
        passed
    }

    /// Notes that what has been written up to now is to be read.
    pub(super) fn mark(&mut self) {
        for index in 0..self.cpus.len() {
            self.cpus[index].marked = self.written(index);
        }
    }

    /// Whether all has been read that had been written at the last [`Self::mark`].
    pub(super) fn is_past_mark(&self) -> bool {
        self.cpus.iter().all(|cpu| cpu.read >= cpu.marked)
    }

    /// How many faults a CPU has written.
    fn written(&self, cpu: usize) -> u64 {
        // Acquire: what is read of a slot is what was there before it was counted.
        self.counter(cpu * size_of::<LogEnds>())
            .load(Ordering::Acquire)
    }

    /// The hooks may write over what was read of a CPU up to this count.
    fn is_read(&mut self, cpu: usize, count: u64) {
        self.cpus[cpu].read = count;
        let at = cpu * size_of::<LogEnds>() + std::mem::offset_of!(LogEnds, read);
        self.counter(at).store(count, Ordering::Release);
    }

    fn counter(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.ends.len, "no such CPU");
        // SAFETY: a multiple of eight inside of the mapping, which lives as long as this; both sides access it as a whole.
        unsafe { AtomicU64::from_ptr(self.ends.start.byte_add(at).cast().as_ptr()) }
    }

    /// The fault of a CPU with this number, which was written and not yet read.
    fn fault(&self, cpu: usize, count: u64) -> Fault {
        let slot = cpu as u64 * self.slots + count % self.slots;
        let at = slot as usize * size_of::<Fault>();
        assert!(at < self.faults.len, "no such slot");
        // SAFETY: inside of the mapping, which lives as long as this. The hooks write into the slot only once it is read.
        unsafe { ptr::read_volatile(self.faults.start.byte_add(at).cast().as_ptr()) }
    }
}

/// A map of the hooks', mapped.
struct Mapping {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: the memory belongs to nobody's thread.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing borrows from it any more. It was mapped, so this can't fail.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use memtrace_ebpf::record::Header;
    use nix::sys::mman::mmap_anonymous;

    use super::*;

    const SLOTS: usize = 4;

    /// Logs of two CPUs that nobody has written to.
    fn empty() -> FaultLog {
        let memory = |_: &str, len| {
            // SAFETY: new memory.
            Ok(unsafe { mmap_anonymous(None, len, READ_WRITE, MapFlags::MAP_PRIVATE) }?)
        };
        FaultLog::mapped(SLOTS, 2, memory).expect("memory")
    }

    /// Writes a fault of this time as the hook on a CPU does. `false` if there is no room.
    fn write(log: &FaultLog, cpu: usize, ts: u64) -> bool {
        let ends = cpu * size_of::<LogEnds>();
        let written = log.counter(ends).load(Ordering::Relaxed);
        let read = log.counter(ends + std::mem::offset_of!(LogEnds, read));
        if written - read.load(Ordering::Relaxed) >= SLOTS as u64 {
            return false;
        }
        let slot = cpu * SLOTS + written as usize % SLOTS;
        let fault = Fault {
            head: Header {
                ts,
                ..Header::default()
            },
            ..Fault::default()
        };
        // SAFETY: inside of the mapping.
        unsafe { log.faults.start.cast::<Fault>().add(slot).write(fault) };
        log.counter(ends).store(written + 1, Ordering::Relaxed);
        true
    }

    fn read(log: &mut FaultLog, limit: usize) -> (Vec<u64>, bool) {
        let mut records = Vec::new();
        let more = log.read(limit, &mut records);
        (
            records.iter().map(|record| record.header().ts).collect(),
            more,
        )
    }

    #[test]
    fn the_logs_of_all_cpus_are_a_part_of_the_buffer_however_many_there_are() {
        const MIB: u32 = 1 << 20;
        for ring in [MIB / 4, MIB, 8 * MIB, 32 * MIB, 1 << 30] {
            for cpus in 1..=8192 {
                let slots = slots(ring, cpus);
                assert!(slots == 0 || slots.is_power_of_two());
                let bytes = u64::from(slots * cpus) * size_of::<Fault>() as u64;
                assert!(bytes <= u64::from(ring / 8), "{ring} {cpus} {slots}");
            }
        }
        assert_eq!(slots(32 * MIB, 2), super::SLOTS);
        assert_eq!(slots(32 * MIB, 64), 1024);
        assert_eq!(slots(32 * MIB, 4096), 16);
        assert_eq!(slots(MIB / 4, 8192), 0);
    }

    #[test]
    fn what_is_written_is_read_once_and_in_order() {
        let mut log = empty();
        assert_eq!(read(&mut log, 9), (vec![], false));
        for round in 0..5 {
            let times = [1, 2, 3].map(|n| round * 10 + n);
            assert!(times.iter().all(|&ts| write(&log, 0, ts)));
            assert!(write(&log, 1, round));
            let expected = times.into_iter().chain([round]).collect();
            assert_eq!(read(&mut log, 9), (expected, false));
        }
    }

    #[test]
    fn a_full_log_takes_no_more_until_it_is_read() {
        let mut log = empty();
        assert!((0..4).all(|ts| write(&log, 1, ts)));
        assert!(!write(&log, 1, 4) && write(&log, 0, 5));
        assert_eq!(read(&mut log, 3), (vec![5, 0, 1, 2], true));
        assert!((6..9).all(|ts| write(&log, 1, ts)) && !write(&log, 1, 9));
        assert_eq!(read(&mut log, 9), (vec![3, 6, 7, 8], false));
    }

    #[test]
    fn a_mark_is_passed_when_all_before_it_is_read() {
        let mut log = empty();
        log.mark();
        assert!(log.is_past_mark());
        assert!((0..3).all(|ts| write(&log, 1, ts)));
        log.mark();
        assert!(write(&log, 1, 3) && !log.is_past_mark());
        read(&mut log, 2);
        assert!(!log.is_past_mark());
        read(&mut log, 1);
        assert!(log.is_past_mark());
    }

    #[test]
    fn what_is_passed_over_is_counted_and_leaves_room() {
        let mut log = empty();
        assert!((0..4).all(|ts| write(&log, 0, ts)) && write(&log, 1, 0));
        assert_eq!(log.pass_over(), 5);
        assert!(write(&log, 0, 7));
        assert_eq!(read(&mut log, 9), (vec![7], false));
    }
}
