//! Which events are wanted: `--only`.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::trace::event::{EventType, FaultKind, What};

/// A set of kinds of events. It is asked about each event, so it is a bit mask: a bit per fault kind, then one per type of
/// event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only(u64);

const _: () = assert!(FaultKind::COUNT + EventType::ALL.len() <= u64::BITS as usize);

impl Only {
    /// Everything.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether it is among what was chosen.
    pub fn wants(self, what: &What) -> bool {
        let bit = match what {
            What::Fault(fault) => fault.kind as usize,
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

impl FromIterator<Self> for Only {
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

    fn fault(kind: FaultKind) -> What {
        What::Fault(Fault {
            kind,
            ..samples::fault()
        })
    }

    /// One of each but faults.
    fn others() -> Vec<What> {
        let story = samples::story().into_iter().map(|event| event.what);
        let mut others: Vec<What> = Vec::new();
        for what in story.filter(|what| what.name() != "fault") {
            if !others.iter().any(|other| other.name() == what.name()) {
                others.push(what);
            }
        }
        others
    }

    fn only(names: &[&str]) -> Only {
        let chosen = Only::names()
            .filter(|(name, _)| names.contains(name))
            .map(|(_, only)| only);
        chosen.collect()
    }

    #[test]
    fn an_event_is_wanted_by_its_name_alone() {
        let events = others();
        assert_eq!(
            events.len() + 1,
            EventType::ALL
                .iter()
                .filter(|event| !event.is_for_lab())
                .count()
        );
        for wanted in &events {
            let only = only(&[wanted.name()]);
            for event in &events {
                assert_eq!(
                    only.wants(event),
                    event.name() == wanted.name(),
                    "{} of {only:?}",
                    event.name()
                );
            }
            assert!(
                FaultKind::ALL
                    .into_iter()
                    .all(|kind| !only.wants(&fault(kind))),
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
                    one.wants(&fault(kind)),
                    kind == wanted,
                    "{kind:?} of {wanted:?}"
                );
            }
            assert!(only(&["fault"]).wants(&fault(wanted)), "{wanted:?}");
            assert!(!others().iter().any(|event| one.wants(event)), "{wanted:?}");
        }
        assert!(!others().iter().any(|event| only(&["fault"]).wants(event)));
    }

    #[test]
    fn several_add_up_and_all_is_all() {
        let some = only(&["exec", "cow-copy"]);
        assert!(some.wants(&fault(FaultKind::CowCopy)));
        assert!(!some.wants(&fault(FaultKind::CowReuse)));
        let named: Vec<_> = others()
            .iter()
            .filter(|event| some.wants(event))
            .map(What::name)
            .collect();
        assert_eq!(named, ["exec"]);
        assert!(others().iter().all(|event| Only::ALL.wants(event)));
    }

    #[test]
    fn no_name_means_two_things() {
        let names: Vec<_> = Only::names().map(|(name, _)| name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
