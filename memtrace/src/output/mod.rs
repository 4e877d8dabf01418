//! What a reader gets: the events and the account, as text or as JSON.

use std::{
    io::{self, Write},
    path::Path,
};

use clap::ValueEnum;

use crate::trace::event::{End, Event, EventKind, Start};

mod accounting;
mod colour;
mod escape;
pub mod file;
mod fold;
mod forks;
mod gather;
mod json;
mod queue;
mod run;
#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod schema;
mod sink;
mod table;
mod text;
mod tree;
mod visible_json;
mod wording;

pub use colour::wanted as colour_wanted;
pub use escape::{Escaped, Visible};
pub use gather::{Gather, Gathered};
pub use queue::Queue;
pub use sink::Sink;
pub use visible_json::to_json;

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// To be read (.txt)
    Text,
    /// A JSON object a line (.json, .jsonl)
    Json,
}

impl Format {
    /// How the names of its files end.
    const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["txt"],
            Self::Json => &["json", "jsonl"],
        }
    }

    /// The format of a file by the ending of its name, if that is one of a format's.
    pub fn of(file: &Path) -> Option<Self> {
        let ending = file.extension()?.to_str()?;
        let mut formats = Self::value_variants().iter().copied();
        formats.find(|format| format.endings().contains(&ending))
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How `lab` and `doctor` write what they found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// To be read
    Text,
    /// JSON, for programs
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

/// The sink for a format. It buffers by itself.
pub fn sink(format: Format, to: Box<dyn Write>, options: Options) -> Box<dyn Sink> {
    let out = sink::buffered(to);
    let all = move |_: &EventKind| !options.summary_only;
    match format {
        Format::Json => Box::new(Chosen(json::Json::new(out), all)),
        Format::Text => {
            let told = move |what: &EventKind| all(what) && wording::tells(what);
            let text = text::Text::new(out, colour::Palette::new(options.colour));
            if options.fold {
                Box::new(Chosen(fold::Fold::new(text), told))
            } else {
                Box::new(Chosen(text, told))
            }
        }
    }
}

/// An event as a line of text without its end, the time counted from `began`.
pub fn as_text(event: &Event, began: u64, colour: bool) -> String {
    let palette = colour::Palette::new(colour);
    let (who, what) = (palette.process(event.pid), palette.what(&event.what));
    let kind = event.what.kind();
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

/// A step before a sink, which gets only events that a function chooses.
struct Chosen<S, F>(S, F);

impl<S: Sink, F: Fn(&EventKind) -> bool> Sink for Chosen<S, F> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.0.start(start)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        if (self.1)(&event.what) {
            self.0.event(event)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self, now: u64) -> io::Result<()> {
        self.0.flush(now)
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
