//! Folds runs of like faults in neighbouring pages: a step before a sink that shows a run as one.

use std::io;

use super::run::Run;
use super::sink::Sink;
use crate::trace::event::{End, Event, Start};

/// Nanoseconds that a run may keep its reader waiting.
const PATIENCE: u64 = 200_000_000;

/// A sink that shows runs.
pub(super) trait FaultRuns: Sink {
    /// Writes a run of several faults.
    fn run(&mut self, run: &Run) -> io::Result<()>;
}

/// Stands before such a sink. It holds one run at most, so whatever is written is in time order.
pub(super) struct Fold<S> {
    sink: S,
    run: Option<Run>,
    /// When the reader could have seen the run's first fault.
    since: Option<u64>,
}

impl<S: FaultRuns> Fold<S> {
    pub(super) const fn new(sink: S) -> Self {
        Self {
            sink,
            run: None,
            since: None,
        }
    }

    fn end_run(&mut self) -> io::Result<()> {
        self.since = None;
        match self.run.take() {
            Some(run) if run.faults() > 1 => self.sink.run(&run),
            Some(run) => self.sink.event(run.event()),
            None => Ok(()),
        }
    }
}

impl<S: FaultRuns> Sink for Fold<S> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.sink.start(start)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.run.as_mut().is_some_and(|run| run.take_in(event)) {
            return Ok(());
        }
        self.end_run()?;
        self.run = Run::of(event);
        if self.run.is_some() {
            Ok(())
        } else {
            self.sink.event(event)
        }
    }

    fn flush(&mut self, now: u64) -> io::Result<()> {
        if self.run.is_some() {
            let since = *self.since.get_or_insert(now);
            if now.saturating_sub(since) >= PATIENCE {
                self.end_run()?;
            }
        }
        self.sink.flush(now)
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.end_run()?;
        self.sink.end(end)
    }
}

#[cfg(test)]
mod tests;
