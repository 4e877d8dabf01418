//! The log of faults: one for each CPU, in memory that user space reads without a call. A record in the ring buffer takes three calls of
//! helpers and a lock; this takes none, and its lines stay in the CPU's cache. What it has no room for goes to the ring buffer.
//!
//! Only the hook that works on the current thread writes, and none interrupts it: see `busy` in [`crate::hooks::thread::Thread`].

use core::{hint::black_box, ptr};

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use memtrace_ebpf::{control::LogEnds, record::Fault};

use crate::hooks::{kernel::config, ring};

/// The logs, one after the other. User space sets the size at load.
#[map]
static FAULTS: Array<Fault> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How far each is written and read. User space sets the size at load.
#[map]
static LOG_ENDS: Array<LogEnds> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Writes a fault, which `fill` puts together in place. `false` if that must go another way: there is no room, or the reader
/// sleeps, whom only the ring buffer wakes.
#[inline(always)]
pub(crate) fn write(cpu: u32, fill: impl FnOnce(&mut Fault)) -> bool {
    let slots = config!(log_slots);
    if slots == 0 || !ring::is_reader_awake() {
        return false;
    }
    let Some(ends) = LOG_ENDS.get_ptr_mut(cpu) else {
        return false;
    };
    // SAFETY: a valid pointer to this CPU's, and each of the two is written by one side alone.
    let (written, read) = unsafe {
        (
            ptr::read(&raw const (*ends).written),
            ptr::read_volatile(&raw const (*ends).read),
        )
    };
    if written.wrapping_sub(read) >= u64::from(slots) {
        return false;
    }
    let Some(slot) = FAULTS.get_ptr_mut(cpu * slots + (written as u32 & (slots - 1))) else {
        return false;
    };
    // SAFETY: a valid pointer; the reader looks into the slot only once it is counted.
    fill(unsafe { &mut *slot });
    // The compiler must keep this order (a fence is nothing that its BPF side knows), and the processor does: there is a log only
    // where that writes to memory in order.
    black_box(slot);
    // SAFETY: a valid pointer.
    unsafe { ptr::write_volatile(&raw mut (*ends).written, written + 1) };
    true
}
