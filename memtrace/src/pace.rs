//! When the ring buffer is read: some times a second while something happens, and else when the hooks ask for it.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Interval, MissedTickBehavior, interval, sleep},
};

/// How often the ring buffer is read: what is shown is late by twice this.
pub const PERIOD: Duration = Duration::from_millis(10);
/// The same while nothing happens, for what wakes nobody: hooks that the kernel has left out.
const IDLE_PERIOD: Duration = Duration::from_secs(5);

/// The pace of a trace.
pub struct Pace {
    ticker: Interval,
    /// Readable when the hooks have woken a sleeping reader.
    records: AsyncFd<OwnedFd>,
    is_idle: bool,
    /// How long an idle reader sleeps at most.
    rest: Duration,
}

impl Pace {
    /// That of a trace that begins, with the ring buffer's file.
    ///
    /// # Errors
    /// The kernel lets nobody wait for it.
    pub fn new(records: BorrowedFd<'_>) -> Result<Self> {
        let mut ticker = interval(PERIOD);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let records = records.try_clone_to_owned()?;
        // SAFETY: the file is owned, and so open for as long as this.
        let records = unsafe { AsyncFd::register_with_interest(records, Interest::READABLE) };
        Ok(Self {
            ticker,
            records: records.context("can't wait for the ring buffer")?,
            is_idle: false,
            rest: PERIOD,
        })
    }

    /// Waits until the ring buffer is to be read.
    pub async fn due(&mut self) {
        if !self.is_idle {
            self.ticker.tick().await;
            return;
        }
        tokio::select! {
            ready = self.records.readable() => if let Ok(mut ready) = ready {
                ready.clear_ready();
            },
            () = sleep(self.rest) => {}
        }
        self.rest = IDLE_PERIOD;
    }

    /// Whether the reader sleeps.
    pub const fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Whether it is to sleep.
    pub const fn set_idle(&mut self, is_idle: bool) {
        self.is_idle = is_idle;
        // The first time not for long: a hook that was under way may have taken the reader for awake.
        self.rest = PERIOD;
    }
}
