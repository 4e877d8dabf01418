//! X10: the kernel promises more memory than there is.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, EventKind, Events, Mmap, Returned},
};

pub const CLAIM: Claim = Claim {
    id: "X10",
    short: "a request for more memory than there is fails",
    book: "When a program asks for more memory than the machine has, the request is refused: mmap fails \
           with ENOMEM, malloc returns NULL. Memory that was granted is there.",
    experiment: "A program reads how much memory and swap the machine has, and asks with mmap for 1 GiB more \
                 than that; then for as much with MAP_NORESERVE; then three times for three quarters of what \
                 the machine has. It writes to one page of each mapping that it gets, and forks.",
    // What a kernel gives whose vm.overcommit_memory nobody has changed.
    expected: &[Verdict::Qualified],
    read: &[
        "mm/util.c: __vm_enough_memory - decides about a request by vm.overcommit_memory",
        "mm/mmap.c: mmap_region (since 6.13 in mm/vma.c) - asks it for private mappings that may be written",
        "kernel/fork.c: dup_mmap - asks it again for each such mapping of the child",
        "mm/oom_kill.c: out_of_memory - what happens when the promises cannot be kept",
        "Documentation/mm/overcommit-accounting.rst; man 5 proc_sys_vm",
    ],
    method: Method::Experiment {
        program: "promises",
        judge,
    },
};

/// What the program asked for.
struct Requests<'a> {
    /// More than there is.
    single: Vec<(&'a Event, &'a Mmap)>,
    /// As much with `MAP_NORESERVE`.
    unreserved: Vec<(&'a Event, &'a Mmap)>,
    /// Three quarters of what there is, several times.
    parts: Vec<(&'a Event, &'a Mmap)>,
}

impl<'a> Requests<'a> {
    fn of(seen: &'a Observed, before: &Mark, asked: &Mark) -> Result<Self, Undecided> {
        let find = |key: &str, unreserved: bool, count: usize| {
            let len = before.value(key)?;
            let requests: Vec<_> = seen
                .events
                .iter()
                .filter(|event| {
                    event.pid == before.pid && (before.ts..asked.ts).contains(&event.ts)
                })
                .filter_map(|event| match &event.what {
                    EventKind::Mmap(mmap) => Some((event, mmap)),
                    _ => None,
                })
                .filter(|(_, mmap)| mmap.len == len && has(mmap, "MAP_NORESERVE") == unreserved)
                .collect();
            if requests.len() == count {
                return Ok(requests);
            }
            Err(Undecided::because(format!(
                "{} of {count} requests for {len} bytes were seen",
                requests.len()
            )))
        };
        Ok(Self {
            single: find("too_much", false, 1)?,
            unreserved: find("too_much", true, 1)?,
            parts: find("most", false, 3)?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &'a Mmap> {
        let all = self
            .single
            .iter()
            .chain(&self.unreserved)
            .chain(&self.parts);
        all.map(|(_, mmap)| *mmap)
    }

    /// Bytes that were granted.
    fn promised(&self) -> u64 {
        let granted = self.all().filter(|mmap| is_granted(mmap));
        granted.map(|mmap| mmap.len).sum()
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before")?;
    let asked = seen.mark("asked")?;
    if before.value("limited")? != 0 {
        return Err(Undecided::because(
            "the address space of the program is limited (ulimit -v), and so is what it can ask for",
        ));
    }
    let all = before.value("all")?;
    let requests = Requests::of(seen, before, asked)?;
    let promised = requests.promised();
    let mut evidence = Evidence::default();
    evidence.say(format!(
        "The machine has {} MiB of memory and swap. {}",
        all >> 20,
        mode(before.value("mode")?)
    ));
    for (what, requests) in [
        ("At one time 1 GiB more than there is", &requests.single),
        ("As much with MAP_NORESERVE", &requests.unreserved),
        (
            "Three times three quarters of what there is",
            &requests.parts,
        ),
    ] {
        evidence.say(format!(
            "{what}: {} of {} granted.",
            granted(requests),
            requests.len()
        ));
        for (event, _) in requests {
            evidence.event(event);
        }
    }

    let used: u64 = seen
        .faults()
        .filter(|(event, fault)| {
            event.pid == before.pid
                && (before.ts..asked.ts).contains(&event.ts)
                && fault.pfn_before.is_none()
                && fault.pfn_after.is_some()
                && requests.all().any(|mmap| covers(mmap, fault.addr.0))
        })
        .map(|(_, fault)| fault.page_size)
        .sum();
    evidence.say(format!(
        "In all {} MiB were promised, which cost {} KiB of memory: the pages that were written to.",
        promised >> 20,
        used / 1024
    ));
    fork(seen, asked, &mut evidence);
    let size = asked
        .snapshot
        .status
        .get("VmSize")
        .copied()
        .unwrap_or_default()
        * 1024;
    evidence.agree(
        size >= promised,
        format!(
            "by VmSize in /proc/PID/status the process has {} MiB of addresses, those that were promised \
             among them",
            size >> 20
        ),
    )?;
    conclude(evidence, &requests, all)
}

/// The verdict, for a machine with `all` bytes.
fn conclude(evidence: Evidence, requests: &Requests, all: u64) -> Result<Finding, Undecided> {
    let promised = requests.promised();
    let figure = format!("{} GiB of {} promised", promised >> 30, all >> 30);
    if promised <= all {
        return evidence.decide(
            Verdict::Confirmed,
            figure,
            "Nothing was granted beyond what the machine has. A Linux as it comes is not so strict: so it is \
             with vm.overcommit_memory set to 2.",
        );
    }
    if requests.all().all(is_granted) {
        return evidence.decide(
            Verdict::Refuted,
            figure,
            "Not one request was refused, however large: memory is only looked for when a page is touched. A \
             Linux as it comes refuses what is obviously too much; it does not with vm.overcommit_memory set \
             to 1.",
        );
    }
    let mut why = String::new();
    if granted(&requests.single) == 0 {
        why += "A single request for more than the machine has was refused, so the claim has a point. ";
    }
    if granted(&requests.unreserved) > 0 {
        why += "But the same request with MAP_NORESERVE was granted. ";
    }
    let parts = requests.parts.iter().map(|(_, mmap)| *mmap);
    let together: u64 = parts
        .filter(|mmap| is_granted(mmap))
        .map(|mmap| mmap.len)
        .sum();
    if together > all {
        why += "And as each request is judged for itself, several that fit one by one were granted, though \
                together they do not. ";
    }
    why += "What the kernel promises is addresses; it looks for memory when a page is touched. If there is \
            none then, no call fails any more: the OOM killer ends a process.";
    evidence.decide(Verdict::Qualified, figure, why)
}

/// Tells whether the process could fork.
fn fork(seen: &Observed, asked: &Mark, evidence: &mut Evidence) {
    let mut births = seen.clones();
    let birth = births.find(|(event, _)| event.pid == asked.pid && event.ts > asked.ts);
    if let Some((event, _)) = birth {
        evidence
            .say(
                "The fork of this process, which promises all of that once more, was granted, too:",
            )
            .event(event);
    } else {
        evidence
            .say("The fork of this process, which promises all of that once more, was refused.");
    }
}

/// How many of these requests were granted.
fn granted(requests: &[(&Event, &Mmap)]) -> usize {
    requests.iter().filter(|(_, mmap)| is_granted(mmap)).count()
}

fn has(mmap: &Mmap, flag: &str) -> bool {
    mmap.flags.iter().any(|known| &**known == flag)
}

fn is_granted(mmap: &Mmap) -> bool {
    matches!(mmap.ret, Returned::Address(_))
}

fn covers(mmap: &Mmap, address: u64) -> bool {
    match mmap.ret {
        Returned::Address(start) => (start.0..start.0 + mmap.len).contains(&address),
        Returned::Error(_) => false,
    }
}

/// What `vm.overcommit_memory` is set to.
fn mode(mode: u64) -> String {
    match mode {
        0 => "vm.overcommit_memory is 0: the kernel is to refuse what is obviously too much."
            .to_owned(),
        1 => "vm.overcommit_memory is 1: the kernel is to refuse nothing.".to_owned(),
        2 => {
            "vm.overcommit_memory is 2: the kernel is to promise no more than its limit.".to_owned()
        }
        _ => "vm.overcommit_memory could not be read.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Address, By, FaultKind},
    };

    const ALL: u64 = 16 << 30;

    /// Which of the five requests are granted.
    fn story(granted: [bool; 5]) -> Observed {
        let mut story = Story::default();
        let (too_much, most) = (ALL + (1 << 30), ALL / 4 * 3);
        let values = [
            ("mode", 0),
            ("all", ALL),
            ("too_much", too_much),
            ("most", most),
            ("limited", 0),
        ];
        story.mark(1, "before", &values);
        let mut promised = 0;
        for (number, granted) in (0..).zip(granted) {
            let len = if number < 2 { too_much } else { most };
            let start = Address((number + 1) << 40);
            let mmap = Mmap {
                addr: start,
                len,
                prot: Vec::new(),
                flags: if number == 1 {
                    vec!["MAP_NORESERVE".into()]
                } else {
                    Vec::new()
                },
                file: None,
                offset: None,
                ret: if granted {
                    Returned::Address(start)
                } else {
                    Returned::Error(-12)
                },
                by: By::Call,
                region: None,
                resident: None,
                private: None,
            };
            story.event(1, EventKind::Mmap(mmap));
            if granted {
                promised += len;
                story
                    .fault(1, start.0, FaultKind::ZeroFill, 0, 7)
                    .pfn_before = None;
            }
        }
        let snapshot = story.mark(1, "asked", &[]);
        snapshot.status.insert("VmSize".to_owned(), promised / 1024);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |granted| judge(&story(granted)).expect("decided").verdict;
        assert_eq!(verdict([false, true, true, true, true]), Verdict::Qualified);
        assert_eq!(
            verdict([false, false, true, true, true]),
            Verdict::Qualified
        );
        assert_eq!(verdict([true; 5]), Verdict::Refuted);
        assert_eq!(verdict([false; 5]), Verdict::Confirmed);
        assert_eq!(
            verdict([false, false, true, false, false]),
            Verdict::Confirmed
        );
    }

    #[test]
    fn what_cannot_be_judged_is_not() {
        let mut seen = story([true; 5]);
        seen.events.remove(0);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
        let mut seen = story([true; 5]);
        seen.marks[0].values.insert("limited".to_owned(), 1);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn status_must_agree() {
        let mut seen = story([true; 5]);
        seen.marks[1].snapshot.status.insert("VmSize".to_owned(), 1);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
