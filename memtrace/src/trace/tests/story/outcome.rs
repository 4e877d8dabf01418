//! What comes of a story, and what always holds of it.

use memtrace_ebpf::pte::PAGE_SIZE;

use crate::trace::{
    event::{
        self, Account, Area, Cause, Event, EventKind, FaultKind, ForkAccount, ObjectKind,
        ObjectReleased, ObjectShared, TaskLifetime,
    },
    model::Finished,
};

use super::FIRST;

/// What comes of a story.
pub struct Outcome {
    pub events: Vec<Event>,
    pub rows: Vec<Account>,
    pub total: Account,
    pub forks: Vec<ForkAccount>,
    pub tasks: Vec<TaskLifetime>,
}

impl Outcome {
    /// Of the events, and of the end.
    pub fn new(events: Vec<Event>, finished: Finished) -> Self {
        let Finished {
            processes: rows,
            total,
            forks,
            tasks,
            ..
        } = finished;
        Self {
            events,
            rows,
            total,
            forks,
            tasks,
        }
    }

    /// What always holds. In a summary there are no faults.
    pub fn check(&self, summary: bool) {
        assert!(self.events.is_sorted_by_key(|event| event.ts));
        for fork in &self.forks {
            adds_up(fork);
        }
        for fault in self.faults() {
            let copy = fault.kind == FaultKind::CowCopy;
            assert_eq!(copy, fault.cause.is_some(), "{fault:?}");
        }
        // A fork that was under way may explain what nothing did as it came.
        let may_be_booked = |cause: &Cause| {
            cause.fork.is_some() || matches!(cause.cause.name(), "unknown" | "fork-before")
        };
        let faults = self.faults().into_iter();
        let of_copy = faults.filter(|fault| fault.cause.as_deref().is_some_and(may_be_booked));
        let copied: u64 = of_copy.map(|fault| fault.page_size / PAGE_SIZE).sum();
        let booked: u64 = self.forks.iter().map(booked).sum();
        assert!(summary || booked <= copied, "{booked} of {copied}");
    }

    /// What is told of some of the events, in order.
    pub fn told<'a, T>(&'a self, of: impl FnMut(&'a Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter_map(of).collect()
    }

    /// The faults, in order.
    pub fn faults(&self) -> Vec<&event::Fault> {
        self.told(|event| match &event.what {
            EventKind::Fault(fault) => Some(fault),
            _ => None,
        })
    }

    /// The kinds of the faults by name, in order.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.faults()
            .iter()
            .map(|fault| fault.kind.name())
            .collect()
    }

    /// Fails unless they are these.
    #[track_caller]
    pub fn kinds_are<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(self.kinds(), expected);
    }

    /// The regions of the faults by name, in order; in a library with its part.
    pub fn regions(&self) -> Vec<String> {
        self.faults()
            .iter()
            .map(|fault| match fault.part {
                Some(part) => format!("{} {}", fault.region.name(), part.name()),
                None => fault.region.name().to_owned(),
            })
            .collect()
    }

    /// Fails unless they are these.
    #[track_caller]
    pub fn regions_are<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(self.regions(), expected);
    }

    /// The copies, in order: who wrote which page, why it was shared, with whom, and how often it was mapped.
    pub fn copies(&self) -> Vec<String> {
        let copy = |event: &Event| {
            let EventKind::Fault(fault) = &event.what else {
                return None;
            };
            let cause = fault.cause.as_deref()?;
            let fork = cause.fork.map_or_else(String::new, |fork| {
                format!(" {} {}>{}", fork.number, fork.parent, fork.child)
            });
            let mapped = cause.map_count.map_or("?".to_owned(), |of| of.to_string());
            Some(format!(
                "{} {}: {}{fork}, with {:?} of {mapped}",
                event.tid,
                (fault.addr.0 >> 12) - FIRST,
                cause.cause.name(),
                cause.sharers,
            ))
        };
        self.told(copy)
    }

    /// Fails unless they are these.
    #[track_caller]
    pub fn copies_are<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(self.copies(), expected);
    }

    /// The accounts of the forks: what is not 0 of them.
    pub fn accounts(&self) -> Vec<String> {
        self.forks.iter().map(account).collect()
    }

    /// Fails unless they are these.
    #[track_caller]
    pub fn accounts_are<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(self.accounts(), expected);
    }

    /// What tasks have begun and ceased to share, of those kinds of objects: who, by what, and with whom.
    pub fn shared(&self, of: impl Fn(ObjectKind) -> bool) -> Vec<String> {
        let list = |with: &[u32], count: u32| {
            let more = count as usize - with.len();
            let more = if more > 0 {
                format!("+{more}")
            } else {
                String::new()
            };
            format!("{with:?}{more}")
        };
        let line = |event: &Event| {
            let (by, objects): (String, Vec<String>) = match &event.what {
                EventKind::Share(share) => {
                    let wanted = share.objects.0.iter().filter(|(kind, _)| of(*kind));
                    let object = |(kind, is): &(ObjectKind, ObjectShared)| {
                        let with = list(&is.with, is.with_count);
                        format!("{}#{} {with}", kind.name(), is.number)
                    };
                    (format!("+ {}", share.by), wanted.map(object).collect())
                }
                EventKind::Unshare(unshare) => {
                    let wanted = unshare.objects.0.iter().filter(|(kind, _)| of(*kind));
                    let object = |(kind, was): &(ObjectKind, ObjectReleased)| {
                        let with = list(&was.with, was.with_count);
                        let now = was.now.map_or("-".to_owned(), |now| now.to_string());
                        format!("{}#{}>{now} {with}", kind.name(), was.number)
                    };
                    (format!("- {}", unshare.by), wanted.map(object).collect())
                }
                _ => return None,
            };
            let objects = objects.join(" ");
            (!objects.is_empty()).then(|| format!("{} {by}: {objects}", event.tid))
        };
        self.told(line)
    }

    /// The clones, in order.
    pub fn clones(&self) -> Vec<&event::Clone> {
        self.told(|event| match &event.what {
            EventKind::Clone(clone) => Some(clone),
            _ => None,
        })
    }

    /// The row of a process that is the only one of its pid.
    pub fn row(&self, pid: u32) -> &Account {
        let mut rows = self.rows.iter().filter(|row| row.pid == pid);
        let row = rows.next().expect("a row of the process");
        assert!(rows.next().is_none(), "two rows for {pid}");
        row
    }

    /// The row of a task that is the only one of its tid.
    pub fn life(&self, tid: u32) -> &TaskLifetime {
        let mut rows = self.tasks.iter().filter(|life| life.tid == tid);
        let row = rows.next().expect("a row of the task");
        assert!(rows.next().is_none(), "two rows for {tid}");
        row
    }
}

/// What an account says that became of its pages, by name.
fn ends(fork: &ForkAccount) -> [(&'static str, u64); 10] {
    let given_up = fork.given_up;
    [
        ("child", fork.by_child),
        ("parent", fork.by_parent),
        ("others", fork.by_others),
        ("at once", fork.at_once),
        ("taken over", fork.taken_over),
        ("exec", given_up.exec),
        ("exit", given_up.exit),
        ("munmap", given_up.munmap),
        ("shared", fork.still_shared),
        ("unknown", fork.unknown),
    ]
}

/// Copies that an account has, those beyond the first of a page, too.
pub fn booked(fork: &ForkAccount) -> u64 {
    fork.by_child + fork.by_parent + fork.by_others + fork.copied_again
}

/// An account in a line, last the pages of which nothing is known.
fn account(fork: &ForkAccount) -> String {
    let mut words = vec![format!("{}:", fork.pages)];
    let named = ends(fork).into_iter().filter(|(_, count)| *count > 0);
    words.extend(named.map(|(name, count)| format!("{name} {count}")));
    let mut line = words.join(" ");
    if fork.execed {
        line = format!("{line}, exec after {}", fork.before_exec);
    }
    if fork.copied_again > 0 {
        line = format!("{line}, again {}", fork.copied_again);
    }
    if let Some(pages) = fork.not_surveyed.and_then(|rest| rest.pages) {
        line = format!("{line}; and {pages}");
    }
    line
}

/// The numbers of an account add up, and those of its areas do.
pub fn adds_up(fork: &ForkAccount) {
    let sum = |ends: &[(&str, u64)]| ends.iter().map(|(_, count)| count).sum::<u64>();
    assert_eq!(fork.pages, sum(&ends(fork)), "{fork:?}");
    assert!(fork.before_exec <= booked(fork), "{fork:?}");
    let all = |of: fn(&Area) -> u64| fork.areas.iter().map(of).sum::<u64>();
    let given_up = fork.given_up;
    for (in_areas, in_all) in [
        (all(|area| area.pages), fork.pages),
        (
            all(|area| area.copied),
            fork.by_child + fork.by_parent + fork.by_others + fork.at_once,
        ),
        (all(|area| area.taken_over), fork.taken_over),
        (
            all(|area| area.given_up),
            given_up.exec + given_up.exit + given_up.munmap,
        ),
        (all(|area| area.still_shared), fork.still_shared),
        (all(|area| area.unknown), fork.unknown),
    ] {
        assert_eq!(in_areas, in_all, "{fork:?}");
    }
    for area in &fork.areas {
        let ends = area.copied + area.taken_over + area.given_up + area.still_shared + area.unknown;
        assert_eq!(area.pages, ends, "{fork:?}");
    }
}
