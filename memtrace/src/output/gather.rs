//! A trace that stays in memory, for who judges it.

use std::{cell::RefCell, io, rc::Rc};

use super::sink::Sink;
use crate::trace::event::{End, Event, Start};

/// What a trace gave.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Its events in their order.
    pub events: Vec<Event>,
    /// What comes last, once it has come.
    pub end: Option<End>,
}

/// Keeps events in memory.
pub struct Gather(Rc<RefCell<Gathered>>);

impl Gather {
    /// A sink, and what it will have gathered.
    pub fn new() -> (Self, Rc<RefCell<Gathered>>) {
        let gathered = Rc::default();
        (Self(Rc::clone(&gathered)), gathered)
    }
}

impl Sink for Gather {
    fn start(&mut self, _: &Start) -> io::Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.0.borrow_mut().events.push(event.clone());
        Ok(())
    }

    fn flush(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.0.borrow_mut().end = Some(end.clone());
        Ok(())
    }
}
