//! The ring buffer to user space, and the count of what did not fit.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_output},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use bytemuck::Pod;
use memtrace_ebpf::record::{Detail, Header, Kind};

use crate::hooks::kernel::config;

/// User space sets the size at load.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// 1 while the reader looks into the buffer by itself; 0 when it sleeps, and is to be woken by what comes first.
#[map]
static READER_AWAKE: Array<u64> = Array::with_max_entries(1, 0);

/// Lost records by [`Kind`]; slot 0 counts tasks that could not be followed.
#[map]
static LOST: PerCpuArray<[u64; Kind::SLOTS as usize]> = PerCpuArray::with_max_entries(1, 0);

/// Slot of [`LOST`] for tasks that could not be followed.
pub(crate) const UNFOLLOWED: u32 = 0;

/// The beginning of a record of a thread's: the one place where the hooks make a header.
#[inline(always)]
pub(crate) fn head(kind: Kind, tid: u32, ts: u64) -> Header {
    Header {
        ts,
        tid,
        stack: 0,
        cpu: cpu() as u16,
        kind: kind as u8,
        flags: 0,
        detail: Detail::default(),
    }
}

/// This CPU's number.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: the helper has no conditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// Whether there is room for one of the records that come by the thousand. The last part of the buffer is kept for what is
/// rare: births, execs, ends, surveys, calls.
#[inline(always)]
pub(crate) fn has_room() -> bool {
    RECORDS.query(u64::from(BPF_RB_AVAIL_DATA)) < u64::from(config!(common))
}

/// Whether the reader looks into the buffer by itself.
#[inline(always)]
pub(crate) fn is_reader_awake() -> bool {
    wake_up() != 0
}

/// How a record is submitted. A wake-up for each makes the traced program ten times slower, so there is none while the reader
/// polls. One that sleeps has read all, so the kernel wakes it for the first (`bpf_ringbuf_commit` in `kernel/bpf/ringbuf.c`).
#[inline(always)]
fn wake_up() -> u64 {
    const _: () = assert!(BPF_RB_NO_WAKEUP == 1);
    READER_AWAKE.get(0).map_or(0, |awake| *awake)
}

/// Sends a record.
#[inline(always)]
pub(crate) fn send<T: Pod>(kind: Kind, record: T) {
    if let Some(mut entry) = RECORDS.reserve::<T>(0) {
        entry.write(record);
        entry.submit(wake_up());
    } else {
        lose(kind as u32);
    }
}

/// Sends a record, one of very many, if there [is room](has_room) for such.
#[inline(always)]
pub(crate) fn send_common<T: Pod>(kind: Kind, record: T) {
    if has_room() {
        send(kind, record);
    } else {
        lose(kind as u32);
    }
}

/// The same of a record that `fill` completes in place.
#[inline(always)]
pub(crate) fn send_common_filled<T: Pod>(kind: Kind, fill: impl FnOnce(&mut T)) {
    if has_room() {
        send_filled(kind, fill);
    } else {
        lose(kind as u32);
    }
}

/// Sends a record that `fill` completes in place: one that is too large for the stack.
#[inline(always)]
pub(crate) fn send_filled<T: Pod>(kind: Kind, fill: impl FnOnce(&mut T)) {
    if !try_send_filled(fill) {
        lose(kind as u32);
    }
}

/// The same of a record that is not lost when there is no room for it, which `false` says.
#[inline(always)]
pub(crate) fn try_send_filled<T: Pod>(fill: impl FnOnce(&mut T)) -> bool {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        return false;
    };
    // SAFETY: the memory is the entry's; `Pod` has no invalid values, and `fill` sets all of it.
    fill(unsafe { &mut *entry.as_mut_ptr() });
    entry.submit(wake_up());
    true
}

/// Sends `len` bytes at `start`: a record and what follows it. `false` when it is lost.
#[inline(always)]
pub(crate) fn send_bytes(kind: Kind, start: *mut u8, len: u64) -> bool {
    let sent = try_send_bytes(start, len);
    if !sent {
        lose(kind as u32);
    }
    sent
}

/// The same of a record that is not lost when there is no room for it, which `false` says.
#[inline(always)]
pub(crate) fn try_send_bytes(start: *mut u8, len: u64) -> bool {
    // SAFETY: the verifier checks `start` and the bounds of `len`.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const RECORDS).cast_mut().cast(),
            start.cast(),
            len,
            wake_up(),
        )
    };
    failed == 0
}

/// Counts a lost record.
#[inline(always)]
pub(crate) fn lose(slot: u32) {
    if let Some(counts) = LOST.get_ptr_mut(0) {
        // SAFETY: a valid pointer to this CPU's counts.
        let counts = unsafe { &mut *counts };
        if let Some(count) = counts.get_mut(slot as usize) {
            let count: *mut u64 = count;
            // SAFETY: a valid pointer into this CPU's counts; an interrupt between load and store is the tick alone, whose
            // own loss would at worst be counted once less, never read as none: see `tick`.
            unsafe { ptr::write(count, ptr::read(count) + 1) };
        }
    }
}
