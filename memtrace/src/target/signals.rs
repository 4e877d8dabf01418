//! The signals that memtrace outlives, so that it can show its tables: they are blocked, and read.

use std::{future::pending, io, ops::RangeInclusive};

use anyhow::Context as _;
use nix::{
    libc::{self, c_int},
    sys::signalfd::{SfdFlags, SignalFd},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    early::{kept, sender},
    inherit::{Inherited, is_ignored},
    mask::Mask,
};

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
const FATAL: [c_int; 16] = [
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
fn fatal() -> impl Iterator<Item = c_int> {
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

/// Reads the signals. From its making on they do nothing else to memtrace.
#[derive(Debug)]
pub struct Signals {
    /// They come to the thread that reads them, which is the one that has made it.
    all: AsyncFd<SignalFd>,
    /// Those that came while PROG was being started.
    kept: Vec<ReceivedSignal>,
}

impl Signals {
    /// Listens for those that end a trace, and for `more`, except those that memtrace was started to ignore: a shell's
    /// background job (SIGINT, SIGQUIT) or `nohup` (SIGHUP) stays one. Wants a tokio runtime around it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new(inherited: &Inherited, more: &[(c_int, Interrupt)]) -> anyhow::Result<Self> {
        let asked = HEARD.iter().chain(more).map(|&(number, _)| number);
        let asked = asked.filter(|&number| !inherited.ignores(number));
        let heard: Mask = asked.chain(fatal()).collect();
        let listen = || -> anyhow::Result<_> {
            heard.block()?;
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let all = SignalFd::with_flags(&heard.to_set(), flags)?;
            // SAFETY: the descriptor is the object's own, which nothing else has, and stays the same.
            Ok(unsafe { AsyncFd::register_with_interest(all, Interest::READABLE) }?)
        };
        Ok(Self {
            all: listen().context("can't listen for signals")?,
            kept: kept(),
        })
    }

    /// The next one. Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> ReceivedSignal {
        if let Some(kept) = self.kept.pop() {
            return kept;
        }
        while let Ok(mut ready) = self.all.readable().await {
            match ready.get_inner().read_signal() {
                Ok(Some(signal)) => {
                    let number = signal.ssi_signo.cast_signed();
                    let from = sender(signal.ssi_code, signal.ssi_pid.cast_signed());
                    if is_for_memtrace(number, signal.ssi_code, from) {
                        let mut known = HEARD.iter().chain([&STOP]);
                        let known = known.find(|(known, _)| *known == number);
                        return ReceivedSignal {
                            number,
                            interrupt: known.map_or(Interrupt::Fatal, |&(_, asks)| asks),
                            from,
                        };
                    }
                }
                Ok(None) | Err(_) => ready.clear_ready(),
            }
        }
        pending().await
    }
}

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

/// Whether one of those that ask for the end of a trace has come to this thread and was not read yet, where they are blocked.
pub fn are_waiting() -> bool {
    let mut waiting = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: there is room for the answer; a zeroed one is valid.
    let waiting = unsafe {
        libc::sigpending(waiting.as_mut_ptr());
        waiting.assume_init()
    };
    HEARD.iter().any(|&(number, _)| {
        // SAFETY: a valid set, and a signal's number.
        unsafe { libc::sigismember(&raw const waiting, number) == 1 }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{SigSet, Signal, raise};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_signal_is_reported_for_what_it_asks_and_by_whom() {
        let mut signals = Signals::new(&Inherited::default(), &[STOP]).expect("a runtime is there");
        let fatal = FATAL.map(|number| (number, Interrupt::Fatal));
        for (number, interrupt) in HEARD.into_iter().chain([STOP]).chain(fatal) {
            let signal = Signal::try_from(number).expect("a signal");
            raise(signal).expect("a signal to itself");
            assert_eq!(are_waiting(), HEARD.contains(&(number, interrupt)));
            let next = timeout(Duration::from_secs(10), signals.next()).await;
            let asked = ReceivedSignal {
                number,
                interrupt,
                from: Some(std::process::id()),
            };
            assert_eq!(next.ok(), Some(asked), "{signal}");
            assert!(!are_waiting());
        }
    }

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

    #[tokio::test]
    async fn what_was_ignored_stays_ignored() {
        let all = Inherited {
            ignored: [true; _],
            ..Inherited::default()
        };
        let _signals = Signals::new(&all, &[STOP]).expect("a runtime is there");
        let blocked = SigSet::thread_get_mask().expect("a mask");
        assert!(!blocked.contains(Signal::SIGTERM) && !blocked.contains(Signal::SIGTSTP));
    }
}
