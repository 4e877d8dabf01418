//! Which events are wanted: `--only`.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::trace::event::{FaultKind, What};

/// A set of kinds of events. It is asked about each event, so it is a bit mask: a bit per fault kind, then one per
/// other event at its place in [`What::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only(u32);

impl Only {
    /// Everything.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether it is among what was chosen.
    pub const fn wants(self, what: &What) -> bool {
        self.0 & 1 << Self::bit(what) != 0
    }

    const fn bit(what: &What) -> usize {
        let place = match what {
            What::Fault(fault) => return fault.kind as usize,
            What::Clone(_) => 1,
            What::Exec(_) => 2,
            What::Exit(_) => 3,
            What::Brk(_) => 4,
            What::Mmap(_) => 5,
            What::Munmap(_) => 6,
            What::Mprotect(_) => 7,
            What::Mremap(_) => 8,
            What::Madvise(_) => 9,
            What::Lost(_) => 10,
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
            .map(|kind| (kind.name(), Self(1 << kind as u32)));
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
    use crate::trace::event::{
        Access, Address, Brk, By, Clone, Exec, Exit, Fault, Lost, Madvise, Mmap, Mode, Mprotect,
        Mremap, Range, Region, Returned, Shared,
    };

    const NOWHERE: Address = Address(0);

    fn fault(kind: FaultKind) -> What {
        What::Fault(Fault {
            addr: NOWHERE,
            ip: NOWHERE,
            access: Access::Read,
            mode: Mode::User,
            kind,
            region: Region::Anon,
            part: None,
            file: None,
            offset: None,
            page_size: 4096,
            pfn_before: None,
            pfn_after: None,
            counted: None,
            signal: None,
            detail: None,
            late: 0,
        })
    }

    /// One of each, in the order of [`What::NAMES`].
    fn others() -> Vec<What> {
        let (addr, len, ret) = (NOWHERE, 0, 0);
        let shared = Shared {
            mm: false,
            files: false,
            fs: false,
            sighand: false,
            signal: false,
            nsproxy: false,
            cred: false,
            io: false,
            sysvsem: false,
        };
        vec![
            What::Clone(Clone {
                call: "fork",
                thread: false,
                child_pid: 0,
                child_tid: 0,
                flags: vec![],
                exit_signal: None,
                shared,
                followed: true,
            }),
            What::Exec(Exec {
                file: String::new(),
                exe: None,
                args: vec![],
                truncated: false,
                old_tid: None,
            }),
            What::Exit(Exit {
                code: None,
                signal: None,
                thread: false,
            }),
            What::Brk(Brk {
                old: addr,
                new: addr,
            }),
            What::Mmap(Mmap {
                addr,
                len,
                prot: vec![],
                flags: vec![],
                file: None,
                offset: None,
                ret: Returned::Address(addr),
                by: By::Call,
                region: None,
            }),
            What::Munmap(Range { addr, len, ret }),
            What::Mprotect(Mprotect {
                addr,
                len,
                prot: vec![],
                ret,
            }),
            What::Mremap(Mremap {
                addr,
                old_len: len,
                len,
                flags: vec![],
                ret: Returned::Address(addr),
            }),
            What::Madvise(Madvise {
                addr,
                len,
                advice: "".into(),
                ret,
            }),
            What::Lost(Lost {
                count: 0,
                by_kind: [].into(),
            }),
        ]
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
