//! F13: what clone shares is what its flags say.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Both, Clone, Event, EventKind, ObjectKind, Obtained},
};

pub const CLAIM: Claim = Claim {
    id: "F13",
    short: "clone shares address space and open files fully",
    book: "clone copies half: only the process control block (task_struct) and the kernel stack are copied, the address \
           space and the open files are wholly shared with the parent.",
    experiment: "A program calls clone(2) without any flag that shares something, and then with each of these flags \
                 alone (CLONE_SIGHAND wants CLONE_VM, and CLONE_THREAD wants both). At each birth the trace compares \
                 the kernel's pointers of parent and child, to see which objects they share.",
    expected: &[Verdict::Qualified],
    read: &[
        "kernel/fork.c: copy_process - calls copy_mm, copy_files, copy_fs, copy_sighand, copy_signal, copy_io",
        "kernel/fork.c: copy_mm - with CLONE_VM takes the parent's address space, else copies it",
        "ipc/sem.c: copy_semundo - with CLONE_SYSVSEM shares the list of semaphore undos",
        "clone(2): what each flag shares; kcmp(2): how a program can look",
    ],
    method: Method::Experiment {
        program: "clones",
        judge,
    },
};

/// A kind of object, the flag that shares it, and its name for kcmp(2).
struct Part {
    kind: ObjectKind,
    flag: u64,
    flag_name: &'static str,
    kcmp: Option<&'static str>,
}

const fn part(
    kind: ObjectKind,
    flag: u64,
    flag_name: &'static str,
    kcmp: Option<&'static str>,
) -> Part {
    Part {
        kind,
        flag,
        flag_name,
        kcmp,
    }
}

/// include/uapi/linux/sched.h
const PARTS: [Part; 7] = [
    part(ObjectKind::Mm, 0x100, "CLONE_VM", Some("VM")),
    part(ObjectKind::Fs, 0x200, "CLONE_FS", Some("FS")),
    part(ObjectKind::Files, 0x400, "CLONE_FILES", Some("FILES")),
    part(ObjectKind::Sighand, 0x800, "CLONE_SIGHAND", Some("SIGHAND")),
    part(ObjectKind::Signal, 0x1_0000, "CLONE_THREAD", None),
    part(
        ObjectKind::Sysvsem,
        0x4_0000,
        "CLONE_SYSVSEM",
        Some("SYSVSEM"),
    ),
    part(ObjectKind::Io, 0x8000_0000, "CLONE_IO", Some("IO")),
];

/// What the two that the claim speaks of are.
const OF_THE_CLAIM: [ObjectKind; 2] = [ObjectKind::Mm, ObjectKind::Files];

/// A clone.
struct Case<'a> {
    flags: u64,
    event: &'a Event,
    clone: &'a Clone,
    mark: &'a Mark,
    /// Whether the kernel's `task_struct` and stack were others than the parent's, where that is known.
    own_task: Option<bool>,
}

impl Case<'_> {
    /// What the child got of a kind. Nothing where the parent has none either: there is nothing to share.
    fn got(&self, kind: ObjectKind) -> Option<Obtained> {
        let row = self.clone.objects.get(kind)?;
        row.parent.map(|_| row.got)
    }

    /// The flags by name.
    fn name(&self) -> String {
        let names: Vec<_> = PARTS
            .iter()
            .filter(|part| self.flags & part.flag != 0)
            .map(|part| part.flag_name)
            .collect();
        if names.is_empty() {
            "no flag".to_owned()
        } else {
            names.join("|")
        }
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut cases = Vec::new();
    for mark in seen.marks("cloned") {
        let (event, clone) = seen.birth(mark.value("kcmp")? as u32)?;
        cases.push(Case {
            flags: mark.value("flags")?,
            event,
            clone,
            mark,
            own_task: own_task(seen, clone.child_tid),
        });
    }
    for part in &PARTS {
        let with = cases.iter().any(|case| case.flags & part.flag != 0);
        let without = cases.iter().any(|case| case.flags & part.flag == 0);
        if !with || !without {
            return Err(Undecided::because(format!(
                "the program could not clone with and without {}",
                part.flag_name
            )));
        }
    }

    let mut evidence = Evidence::default();
    for case in &cases {
        evidence
            .say(format!("With {}, {}:", case.name(), case_in_words(case)))
            .event(case.event);
    }
    let own_tasks = cases.iter().all(|case| case.own_task == Some(true));
    if own_tasks {
        evidence.say("The task_struct and the kernel stack were the child's own in each case.");
    }
    let compared = check(&mut evidence, &cases)?;

    // With its flag shared, without it not: cell by cell of the table of cases and parts.
    let cells = || {
        cases.iter().flat_map(|case| {
            PARTS
                .iter()
                .filter_map(|part| Some((case.flags & part.flag != 0, case.got(part.kind)?)))
        })
    };
    let all = cells().count();
    let as_flagged = cells()
        .filter(|(flagged, got)| *flagged == (*got == Obtained::Shared))
        .count();
    let of_the_claim: Vec<_> = cases
        .iter()
        .flat_map(|case| OF_THE_CLAIM.map(|kind| case.got(kind) == Some(Obtained::Shared)))
        .collect();
    let figure = format!("{as_flagged} of {all} parts just as flagged");
    if of_the_claim.iter().all(|shared| *shared) {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "Address space and open files were shared each time, whatever the flags.",
        )
    } else if !of_the_claim.iter().any(|shared| *shared) {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "Address space and open files were never shared, whatever the flags.",
        )
    } else if as_flagged == all {
        let checked = if compared == 0 {
            ""
        } else {
            " kcmp(2) finds the same."
        };
        evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "clone shares neither half nor whole, but just what its flags say: each flag shares its own part, and \
                 without it the child gets a copy (of the semaphore undos: none). What the book describes is CLONE_VM \
                 with CLONE_FILES.{checked}"
            ),
        )
    } else {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "What was shared was sometimes that which the flags say, but not each time: so neither the book's rule \
             holds nor that of the flags.",
        )
    }
}

/// Whether a child's `task_struct` and kernel stack are its own.
fn own_task(seen: &Observed, child: u32) -> Option<bool> {
    let born = seen.events.iter().find_map(|event| match &event.what {
        EventKind::BirthDetail(born) if born.child_tid == child => Some(born),
        _ => None,
    })?;
    let differ = |both: &Both| Some(both.parent? != both.child?);
    Some(differ(&born.task)? && differ(&born.kernel_stack)?)
}

/// What the child shares, and what it has of its own.
fn case_in_words(case: &Case) -> String {
    let names = |wanted: Obtained| {
        let names: Vec<_> = PARTS
            .iter()
            .filter(|part| case.got(part.kind) == Some(wanted))
            .map(|part| part.kind.name())
            .collect();
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        }
    };
    let at_first = if PARTS
        .iter()
        .any(|part| case.got(part.kind) == Some(Obtained::None))
    {
        format!("; none at first: {}", names(Obtained::None))
    } else {
        String::new()
    };
    format!(
        "shared: {}; its own: {}{at_first}",
        names(Obtained::Shared),
        names(Obtained::Own)
    )
}

/// kcmp(2) must agree. How many pairs of objects it compared.
fn check(evidence: &mut Evidence, cases: &[Case]) -> Result<usize, Undecided> {
    let mut compared = 0;
    for case in cases {
        for part in &PARTS {
            let same = part.kcmp.and_then(|name| case.mark.snapshot.kcmp.get(name));
            let (Some(same), Some(got)) = (same, case.got(part.kind)) else {
                continue;
            };
            compared += 1;
            if *same != (got == Obtained::Shared) {
                return Err(Undecided::Contradiction(format!(
                    "with {} kcmp(2) and the kernel's pointers at the birth say the same of {}",
                    case.name(),
                    part.kind.name()
                )));
            }
        }
    }
    if compared == 0 {
        evidence.say("Not checked: kcmp(2) is not in this kernel.");
    } else {
        evidence.agree(
            true,
            format!("kcmp(2) compared {compared} pairs of objects, and each time found what the births show"),
        )?;
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{ByObject, Row},
    };

    /// The clones of the program; `shared` tells what the child gets of a part by the clone's flags.
    fn story(shared: impl Fn(u64, &Part) -> bool) -> Observed {
        let mut story = Story::default();
        let cases = [
            0,
            0x100,
            0x200,
            0x400,
            0x900,
            0x1_0900,
            0x4_0000,
            0x8000_0000,
        ];
        for (flags, child) in cases.into_iter().zip(2..) {
            let got = |part: &Part| {
                if shared(flags, part) {
                    Obtained::Shared
                } else {
                    Obtained::Own
                }
            };
            let row = |part: &Part| Row {
                parent: Some(1),
                child: Some(2),
                asked: None,
                got: got(part),
                note: None,
            };
            story.birth(1, child, None).objects =
                ByObject(PARTS.iter().map(|part| (part.kind, row(part))).collect());
            let snapshot = story.mark(1, "cloned", &[("flags", flags), ("kcmp", u64::from(child))]);
            snapshot.kcmp = PARTS
                .iter()
                .filter_map(|part| Some((part.kcmp?, shared(flags, part))))
                .collect();
        }
        story.observed()
    }

    fn as_flagged(flags: u64, part: &Part) -> bool {
        flags & part.flag != 0
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let decided = |shared: &dyn Fn(u64, &Part) -> bool| {
            let finding = judge(&story(shared)).expect("decided");
            (finding.verdict, finding.figure)
        };
        let (verdict, figure) = decided(&as_flagged);
        assert_eq!(verdict, Verdict::Qualified);
        assert_eq!(figure, "56 of 56 parts just as flagged");
        assert_eq!(decided(&|_, _| true).0, Verdict::Confirmed);
        assert_eq!(decided(&|_, _| false).0, Verdict::Refuted);
        let no_files = |flags, part: &Part| part.kind == ObjectKind::Mm && as_flagged(flags, part);
        assert_eq!(decided(&no_files).0, Verdict::Refuted);
    }

    #[test]
    fn a_flag_that_was_not_tried_leaves_it_open() {
        let mut seen = story(as_flagged);
        seen.marks.pop();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn kcmp_must_agree() {
        let mut seen = story(as_flagged);
        seen.marks[1].snapshot.kcmp.insert("VM", false);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
