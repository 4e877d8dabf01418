//! Events for the tests of the formats: at least one of each kind, in a story that could be true.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;

use super::{Format, Options, Sink, colour::Palette, sink};
use crate::trace::event::{End, Event, EventKind, Global, Lost, Start};

mod calls;
mod clones;
mod ends;
mod experiment;
mod faults;
mod objects;
mod tasks;

pub(super) use ends::{account, end, family, fork, life, not_surveyed, whole_end};
pub(super) use experiment::experiment;
pub use faults::fault;
pub(super) use faults::{by_fork, copies, faults};
pub(super) use objects::left;
pub(super) use tasks::exit;

/// A writer whose bytes the test keeps.
#[derive(Default)]
pub struct Page(Rc<RefCell<Vec<u8>>>);

impl Page {
    /// What was written to it.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).expect("UTF-8")
    }

    /// Where it is written to.
    pub fn writer(&self) -> Box<dyn Write> {
        Box::new(Self(Rc::clone(&self.0)))
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a format makes of the start, these events, and the end.
pub(super) fn written(format: Format, options: Options, events: &[Event], end: &End) -> String {
    let page = Page::default();
    let mut sink = sink(format, page.writer(), options);
    run(&mut *sink, events, end).expect("a writer that doesn't fail");
    page.text()
}

/// What is written in plain text.
pub(super) fn plain(write: impl FnOnce(&mut Vec<u8>, Palette) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out, Palette::new(false)).expect("a Vec takes everything");
    String::from_utf8(out).expect("UTF-8")
}

/// Sends everything to a sink.
pub(super) fn run(sink: &mut dyn Sink, events: &[Event], end: &End) -> io::Result<()> {
    sink.start(&start())?;
    for event in events {
        sink.event(event)?;
    }
    sink.flush(0)?;
    sink.end(end)
}

/// Nothing but the events.
pub const PLAIN: Options = Options {
    fold: false,
    colour: false,
    summary_only: false,
};

const BEGAN: u64 = 5_000_000_000_000;

/// The first line.
pub fn start() -> Start {
    Start {
        schema: 1,
        version: "0.1.0".into(),
        kernel: "6.18.5".into(),
        command: vec!["./fork-write".into(), "--name".into(), "a b\n".into()],
        attached: Vec::new(),
        backend: "tracepoints".into(),
        ts: BEGAN,
        realtime: 1_790_000_000_000_000_000,
    }
}

/// Something that happens to a process so many microseconds after the start.
pub(super) fn event(micros: u64, pid: u32, what: EventKind) -> Event {
    Event {
        ts: BEGAN + micros * 1000 + 7,
        pid,
        tid: pid,
        global: None,
        abi: None,
        comm: "fork-write".into(),
        what,
    }
}

/// An event of every type.
pub fn story() -> Vec<Event> {
    let (mapped, died) = (calls::calls(), tasks::deaths());
    let faults = faults().into_iter().map(EventKind::Fault);
    let lost = EventKind::Lost(Lost {
        count: 3,
        by_kind: [("call".into(), 1), ("fault".into(), 2)].into(),
        missed: [("sys_exit".to_owned(), 5)].into(),
    });
    let all = mapped
        .into_iter()
        .chain(tasks::births())
        .chain(objects::objects())
        .chain(faults)
        .chain([lost])
        .chain(tasks::failures())
        .chain(died);
    let mut story: Vec<Event> = (1..)
        .zip(all)
        .map(|(at, what)| event(111 * at, 1234, what))
        .collect();
    for event in &mut story {
        match &event.what {
            EventKind::Fault(fault) => {
                (event.pid, event.tid) = (1235, 1235);
                event.global = fault.part.map(|_| Global {
                    pid: 71_235,
                    tid: 71_235,
                });
            }
            EventKind::ExistingTask(task) if task.resident.is_none() => event.tid = 1236,
            EventKind::Share(_) => {
                event.global = Some(Global {
                    pid: 71_234,
                    tid: 71_234,
                });
            }
            EventKind::Exit(exit) if exit.thread && exit.code.is_some() => {
                event.tid = 1236;
                event.comm = "wor\nker".into();
            }
            EventKind::Lost(_) => (event.pid, event.tid) = (0, 0),
            EventKind::Shmdt(_) => event.abi = Some("i386".into()),
            _ => {}
        }
    }
    story
}

/// Names as the model has them.
fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|&name| name.into()).collect()
}
