//! What every output is: a taker of events.

use std::io::{self, Write};

use crate::trace::event::{End, Event, Start};

/// Bytes that are gathered before they are written.
pub(super) const BUFFER: usize = 256 << 10;

/// Where a sink writes to.
pub(super) type Out = io::BufWriter<Box<dyn Write>>;

/// A writer that gathers what is written.
pub(super) fn buffered(to: Box<dyn Write>) -> Out {
    Out::with_capacity(BUFFER, to)
}

/// Takes the events of a run in time order and writes them.
///
/// An error is the writer's own (a full disk, a closed pipe); nothing is to be written after it.
pub trait Sink {
    /// Writes what comes first.
    fn start(&mut self, start: &Start) -> io::Result<()>;

    /// Writes an event, into a buffer at first.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Lets the reader have what is buffered. To be called after each batch of events, and every few tens of
    /// milliseconds while none come: faults that are being folded wait for it. `now` is the time, in nanoseconds.
    fn flush(&mut self, now: u64) -> io::Result<()>;

    /// Writes what comes last, and flushes.
    fn end(&mut self, end: &End) -> io::Result<()>;
}
