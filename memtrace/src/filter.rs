//! Which events are wanted: `--only`.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::trace::event::{EventKind, EventType, FaultKind};

/// A set of kinds of events. It is asked about each event, so it is a bit mask: a bit per fault kind, then one per type of
/// event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFilter(u64);

const _: () = assert!(FaultKind::COUNT + EventType::ALL.len() <= u64::BITS as usize);

impl EventFilter {
    /// Everything.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether it is among what was chosen.
    pub fn matches(self, what: &EventKind) -> bool {
        let bit = match what {
            EventKind::Fault(fault) => fault.kind as usize,
            other => FaultKind::COUNT + EventType::from(other) as usize,
        };
        self.0 & 1_u64 << bit != 0
    }

    /// Every name that can be given, with what it stands for.
    fn names() -> impl Iterator<Item = (&'static str, Self)> {
        let events = EventType::ALL.iter().filter(|event| !event.is_for_lab());
        let events = events.map(|event| match event {
            EventType::Fault => (event.name(), Self((1 << FaultKind::COUNT) - 1)),
            _ => (
                event.name(),
                Self(1 << (FaultKind::COUNT + *event as usize)),
            ),
        });
        let faults = FaultKind::ALL
            .into_iter()
            .map(|kind| (kind.name(), Self(1 << kind as u64)));
        events.chain(faults)
    }

    /// Reads one name for the command line; clap lists the right ones when it is wrong.
    pub fn parser() -> impl TypedValueParser<Value = Self> {
        PossibleValuesParser::new(Self::names().map(|(name, _)| name)).map(|chosen| {
            Self::names()
                .filter(|(name, _)| *name == chosen)
                .map(|(_, only)| only)
                .collect()
        })
    }
}

impl FromIterator<Self> for EventFilter {
    fn from_iter<T: IntoIterator<Item = Self>>(parts: T) -> Self {
        Self(parts.into_iter().fold(0, |bits, Self(part)| bits | part))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::output::samples;
    use crate::trace::event::Fault;

    fn fault(kind: FaultKind) -> EventKind {
        EventKind::Fault(Fault {
            kind,
            ..samples::fault()
        })
    }

    /// One of each but faults.
    fn others() -> Vec<EventKind> {
        let story = samples::story().into_iter().map(|event| event.what);
        let mut others: Vec<EventKind> = Vec::new();
        for what in story.filter(|what| what.name() != "fault") {
            if !others.iter().any(|other| other.name() == what.name()) {
                others.push(what);
            }
        }
        others
    }

    fn only(names: &[&str]) -> EventFilter {
        let chosen = EventFilter::names()
            .filter(|(name, _)| names.contains(name))
            .map(|(_, only)| only);
        chosen.collect()
    }

    #[test]
    fn an_event_is_wanted_by_its_name_alone() {
        let events = others();
        let types = EventType::ALL.iter().filter(|event| !event.is_for_lab());
        let missing: Vec<_> = types
            .map(|event| event.name())
            .filter(|name| *name != "fault" && events.iter().all(|event| event.name() != *name))
            .collect();
        assert!(missing.is_empty(), "without a sample: {missing:?}");
        for wanted in &events {
            let only = only(&[wanted.name()]);
            for event in &events {
                assert_eq!(
                    only.matches(event),
                    event.name() == wanted.name(),
                    "{} of {only:?}",
                    event.name()
                );
            }
            assert!(
                FaultKind::ALL
                    .into_iter()
                    .all(|kind| !only.matches(&fault(kind))),
                "{}",
                wanted.name()
            );
        }
    }

    #[test]
    fn a_fault_is_wanted_by_its_kind_or_as_a_fault() {
        for wanted in FaultKind::ALL {
            let one = only(&[wanted.name()]);
            for kind in FaultKind::ALL {
                assert_eq!(
                    one.matches(&fault(kind)),
                    kind == wanted,
                    "{kind:?} of {wanted:?}"
                );
            }
            assert!(only(&["fault"]).matches(&fault(wanted)), "{wanted:?}");
            assert!(
                !others().iter().any(|event| one.matches(event)),
                "{wanted:?}"
            );
        }
        assert!(!others().iter().any(|event| only(&["fault"]).matches(event)));
    }

    #[test]
    fn several_add_up_and_all_is_all() {
        let some = only(&["exec", "cow-copy"]);
        assert!(some.matches(&fault(FaultKind::CowCopy)));
        assert!(!some.matches(&fault(FaultKind::CowReuse)));
        let named: Vec<_> = others()
            .iter()
            .filter(|event| some.matches(event))
            .map(EventKind::name)
            .collect();
        assert_eq!(named, ["exec"]);
        assert!(others().iter().all(|event| EventFilter::ALL.matches(event)));
    }

    #[test]
    fn no_name_means_two_things() {
        let names: Vec<_> = EventFilter::names().map(|(name, _)| name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
