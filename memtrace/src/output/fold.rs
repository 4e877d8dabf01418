//! Folds runs of like faults in neighbouring pages into one line each.

use std::io;
use std::time::{Duration, Instant};

use super::Sink;
use super::text::Text;
use super::wording::{self, Sharers};
use crate::trace::event::{Address, Because, Counted, End, Event, Fault, Start, What};

/// How long a run may keep its reader waiting.
const PATIENCE: Duration = Duration::from_millis(200);

/// Stands before the text. It holds one run at most, so whatever is written is in time order.
pub(super) struct Fold {
    text: Text,
    run: Option<Run>,
    patience: Duration,
}

impl Fold {
    pub(super) const fn new(text: Text) -> Self {
        Self {
            text,
            run: None,
            patience: PATIENCE,
        }
    }

    fn end_run(&mut self) -> io::Result<()> {
        match self.run.take() {
            Some(run) if run.faults > 1 => self.text.run(&run),
            Some(run) => self.text.event(&run.event),
            None => Ok(()),
        }
    }
}

impl Sink for Fold {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.text.start(start)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        if !wording::tells(&event.what) {
            return Ok(());
        }
        if self.run.as_mut().is_some_and(|run| run.take_in(event)) {
            return Ok(());
        }
        self.end_run()?;
        self.run = Run::of(event);
        if self.run.is_some() {
            Ok(())
        } else {
            self.text.event(event)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self
            .run
            .as_ref()
            .is_some_and(|run| run.shown_from.elapsed() >= self.patience)
        {
            self.end_run()?;
        }
        self.text.flush()
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.end_run()?;
        self.text.end(end)
    }
}

/// Where a run goes in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Each fault is in the page after that of the one before.
    Up,
    /// In the page before.
    Down,
    /// In the same page: as when a handler of SIGSEGV returns to what it was sent for.
    Stays,
}

/// Like faults, each in the page next to that of the one before, or all in one.
pub(super) struct Run {
    /// What it began with: the event, and the fault in it.
    event: Event,
    first: Fault,
    /// Where the last fault was, and its time.
    last: Place,
    until: u64,
    faults: u64,
    minor: u64,
    major: u64,
    /// Of copies: who maps the old pages on.
    sharers: Option<Sharers>,
    direction: Direction,
    /// When the reader could have seen its first fault.
    shown_from: Instant,
}

impl Run {
    /// A run that begins with this event, if it is one that can be folded.
    fn of(event: &Event) -> Option<Self> {
        let What::Fault(fault) = &event.what else {
            return None;
        };
        // What needs a second look has a line of its own.
        if fault.late != 0 {
            return None;
        }
        let mut run = Self {
            event: event.clone(),
            first: fault.clone(),
            last: Place::of(fault),
            until: event.ts,
            faults: 0,
            minor: 0,
            major: 0,
            sharers: None,
            direction: Direction::Up,
            shown_from: Instant::now(),
        };
        run.count(event.ts, fault);
        Some(run)
    }

    /// Adds an event if it goes on with the run.
    fn take_in(&mut self, event: &Event) -> bool {
        let What::Fault(fault) = &event.what else {
            return false;
        };
        let Event {
            pid, tid, ref comm, ..
        } = self.event;
        let same_task = event.pid == pid && event.tid == tid && event.comm == *comm;
        if !same_task || !alike(fault, &self.first) {
            return false;
        }
        let (old, new) = (self.page(self.last.addr), self.page(fault.addr));
        let direction = if old == new {
            Direction::Stays
        } else if old.checked_add(fault.page_size) == Some(new) {
            Direction::Up
        } else if new.checked_add(fault.page_size) == Some(old) {
            Direction::Down
        } else {
            return false;
        };
        if self.faults == 1 {
            self.direction = direction;
        }
        let goes_on = self.direction == direction;
        if goes_on {
            self.count(event.ts, fault);
        }
        goes_on
    }

    fn count(&mut self, ts: u64, fault: &Fault) {
        self.faults += 1;
        match fault.counted {
            Some(Counted::Minor) => self.minor += 1,
            Some(Counted::Major) => self.major += 1,
            None => {}
        }
        if let Some(cause) = &fault.cause {
            match &mut self.sharers {
                Some(sharers) => sharers.add(cause),
                None => self.sharers = Some(Sharers::of(cause)),
            }
        }
        self.until = ts;
        self.last = Place::of(fault);
    }

    /// The event that it began with.
    pub(super) const fn event(&self) -> &Event {
        &self.event
    }

    pub(super) const fn first(&self) -> &Fault {
        &self.first
    }

    /// The last fault.
    pub(super) fn last(&self) -> Fault {
        let Place {
            addr,
            offset,
            pfn_before,
            pfn_after,
        } = self.last;
        Fault {
            addr,
            offset,
            pfn_before,
            pfn_after,
            ..self.first.clone()
        }
    }

    /// `ts` of the last fault.
    pub(super) const fn until(&self) -> u64 {
        self.until
    }

    /// How many faults there are: as many as pages, unless it stays.
    pub(super) const fn faults(&self) -> u64 {
        self.faults
    }

    /// Of copies: who maps the old pages on.
    pub(super) const fn sharers(&self) -> Option<&Sharers> {
        self.sharers.as_ref()
    }

    /// Where it goes in memory.
    pub(super) const fn direction(&self) -> Direction {
        self.direction
    }

    /// The first address of an address's page.
    const fn page(&self, address: Address) -> u64 {
        address.0 & !self.first.page_size.wrapping_sub(1)
    }

    /// Its first address and the first one after it.
    pub(super) fn range(&self) -> (Address, Address) {
        let start = self.page(match self.direction {
            Direction::Down => self.last.addr,
            Direction::Up | Direction::Stays => self.first.addr,
        });
        let end = start.saturating_add(self.faults.saturating_mul(self.first.page_size));
        (Address(start), Address(end))
    }

    /// How many of the faults the kernel counted how.
    pub(super) const fn counted(&self) -> [(Option<Counted>, u64); 3] {
        [
            (Some(Counted::Minor), self.minor),
            (Some(Counted::Major), self.major),
            (None, self.faults - self.minor - self.major),
        ]
    }
}

/// What differs between the faults of a run and is shown.
struct Place {
    addr: Address,
    offset: Option<u64>,
    pfn_before: Option<u64>,
    pfn_after: Option<u64>,
}

impl Place {
    const fn of(fault: &Fault) -> Self {
        Self {
            addr: fault.addr,
            offset: fault.offset,
            pfn_before: fault.pfn_before,
            pfn_after: fault.pfn_after,
        }
    }
}

/// Whether two faults differ in nothing but where they were, their frames, who maps the old ones on, and how they were
/// counted.
fn alike(a: &Fault, b: &Fault) -> bool {
    a.late == 0
        && a.signal == b.signal
        // What is refused is told with its instruction.
        && (a.signal.is_none() || a.ip == b.ip)
        && (a.kind, a.access, a.mode, a.region, a.part)
            == (b.kind, b.access, b.mode, b.region, b.part)
        && a.page_size == b.page_size
        && a.detail == b.detail
        && made_by(a) == made_by(b)
        && asked_for(a) == asked_for(b)
        && a.file == b.file
}

/// In which call the kernel wanted the page of whom, and whether for itself alone.
fn asked_for(fault: &Fault) -> Option<(Option<&str>, Option<u32>, bool)> {
    let handled = fault.handled.as_ref()?;
    Some((handled.call.as_deref(), handled.owner, handled.unshare))
}

/// What had made the page of a copy shared, with the fork's number.
fn made_by(fault: &Fault) -> Option<(Because, Option<u32>)> {
    let cause = fault.cause.as_ref()?;
    Some((cause.cause, cause.fork.map(|fork| fork.number)))
}

#[cfg(test)]
mod tests;
