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
            Some(run) if run.pages > 1 => self.text.run(&run),
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

/// Like faults, each in the page next to that of the one before.
pub(super) struct Run {
    /// What it began with: the event, and the fault in it.
    event: Event,
    first: Fault,
    /// Where the last fault was, and its time.
    last: Place,
    until: u64,
    pages: u64,
    minor: u64,
    major: u64,
    /// Of copies: who maps the old pages on.
    sharers: Option<Sharers>,
    descends: bool,
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
        if fault.signal.is_some() || fault.late != 0 {
            return None;
        }
        let mut run = Self {
            event: event.clone(),
            first: fault.clone(),
            last: Place::of(fault),
            until: event.ts,
            pages: 0,
            minor: 0,
            major: 0,
            sharers: None,
            descends: false,
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
        let ascends = old.checked_add(fault.page_size) == Some(new);
        let descends = new.checked_add(fault.page_size) == Some(old);
        if self.pages == 1 {
            self.descends = descends;
        }
        let goes_on = if self.descends { descends } else { ascends };
        if goes_on {
            self.count(event.ts, fault);
        }
        goes_on
    }

    fn count(&mut self, ts: u64, fault: &Fault) {
        self.pages += 1;
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

    pub(super) const fn pages(&self) -> u64 {
        self.pages
    }

    /// Of copies: who maps the old pages on.
    pub(super) const fn sharers(&self) -> Option<&Sharers> {
        self.sharers.as_ref()
    }

    /// Whether it goes down in memory.
    pub(super) const fn descends(&self) -> bool {
        self.descends
    }

    /// The first address of an address's page.
    const fn page(&self, address: Address) -> u64 {
        address.0 & !self.first.page_size.wrapping_sub(1)
    }

    /// Its first address and the first one after it.
    pub(super) fn range(&self) -> (Address, Address) {
        let start = self.page(if self.descends {
            self.last.addr
        } else {
            self.first.addr
        });
        let end = start.saturating_add(self.pages.saturating_mul(self.first.page_size));
        (Address(start), Address(end))
    }

    /// How many of the faults the kernel counted how.
    pub(super) const fn counted(&self) -> [(Option<Counted>, u64); 3] {
        [
            (Some(Counted::Minor), self.minor),
            (Some(Counted::Major), self.major),
            (None, self.pages - self.minor - self.major),
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
    a.signal.is_none()
        && a.late == 0
        && (a.kind, a.access, a.mode, a.region, a.part)
            == (b.kind, b.access, b.mode, b.region, b.part)
        && a.page_size == b.page_size
        && a.detail == b.detail
        && made_by(a) == made_by(b)
        && asked_for(a) == asked_for(b)
        && a.file == b.file
}

/// In which call the kernel wanted the page of whom, and whether for itself alone.
fn asked_for(fault: &Fault) -> Option<(Option<&'static str>, Option<u32>, bool)> {
    let handled = fault.handled.as_ref()?;
    Some((handled.call, handled.owner, handled.unshare))
}

/// What had made the page of a copy shared, with the fork's number.
fn made_by(fault: &Fault) -> Option<(Because, Option<u32>)> {
    let cause = fault.cause.as_ref()?;
    Some((cause.cause, cause.fork.map(|fork| fork.number)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::output::colour::Palette;
    use crate::output::samples::{self, PLAIN, Page, account, by_fork, copies, end, event, fault};
    use crate::output::{Format, Options, Out};
    use crate::trace::event::{Access, Cause, Exit, FaultKind, ForkRef, Mode, Region};

    fn folded(events: &[Event]) -> String {
        let options = Options {
            fold: true,
            ..PLAIN
        };
        samples::written(Format::Text, options, events, &end(vec![]))
    }

    /// The lines of events.
    fn lines(events: &[Event]) -> Vec<String> {
        let text = folded(events);
        let events = text.lines().skip(2).take_while(|line| !line.is_empty());
        events.map(str::to_owned).collect()
    }

    #[test]
    fn runs_become_lines() {
        let mut events = copies(0..128);
        events.extend(copies((40..50).rev()));
        events.push(event(
            2500,
            1235,
            What::Exit(Exit {
                code: Some(0),
                signal: None,
                core: false,
                thread: false,
                by_exec: None,
            }),
        ));
        events.extend(copies(std::iter::once(7)));
        let shared = |event: Event| {
            let What::Fault(fault) = event.what else {
                unreachable!("copies are faults")
            };
            let counted = (fault.addr.0 & 0x1000 == 0).then_some(Counted::Minor);
            Event {
                what: What::Fault(Fault {
                    pfn_before: None,
                    pfn_after: Some(5),
                    counted,
                    ..fault
                }),
                ..event
            }
        };
        events.extend(copies(100..103).into_iter().map(shared));
        expect_file!["snapshots/folded.txt"].assert_eq(&folded(&events));
    }

    #[test]
    fn anything_unlike_ends_a_run() {
        type Change = fn(&mut Event, &mut Fault);
        let changes: [(&str, Change); 10] = [
            ("pid", |event, _| event.pid += 1),
            ("tid", |event, _| event.tid += 1),
            ("comm", |event, _| event.comm = "other".into()),
            ("kind", |_, fault| fault.kind = FaultKind::CowReuse),
            ("access", |_, fault| fault.access = Access::Read),
            ("mode", |_, fault| fault.mode = Mode::Kernel),
            ("region", |_, fault| fault.region = Region::Anon),
            ("file", |_, fault| fault.file = Some("/tmp/a".into())),
            ("late", |_, fault| fault.late = 1),
            ("place", |_, fault| fault.addr.0 += 4096),
        ];
        assert_eq!(lines(&copies(0..2)).len(), 1);
        for (name, change) in changes {
            let mut events = copies(0..2);
            let mut other = events.remove(1);
            let What::Fault(mut fault) = other.what.clone() else {
                unreachable!("copies are faults")
            };
            change(&mut other, &mut fault);
            other.what = What::Fault(fault);
            events.push(other);
            assert_eq!(lines(&events).len(), 2, "{name}");
        }
    }

    /// Copies of neighbouring pages, each with its cause.
    fn caused(causes: &[Cause]) -> Vec<Event> {
        let mut events = copies(0..causes.len() as u64);
        for (event, cause) in events.iter_mut().zip(causes) {
            if let What::Fault(fault) = &mut event.what {
                fault.cause = Some(cause.clone().into());
            }
        }
        events
    }

    #[test]
    fn copies_of_one_fork_are_a_run_whoever_shares_them() {
        let fork = |ago| {
            let fork = by_fork().fork?;
            Some(ForkRef { ago, ..fork })
        };
        let first = by_fork();
        let later = Cause {
            fork: fork(2_000_000),
            ..by_fork()
        };
        let others = Cause {
            sharers: vec![1300, 1301],
            sharer_count: 2,
            map_count: Some(4),
            ..by_fork()
        };
        let alone = Cause {
            sharers: vec![],
            sharer_count: 0,
            map_count: Some(1),
            ..by_fork()
        };
        let run = |causes: &[Cause]| {
            let lines = lines(&caused(causes));
            assert_eq!(lines.len(), 1, "{lines:?}");
            lines[0].clone()
        };
        let shared = "page copied, shared by fork #3 (1234 -> 1235) 1.2 ms ago; still mapped ";
        for (causes, expected) in [
            (&[first.clone(), later][..], "by 1234 (map count 2)"),
            (
                &[first.clone(), others][..],
                "by 1 to 2 traced processes, and outside the trace (map count 2 to 4)",
            ),
            (
                &[first, alone][..],
                "by 0 to 1 traced processes (map count 1 to 2)",
            ),
        ] {
            let line = run(causes);
            assert!(line.contains(&format!("{shared}{expected}  [")), "{line}");
        }
    }

    #[test]
    fn copies_of_two_forks_or_causes_are_no_run() {
        let mut other_fork = by_fork();
        other_fork.fork = other_fork.fork.map(|fork| ForkRef { number: 4, ..fork });
        let reference = Cause {
            cause: Because::Reference,
            ..by_fork()
        };
        for other in [other_fork, reference] {
            assert_eq!(lines(&caused(&[by_fork(), other])).len(), 2);
        }
    }

    #[test]
    fn what_tells_nothing_new_ends_no_run() {
        let mut events = copies(0..4);
        let quiet = |event: &Event| !wording::tells(&event.what);
        let quiet: Vec<_> = samples::story().into_iter().filter(quiet).collect();
        assert_eq!(quiet.len(), 2);
        events.splice(2..2, quiet);
        assert_eq!(lines(&events).len(), 1);
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_neighbours() {
        let at = |addr| {
            event(
                1,
                1,
                What::Fault(Fault {
                    addr: Address(addr),
                    ..fault()
                }),
            )
        };
        assert_eq!(lines(&[at(u64::MAX), at(0)]).len(), 2);
        assert_eq!(lines(&[at(0), at(u64::MAX)]).len(), 2);
    }

    #[test]
    fn a_flush_ends_a_run_only_when_it_is_old() {
        let page = Page::default();
        let text = Text::new(Out::new(page.writer()), Palette::new(false));
        let mut fold = Fold {
            patience: Duration::MAX,
            ..Fold::new(text)
        };
        let write = |fold: &mut Fold, events: &[Event]| {
            events
                .iter()
                .try_for_each(|event| fold.event(event))
                .expect("a writer that doesn't fail");
            fold.flush().expect("a writer that doesn't fail");
        };
        write(&mut fold, &copies(0..3));
        assert_eq!(page.text(), "");
        fold.patience = Duration::ZERO;
        write(&mut fold, &copies(3..6));
        assert!(page.text().contains("6 pages"), "{}", page.text());
        write(&mut fold, &copies(6..7));
        assert_eq!(page.text().lines().count(), 3, "{}", page.text());
    }

    #[test]
    fn the_account_comes_after_the_last_run() {
        let options = Options {
            fold: true,
            ..PLAIN
        };
        let text = samples::written(
            Format::Text,
            options,
            &copies(0..3),
            &end(vec![account(1, 3)]),
        );
        assert!(text.find("3 pages") < text.find("The kernel counted"));
    }
}
