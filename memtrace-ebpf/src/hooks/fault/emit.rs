//! The records of faults.

use memtrace_ebpf::record::{Fault, FaultDetail, FaultPending, Handled, Header, Kind, Unobserved};

use crate::hooks::{
    fault::count::Counted,
    fault_log,
    kernel::config,
    ring,
    thread::{HELD, OPEN, Thread},
};

/// Sends the open fault, which ended with this entry of this level, these flags, and in this signal (0 for none).
#[inline(always)]
pub(crate) fn send_fault(thread: &Thread, after: u64, level: u8, flags: u8, signal: u32) {
    if config!(handled) != 0 {
        let open = &thread.open;
        let handled = Handled {
            fault: fault(Kind::Handled, thread, after, level, flags, signal),
            mm: open.mm,
            left: open.left,
            waited: open.waited,
            retries: open.retries,
            call: thread.call,
        };
        ring::send_common(Kind::Handled, handled);
        return;
    }
    let fault = || fault(Kind::Fault, thread, after, level, flags, signal);
    // In place: on the stack the hook and what it calls would need more than there is.
    if !fault_log::write(ring::cpu(), |slot| *slot = fault()) {
        ring::send_common_filled(Kind::Fault, |slot| *slot = fault());
    }
}

/// The record of the open fault, of this kind.
#[inline(always)]
fn fault(kind: Kind, thread: &Thread, after: u64, level: u8, flags: u8, signal: u32) -> Fault {
    let open = &thread.open;
    let detail = FaultDetail {
        levels: open.level | level << 4,
        error: open.error,
        signal: signal as u8,
        frame: open.frame as u8,
    };
    Fault {
        head: Header {
            flags,
            detail: detail.into(),
            ..thread.head(kind, open.ts)
        },
        address: open.address,
        ip: open.ip,
        before: open.before,
        after,
        vma: open.vma,
        map_count: open.map_count,
    }
}

/// Sends what the kernel counted without an exception.
#[inline(always)]
pub(crate) fn send_unobserved(thread: &Thread, counted: Counted, ts: u64) {
    let head = thread.head(Kind::Unobserved, ts);
    ring::send(
        Kind::Unobserved,
        Unobserved {
            head,
            call: thread.call,
            minor: counted.minor as u32,
            major: counted.major as u32,
            pad: 0,
        },
    );
}

/// The thread leaves its CPU. If that is in the middle of a fault, the reader must know.
#[inline(always)]
pub(crate) fn pause(thread: &mut Thread) {
    if thread.open.state == OPEN && config!(summary) == 0 && thread.open.mm != thread.pre_exec_mm {
        thread.open.state = HELD;
        let head = thread.head(Kind::FaultPending, thread.open.ts);
        ring::send(Kind::FaultPending, FaultPending { head });
    }
}
