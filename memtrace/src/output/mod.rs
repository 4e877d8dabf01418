//! What a reader gets: the events and the account, as text or as JSON.

use std::io::{self, Write};

use crate::trace::event::{End, Event, Start, What};

mod accounting;
mod colour;
mod escape;
pub mod file;
mod fold;
mod forks;
mod gather;
mod json;
mod queue;
#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod schema;
mod seen_json;
mod table;
mod text;
mod tree;
mod wording;

pub use colour::wanted as colour_wanted;
pub use escape::{Escaped, Seen};
pub use gather::{Gather, Gathered};
pub use queue::Queue;
pub use seen_json::to_json;

/// Takes the events of a run in time order and writes them.
///
/// An error is the writer's own (a full disk, a closed pipe); nothing is to be written after it.
pub trait Sink {
    /// Writes what comes first.
    fn start(&mut self, start: &Start) -> io::Result<()>;

    /// Writes an event, into a buffer at first.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Lets the reader have what is buffered. To be called after each batch of events, and every few tens of
    /// milliseconds while none come: faults that are being folded wait for it.
    fn flush(&mut self) -> io::Result<()>;

    /// Writes what comes last, and flushes.
    fn end(&mut self, end: &End) -> io::Result<()>;
}

/// What the output is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// How the output is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Text: runs of like faults in neighbouring pages become one line.
    pub fold: bool,
    /// Text: with colours; see [`colour_wanted`].
    pub colour: bool,
    /// No events, only the account at the end.
    pub summary_only: bool,
}

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;

type Out = io::BufWriter<Box<dyn Write>>;

/// The sink for a format. It buffers by itself.
pub fn sink(format: Format, to: Box<dyn Write>, options: Options) -> Box<dyn Sink> {
    let out = Out::with_capacity(BUFFER, to);
    let sink: Box<dyn Sink> = match format {
        Format::Json => Box::new(json::Json::new(out)),
        Format::Text => {
            let text = text::Text::new(out, colour::Palette::new(options.colour));
            if options.fold {
                Box::new(fold::Fold::new(text))
            } else {
                Box::new(text)
            }
        }
    };
    if options.summary_only {
        Box::new(NoEvents(sink))
    } else {
        sink
    }
}

/// An event as a line of text without its end, the time counted from `began`.
pub fn as_text(event: &Event, began: u64, colour: bool) -> String {
    let palette = colour::Palette::new(colour);
    let (who, what) = (palette.process(event.pid), palette.what(&event.what));
    let kind = match &event.what {
        What::Fault(fault) => fault.kind.name(),
        other => other.name(),
    };
    let time = wording::Seconds(event.ts.saturating_sub(began));
    let Event {
        pid, tid, ref comm, ..
    } = *event;
    let task = wording::TaskName { comm, pid, tid };
    let mut line = format!("{time}  {who}{task}{who:#}  {what}{kind}{what:#}  ").into_bytes();
    // Writing to a vector doesn't fail.
    let _ = wording::write(&mut line, event, palette);
    String::from_utf8_lossy(&line).into_owned()
}

/// An event as `memtrace run --format json` has it.
///
/// # Errors
/// None that is known: serde asks for it.
pub fn as_json(event: &Event) -> serde_json::Result<serde_json::Value> {
    json::value(event)
}

/// Keeps the events from a sink.
struct NoEvents(Box<dyn Sink>);

impl Sink for NoEvents {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.0.start(start)
    }

    fn event(&mut self, _: &Event) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.0.end(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samples::{PLAIN, account, end, story};

    /// A disk with so many bytes left.
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(taken)
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_wherever_it_is_met() {
        let (events, end) = (story(), end(vec![account(1234, 3)]));
        for format in [Format::Text, Format::Json] {
            for fold in [false, true] {
                let options = Options { fold, ..PLAIN };
                let length = samples::written(format, options, &events, &end).len();
                for room in (0..length).step_by(61) {
                    let mut sink = sink(format, Box::new(Disk(room)), options);
                    let error = samples::run(&mut *sink, &events, &end).expect_err("it is full");
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                }
                let mut sink = sink(format, Box::new(Disk(length)), options);
                samples::run(&mut *sink, &events, &end).expect("room for all");
            }
        }
    }
}
