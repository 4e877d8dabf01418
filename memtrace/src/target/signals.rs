//! The signals that memtrace outlives, so that it can show its tables.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use anyhow::Context as _;
use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Inherited;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT or SIGQUIT. Where there is a PROG the terminal sent it to that too, which may end or go on.
    Keyboard,
    /// SIGTERM or SIGHUP, to memtrace: end the trace and leave alone what was traced.
    End,
}

/// Waits for the signals. From its making on they don't end memtrace.
#[derive(Debug)]
pub struct Signals(Vec<(Interrupt, Signal)>);

impl Signals {
    /// Listens for all four, except those that memtrace was started to ignore: a shell's background job (SIGINT,
    /// SIGQUIT) or `nohup` (SIGHUP) stays one. Wants a tokio runtime around it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new(inherited: &Inherited) -> anyhow::Result<Self> {
        let all = [
            (libc::SIGINT, Interrupt::Keyboard),
            (libc::SIGQUIT, Interrupt::Keyboard),
            (libc::SIGTERM, Interrupt::End),
            (libc::SIGHUP, Interrupt::End),
        ];
        all.into_iter()
            .filter(|&(number, _)| !inherited.ignores(number))
            .map(|(number, meaning)| Ok((meaning, signal(SignalKind::from_raw(number))?)))
            .collect::<io::Result<_>>()
            .map(Self)
            .context("can't listen for signals")
    }

    /// The next one. Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> Interrupt {
        poll_fn(|context| {
            for (meaning, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*meaning);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{Signal as Number, raise};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_signal_is_reported_for_what_it_asks() {
        let mut signals = Signals::new(&Inherited::default()).expect("a runtime is there");
        for (number, meaning) in [
            (Number::SIGINT, Interrupt::Keyboard),
            (Number::SIGQUIT, Interrupt::Keyboard),
            (Number::SIGTERM, Interrupt::End),
            (Number::SIGHUP, Interrupt::End),
        ] {
            raise(number).expect("a signal to itself");
            let next = timeout(Duration::from_secs(10), signals.next()).await;
            assert_eq!(next.ok(), Some(meaning), "{number}");
        }
    }

    #[tokio::test]
    async fn what_was_ignored_stays_ignored() {
        let all = Inherited {
            ignored: [true; 6],
            ..Inherited::default()
        };
        assert!(Signals::new(&all).expect("a runtime is there").0.is_empty());
    }
}
