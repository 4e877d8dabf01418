//! The signals that memtrace outlives, so that it can show its tables: they are blocked, and read.

use std::future::pending;

use anyhow::Context as _;
use nix::{
    libc::{self, c_int},
    sys::signalfd::{SfdFlags, SignalFd},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    early::kept,
    inherit::Inherited,
    interrupt::{HEARD, Interrupt, ReceivedSignal, STOP, fatal, is_for_memtrace, sender},
    mask::Mask,
};

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
    use crate::target::interrupt::FATAL;

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
