//! Which signals memtrace hears, and what each asks for.

use std::{io, ops::RangeInclusive};

use nix::libc::{self, c_int};

use super::{inherit::is_ignored, mask::Mask};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT or SIGQUIT. Where there is a PROG the terminal sent it to that too, which may end or go on.
    Keyboard,
    /// SIGTERM or SIGHUP, to memtrace: end the trace and leave alone what was traced.
    End,
    /// SIGTSTP, where PROG isn't in the terminal's group: stop it.
    Stop,
    /// Nothing but the end of a process that isn't prepared for it, as SIGUSR1 does. Like `End`, but what is traced
    /// never means memtrace by it.
    Fatal,
}

impl Interrupt {
    /// Whether the trace ends, whatever PROG makes of it.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::End | Self::Fatal)
    }
}

/// The signals that end a trace.
pub(super) const HEARD: [(c_int, Interrupt); 4] = [
    (libc::SIGINT, Interrupt::Keyboard),
    (libc::SIGQUIT, Interrupt::Keyboard),
    (libc::SIGTERM, Interrupt::End),
    (libc::SIGHUP, Interrupt::End),
];

/// The others that end a process which isn't prepared for them, and can be held off. SIGPIPE and SIGXFSZ are ignored.
///
/// Those of faults are among them, since a program may send them, too. A fault of memtrace's own ends it nevertheless: what
/// the kernel forces on a thread it unblocks and makes deadly (`force_sig_info_to_task` in `kernel/signal.c`), and so does
/// `abort`.
pub(super) const FATAL: [c_int; 16] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGUSR1,
    libc::SIGSEGV,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSYS,
];

/// So do these, the kernel's real-time signals. The C library has the first ones for itself.
const REAL_TIME: RangeInclusive<c_int> = 32..=64;

/// All of them, but for those that memtrace was started to ignore.
pub(super) fn fatal() -> impl Iterator<Item = c_int> {
    FATAL
        .into_iter()
        .chain(REAL_TIME)
        .filter(|&number| !is_ignored(number))
}

/// From now on those of [`FATAL`] and [`REAL_TIME`] wait to be read.
pub(super) fn hold_fatal() -> io::Result<()> {
    fatal().collect::<Mask>().block()
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedSignal {
    /// Its number.
    pub number: c_int,
    /// What it asks for.
    pub interrupt: Interrupt,
    /// The process that sent it; nothing where it was the kernel: the terminal.
    pub from: Option<u32>,
}

/// SIGTSTP, to be heard where PROG can't.
pub const STOP: (c_int, Interrupt) = (libc::SIGTSTP, Interrupt::Stop);

/// Whether a signal may be for memtrace: one that a process has sent, or of those that come from none not all.
///
/// That a file is ready the kernel tells its owner, which may be the group that PROG is in, by SIGIO or any other
/// (`send_sigio_to_task` in `fs/fcntl.c`); memtrace wants to be told of none. And who sent a real-time signal it doesn't
/// tell when too many wait (`__send_signal_locked` in `kernel/signal.c`).
pub(super) fn is_for_memtrace(number: c_int, code: c_int, from: Option<u32>) -> bool {
    from.is_some()
        || matches!(code, libc::SI_USER | libc::SI_KERNEL)
            && number != libc::SIGIO
            && !REAL_TIME.contains(&number)
}

/// The process that sent a signal; nothing where it was the kernel, as for a terminal's keys, or a process of another
/// namespace.
pub(super) const fn sender(code: c_int, pid: c_int) -> Option<u32> {
    match code {
        libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL if pid != 0 => Some(pid as u32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sends_is_for_memtrace_but_for_what_is_of_files_or_may_be_anyones() {
        const POLL_IN: c_int = 1;
        // The terminal, a timer, and a process that isn't in memtrace's pid namespace.
        assert!(is_for_memtrace(libc::SIGINT, libc::SI_KERNEL, None));
        assert!(is_for_memtrace(libc::SIGALRM, libc::SI_KERNEL, None));
        assert!(is_for_memtrace(libc::SIGUSR1, libc::SI_USER, None));
        assert!(!is_for_memtrace(libc::SIGIO, libc::SI_KERNEL, None));
        assert!(!is_for_memtrace(libc::SIGUSR1, POLL_IN, None));
        assert!(!is_for_memtrace(libc::SIGTERM, POLL_IN, None));
        assert!(!is_for_memtrace(34, libc::SI_USER, None));
    }

    #[test]
    fn who_sends_a_signal_is_told_but_for_the_terminal() {
        for code in [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL] {
            assert_eq!(sender(code, 7), Some(7));
            // Of a process of another pid namespace the kernel says no id.
            assert_eq!(sender(code, 0), None);
        }
        assert_eq!(sender(libc::SI_KERNEL, 0), None);
        // What a timer has there is no process.
        assert_eq!(sender(libc::SI_TIMER, 7), None);
    }
}
