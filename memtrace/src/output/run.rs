//! Runs of like faults in neighbouring pages.

use crate::trace::event::{Address, Cause, Counted, CowCause, Event, EventKind, Fault};

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
    last: PerPage,
    until: u64,
    faults: u64,
    minor: u64,
    major: u64,
    /// Of copies: who maps the old pages on.
    sharers: Option<Sharers>,
    direction: Direction,
}

impl Run {
    /// A run that begins with this event, if it is one that can be folded.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let EventKind::Fault(fault) = &event.what else {
            return None;
        };
        // What needs a second look has a line of its own.
        if fault.late != 0 {
            return None;
        }
        let mut run = Self {
            event: event.clone(),
            first: fault.clone(),
            last: PerPage::of(fault),
            until: event.ts,
            faults: 0,
            minor: 0,
            major: 0,
            sharers: None,
            direction: Direction::Up,
        };
        run.count(event.ts, fault);
        Some(run)
    }

    /// Adds an event if it goes on with the run.
    pub(super) fn take_in(&mut self, event: &Event) -> bool {
        let EventKind::Fault(fault) = &event.what else {
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
        self.last = PerPage::of(fault);
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
        let PerPage {
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
struct PerPage {
    addr: Address,
    offset: Option<u64>,
    pfn_before: Option<u64>,
    pfn_after: Option<u64>,
}

impl PerPage {
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
fn made_by(fault: &Fault) -> Option<(CowCause, Option<u32>)> {
    let cause = fault.cause.as_ref()?;
    Some((cause.cause, cause.fork.map(|fork| fork.number)))
}

/// Who maps the old page on, of one copy or of a run of them.
pub(super) struct Sharers {
    /// The traced ones; of a run, the first copy's.
    pub(super) traced: Vec<u32>,
    /// Whether they were the same at every copy.
    pub(super) same: bool,
    /// How many they were, at least and at most.
    pub(super) count: (u32, u32),
    /// How many entries mapped the page by the kernel's count, at least and at most; none where one isn't known.
    pub(super) map_count: Option<(u32, u32)>,
    /// Whether more entries mapped it than those of the traced processes, at any copy.
    pub(super) outside: bool,
}

impl Sharers {
    /// Those of a copy.
    pub(super) fn of(cause: &Cause) -> Self {
        Self {
            traced: cause.sharers.clone(),
            same: true,
            count: (cause.sharer_count, cause.sharer_count),
            map_count: cause.map_count.map(|count| (count, count)),
            outside: outside(cause),
        }
    }

    /// Adds those of another copy.
    pub(super) fn add(&mut self, cause: &Cause) {
        let widen = |(least, most): (u32, u32), count| (least.min(count), most.max(count));
        self.same &= cause.sharers == self.traced && cause.sharer_count == self.count.0;
        self.count = widen(self.count, cause.sharer_count);
        self.map_count = self
            .map_count
            .zip(cause.map_count)
            .map(|(range, count)| widen(range, count));
        self.outside |= outside(cause);
    }
}

/// Whether the kernel counts more than the traced processes and the writer.
fn outside(cause: &Cause) -> bool {
    cause
        .map_count
        .is_some_and(|count| count > cause.sharer_count.saturating_add(1))
}
