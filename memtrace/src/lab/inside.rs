//! What the hooks tell the lab alone, for judges: births, turns on a CPU, and what calls return.

use super::{
    finding::{Evidence, Undecided},
    observed::{Mark, Observed},
};
use crate::trace::event::{
    BirthDetail, Clone, Event, EventKind, ObjectKind, Obtained, Return, Row, SwitchIn, SwitchOut,
};

/// Functions by which the kernel tells of a birth, and not those that make a task.
const TELLING: [&str; 6] = [
    "bpf_",
    "__bpf_",
    "__traceiter_",
    "__trace_",
    "trace_",
    "perf_",
];

impl Observed {
    /// More of the birth of a task.
    ///
    /// # Errors
    /// It was not seen.
    pub fn born(&self, tid: u32) -> Result<(&Event, &BirthDetail), Undecided> {
        self.events
            .iter()
            .find_map(|event| match &event.what {
                EventKind::BirthDetail(born) if born.child_tid == tid => Some((event, born)),
                _ => None,
            })
            .ok_or_else(|| Undecided::because(format!("how {tid} was made was not seen")))
    }

    /// The functions that were under way in the kernel at a birth, the innermost first.
    ///
    /// # Errors
    /// The kernel hides their names.
    pub fn callers(&self, born: &BirthDetail) -> Result<Vec<&str>, Undecided> {
        let names: Vec<_> = born
            .callers
            .iter()
            .filter_map(|caller| self.symbols.get(&caller.0))
            .map(String::as_str)
            .filter(|name| !TELLING.iter().any(|telling| name.starts_with(telling)))
            .collect();
        if names.is_empty() {
            return Err(Undecided::because(
                "the kernel hides the names of its functions in /proc/kallsyms (kernel.kptr_restrict), or keeps no \
                 stack of calls",
            ));
        }
        Ok(names)
    }

    /// When a thread got a CPU.
    pub fn runs(&self, tid: u32) -> impl DoubleEndedIterator<Item = (&Event, &SwitchIn)> {
        self.events
            .iter()
            .filter_map(move |event| match &event.what {
                EventKind::SwitchIn(runs) if event.tid == tid => Some((event, runs)),
                _ => None,
            })
    }

    /// When a thread left its CPU.
    pub fn rests(&self, tid: u32) -> impl Iterator<Item = (&Event, &SwitchOut)> {
        self.events
            .iter()
            .filter_map(move |event| match &event.what {
                EventKind::SwitchOut(rests) if event.tid == tid => Some((event, rests)),
                _ => None,
            })
    }

    /// What calls that make a task returned in a thread: in the child, or in the parent.
    pub fn returns(&self, tid: u32, in_child: bool) -> impl Iterator<Item = (&Event, &Return)> {
        self.events
            .iter()
            .filter_map(move |event| match &event.what {
                EventKind::Return(returned)
                    if event.tid == tid && returned.in_child == in_child =>
                {
                    Some((event, returned))
                }
                _ => None,
            })
    }
}

/// The parent's and the child's object of a kind.
///
/// # Errors
/// The birth doesn't tell.
pub fn row(clone: &Clone, kind: ObjectKind) -> Result<&Row, Undecided> {
    let row = clone.objects.get(kind);
    row.ok_or_else(|| Undecided::because(format!("the birth doesn't tell of {}", kind.name())))
}

/// Whether parent and child have one object of a kind for both.
///
/// # Errors
/// The birth doesn't tell.
pub fn shares(clone: &Clone, kind: ObjectKind) -> Result<bool, Undecided> {
    row(clone, kind).map(|row| row.got == Obtained::Shared)
}

/// kcmp(2) at all these marks must agree with what births show: of each kind, whether the objects are the same.
///
/// # Errors
/// It doesn't.
pub fn kcmp_agrees(
    evidence: &mut Evidence,
    marks: &[&Mark],
    shown: &[(ObjectKind, bool)],
) -> Result<(), Undecided> {
    const NAMES: [(ObjectKind, &str); 4] = [
        (ObjectKind::Mm, "VM"),
        (ObjectKind::Files, "FILES"),
        (ObjectKind::Fs, "FS"),
        (ObjectKind::Sighand, "SIGHAND"),
    ];
    for (kind, name) in NAMES {
        let Some((_, shown)) = shown.iter().find(|(of, _)| *of == kind) else {
            continue;
        };
        let found = marks
            .iter()
            .map(|mark| mark.snapshot.kcmp.get(name).copied());
        let Some(found) = found.collect::<Option<Vec<_>>>() else {
            continue;
        };
        evidence.agree(
            found.iter().all(|same| same == shown),
            format!(
                "kcmp(2) says of {}: {}, as the births do",
                kind.name(),
                if *shown {
                    "the same in both"
                } else {
                    "one for each"
                }
            ),
        )?;
    }
    Ok(())
}

/// Told by hand.
#[cfg(test)]
pub mod told {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Address, Both},
    };

    /// The parent's and the child's object are one, or not.
    pub fn row(kind: ObjectKind, shared: bool) -> (ObjectKind, Row) {
        let row = Row {
            parent: Some(1),
            child: Some(if shared { 1 } else { 2 }),
            asked: None,
            got: if shared {
                Obtained::Shared
            } else {
                Obtained::Own
            },
            note: None,
        };
        (kind, row)
    }

    impl Story {
        /// More of a birth. The functions are the innermost first.
        pub fn born(&mut self, parent: u32, child: u32, functions: &[&str]) -> &mut BirthDetail {
            let symbols = &mut self.seen().symbols;
            let mut address = |name: &&str| {
                let known = symbols.iter().find(|(_, known)| known == name);
                let address = known.map_or(symbols.len() as u64 + 1, |(address, _)| *address);
                symbols.insert(address, (*name).to_owned());
                Address(address)
            };
            let callers = functions.iter().map(&mut address).collect();
            let both = Both {
                parent: Some(parent),
                child: Some(child),
            };
            let born = BirthDetail {
                child_pid: child,
                child_tid: child,
                task: both,
                kernel_stack: both,
                callers,
            };
            match &mut self.event(parent, EventKind::BirthDetail(born)).what {
                EventKind::BirthDetail(born) => born,
                _ => unreachable!("it was made here"),
            }
        }

        /// A thread gets a CPU.
        pub fn runs(&mut self, pid: u32, tid: u32) -> &mut SwitchIn {
            let runs = SwitchIn {
                cpu: 0,
                task: Some(tid),
                kernel_stack: Some(tid),
                mm: Some(pid),
                tls: Address(0x7000 + u64::from(tid)),
                policy: Some("SCHED_OTHER".into()),
                nice: Some(0),
                rt_priority: 0,
            };
            match &mut self.thread_event(pid, tid, EventKind::SwitchIn(runs)).what {
                EventKind::SwitchIn(runs) => runs,
                _ => unreachable!("it was made here"),
            }
        }

        /// A thread leaves its CPU, as it waits for something.
        pub fn rests(&mut self, pid: u32, tid: u32) {
            let rests = SwitchOut {
                cpu: 0,
                runnable: false,
            };
            self.thread_event(pid, tid, EventKind::SwitchOut(rests));
        }

        /// A call that makes a task returns.
        pub fn returns(&mut self, tid: u32, in_child: bool, ret: i64, ip: u64) {
            let returned = Return {
                call: "clone".into(),
                in_child,
                ret,
                ip: Address(ip),
            };
            self.event(tid, EventKind::Return(returned));
        }
    }
}
