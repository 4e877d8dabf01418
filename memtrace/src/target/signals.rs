//! The signals that memtrace outlives, so that it can show its tables: they are blocked, and read.

use std::future::pending;

use anyhow::Context as _;
use nix::{
    libc::{self, c_int},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    early::{kept, sender},
    inherit::Inherited,
    status,
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
}

impl Interrupt {
    /// The exit status of memtrace when this ends it.
    pub const fn status(self) -> u8 {
        match self {
            Self::Keyboard => status::INTERRUPTED,
            Self::End | Self::Stop => status::TERMINATED,
        }
    }
}

/// The signals that end a trace.
pub(super) const HEARD: [(c_int, Interrupt); 4] = [
    (libc::SIGINT, Interrupt::Keyboard),
    (libc::SIGQUIT, Interrupt::Keyboard),
    (libc::SIGTERM, Interrupt::End),
    (libc::SIGHUP, Interrupt::End),
];

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
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
    kept: Vec<Asked>,
}

impl Signals {
    /// Listens for those that end a trace, and for `more`, except those that memtrace was started to ignore: a shell's
    /// background job (SIGINT, SIGQUIT) or `nohup` (SIGHUP) stays one. Wants a tokio runtime around it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new(inherited: &Inherited, more: &[(c_int, Interrupt)]) -> anyhow::Result<Self> {
        let mut heard = SigSet::empty();
        for &(number, _) in HEARD.iter().chain(more) {
            if !inherited.ignores(number) {
                heard.add(Signal::try_from(number)?);
            }
        }
        let listen = || -> anyhow::Result<_> {
            heard.thread_block()?;
            let all = SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
            // SAFETY: the descriptor is the object's own, which nothing else has, and stays the same.
            Ok(unsafe { AsyncFd::register_with_interest(all, Interest::READABLE) }?)
        };
        Ok(Self {
            all: listen().context("can't listen for signals")?,
            kept: kept(),
        })
    }

    /// The next one. Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> Asked {
        if let Some(kept) = self.kept.pop() {
            return kept;
        }
        while let Ok(mut ready) = self.all.readable().await {
            match ready.get_inner().read_signal() {
                Ok(Some(signal)) => {
                    let number = signal.ssi_signo.cast_signed();
                    let mut known = HEARD.iter().chain([&STOP]);
                    if let Some(&(_, interrupt)) = known.find(|(known, _)| *known == number) {
                        return Asked {
                            number,
                            interrupt,
                            from: sender(signal.ssi_code, signal.ssi_pid.cast_signed()),
                        };
                    }
                }
                Ok(None) | Err(_) => ready.clear_ready(),
            }
        }
        pending().await
    }
}

/// Whether one that ends a trace has come to this thread and was not read yet, where they are blocked.
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

    use nix::sys::signal::raise;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_signal_is_reported_for_what_it_asks_and_by_whom() {
        let mut signals = Signals::new(&Inherited::default(), &[STOP]).expect("a runtime is there");
        for (number, interrupt) in HEARD.into_iter().chain([STOP]) {
            let signal = Signal::try_from(number).expect("a signal");
            raise(signal).expect("a signal to itself");
            assert_eq!(are_waiting(), interrupt != Interrupt::Stop);
            let next = timeout(Duration::from_secs(10), signals.next()).await;
            let asked = Asked {
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
