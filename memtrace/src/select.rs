//! Which events are wanted: `--only`.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::trace::event::{FaultKind, What};

/// A set of kinds of events. It is asked about each event, so it is a bit mask: a bit per fault kind, then one per
/// other event at its place in [`What::NAMES`], and a last one for those that only the lab gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only(u64);

const _: () = assert!(FaultKind::COUNT + What::NAMES.len() < u64::BITS as usize);

impl Only {
    /// Everything.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether it is among what was chosen.
    pub const fn wants(self, what: &What) -> bool {
        self.0 & 1_u64 << Self::bit(what) != 0
    }

    const fn bit(what: &What) -> usize {
        let place = match what {
            What::Fault(fault) => return fault.kind as usize,
            What::Clone(_) => 1,
            What::Cloned(_) => 2,
            What::Task(_) => 3,
            What::Share(_) => 4,
            What::Unshare(_) => 5,
            What::Exec(_) => 6,
            What::Failed(_) => 7,
            What::Exit(_) => 8,
            What::Brk(_) => 9,
            What::Mmap(_) => 10,
            What::Munmap(_) => 11,
            What::Mprotect(_) => 12,
            What::Mremap(_) => 13,
            What::Madvise(_) => 14,
            What::Shmat(_) => 15,
            What::Shmdt(_) => 16,
            What::RemapFilePages(_) => 17,
            What::Mlock(_) => 18,
            What::Munlock(_) => 19,
            What::Mseal(_) => 20,
            What::Lost(_) => 21,
            What::Born(_) | What::Runs(_) | What::Rests(_) | What::Return(_) => 22,
        };
        FaultKind::COUNT + place
    }

    /// Every name that can be given, with what it stands for.
    fn names() -> impl Iterator<Item = (&'static str, Self)> {
        let events = What::NAMES
            .into_iter()
            .enumerate()
            .map(|(place, name)| match name {
                "fault" => (name, Self((1 << FaultKind::COUNT) - 1)),
                _ => (name, Self(1 << (FaultKind::COUNT + place))),
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
        assert_eq!(events.len() + 1, What::NAMES.len());
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
