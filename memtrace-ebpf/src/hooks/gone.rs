//! The last that is told of a thread: its counts, which must not be lost. What the ring buffer has no room for waits in a queue
//! of its own, and what that has none for is summed up.

use aya_ebpf::{
    macros::map,
    maps::{PerCpuArray, Queue},
};
use memtrace_ebpf::record::{Gone, Kind, MAX_THREADS, Tally};

use crate::hooks::{ring, thread::Thread, verifier};

/// Ends that the ring buffer had no room for.
#[map]
static ENDS: Queue<Gone> = Queue::with_max_entries(MAX_THREADS, 0);

/// The sum of those for which there was none in [`ENDS`], either.
#[map]
static FURTHER_ENDS: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);

/// Where the record is put together: both that take it want it in memory.
#[map]
static END: PerCpuArray<Gone> = PerCpuArray::with_max_entries(1, 0);

/// Tells that the thread is gone.
#[inline(always)]
pub(crate) fn tell(thread: &Thread, ts: u64) {
    let Some(record) = verifier::scratch(&END) else {
        return;
    };
    record.head = thread.head(Kind::Gone, ts);
    record.known = thread.known;
    let start: *mut Gone = record;
    let record: &Gone = record;
    if ring::try_send_bytes(start.cast(), size_of::<Gone>() as u64) || ENDS.push(record, 0).is_ok()
    {
        return;
    }
    ring::lose(Kind::Gone as u32);
    if let Some(sum) = verifier::scratch(&FURTHER_ENDS) {
        let tally = &record.known.tally;
        sum.min_flt += tally.min_flt;
        sum.maj_flt += tally.maj_flt;
        for (sum, count) in sum.kinds.iter_mut().zip(&tally.kinds) {
            *sum += count;
        }
        for (sum, count) in sum.counted.iter_mut().zip(&tally.counted) {
            *sum += count;
        }
    }
}
