//! The tick of each CPU: what a thread that only computes has finished, and how far the CPU is.

use aya_ebpf::{macros::map, maps::PerCpuArray, programs::PerfEventContext};
use memtrace_ebpf::arch;

use crate::hooks::{
    clock::now,
    fault::{count::is_over, end::settle_only},
    kernel::Object,
    returned,
    thread::{self, CLOSED},
    verifier,
};

/// For each CPU the time up to which all that happened on it has been written to the ring buffer.
#[map]
static WRITTEN_UNTIL: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Some times a second on each CPU: ends the fault of the thread that runs there, and notes up to when the reader has
/// all of this CPU's records.
#[inline(always)]
pub(crate) fn runs(ctx: &PerfEventContext) {
    let mut until = now();
    let task = Object::current();
    if let Some(thread) = thread::find(task) {
        if thread.busy != 0 {
            return;
        }
        let words: *const u64 = ctx.ctx.cast_const().cast();
        // SAFETY: the context of a perf event begins with the interrupted registers, this word among them.
        let user_mode = arch::is_user_mode(unsafe { words.add(arch::MODE_WORD).read_volatile() });
        if thread.return_pending != 0 {
            if user_mode {
                thread.busy = 1;
                returned::send_pending(thread, 0);
                thread.busy = 0;
            } else {
                until = until.min(thread.pending_return.head.ts.wrapping_sub(1));
            }
        }
        if thread.open.state != CLOSED {
            if user_mode || is_over(thread, task) {
                settle_only(thread, task, 0, until);
            } else {
                until = until.min(thread.open.ts - 1);
            }
        }
    }
    if let Some(slot) = verifier::scratch(&WRITTEN_UNTIL) {
        *slot = until;
    }
}
