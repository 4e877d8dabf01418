//! X12: a fork leaves out what it was told to leave out.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Fault, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "X12",
    short: "the child of a fork gets all of the memory",
    book: "A fork gives the child a copy of the whole address space of its parent.",
    experiment: "A program writes to three pages: one as usual, one with the advice MADV_WIPEONFORK, one \
                 with MADV_DONTFORK. It forks, and the child reads all three, that of MADV_DONTFORK last.",
    expected: &[Verdict::Qualified],
    read: &[
        "kernel/fork.c: dup_mmap - passes over mappings with VM_DONTCOPY, and copies no page tables for \
         those with VM_WIPEONFORK",
        "mm/madvise.c: madvise_vma_behavior - sets these flags",
        "man 2 madvise",
    ],
    method: Method::Experiment {
        program: "advice",
        judge,
    },
};

/// What a child found where its parent has a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The page: it could be read without a fault.
    Page,
    /// The mapping, but not the page: the kernel gave an empty one.
    Empty,
    /// Nothing: the access was refused.
    Nothing,
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the fork")?;
    let child = seen.mark("child")?;
    let (ended, _) = seen
        .exits()
        .find(|(event, _)| event.pid == child.pid)
        .ok_or_else(|| Undecided::because("the end of the child was not seen"))?;
    let mut evidence = Evidence::default();

    let advised = [
        ("usual", "The usual page"),
        ("wiped", "The page with MADV_WIPEONFORK"),
        ("left_out", "The page with MADV_DONTFORK"),
    ];
    let mut found = Vec::new();
    for (key, what) in advised {
        let (page, fault) = find(seen, child, before.value(key)?)?;
        found.push(page);
        evidence.say(format!(
            "{what}: {}",
            match page {
                Found::Page => "the child could read it: it was there.",
                Found::Empty =>
                    "the child has the mapping, but it was empty; the read found zeros:",
                Found::Nothing => "the child has nothing there; the read was refused:",
            }
        ));
        if let Some(event) = fault {
            evidence.event(event);
        }
        // What /proc says of the child before it has read anything.
        let shared = child.frame(key)?.is_some() && child.frame(key)? == before.frame(key)?;
        let mapped = child.mapping(before.value(key)?).is_some();
        evidence.agree(
            (shared, mapped)
                == match page {
                    Found::Page => (true, true),
                    Found::Empty => (false, true),
                    Found::Nothing => (false, false),
                },
            format!(
                "before the read /proc/PID/maps shows {} there, and /proc/PID/pagemap {}",
                if mapped {
                    "a mapping of the child's"
                } else {
                    "no mapping of the child's"
                },
                if shared {
                    "the same frame as the parent's"
                } else {
                    "no frame of the parent's"
                }
            ),
        )?;
    }
    if found.contains(&Found::Nothing) {
        evidence.say("That ended the child:").event(ended);
    }

    let copies = found.iter().filter(|page| **page == Found::Page).count();
    let figure = format!("{copies} of 3 pages are in the child");
    if copies == found.len() {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "The child had all three pages, whatever the advice.",
        )
    } else if found[0] != Found::Page {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "Not even the page that no advice was given about was in the child.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "So it is by default. But a program can keep memory out of its forks: with MADV_DONTFORK the child \
             does not have the mapping at all, and with MADV_WIPEONFORK it has an empty one, as one wants it \
             for keys and for the state of a random number generator.",
        )
    }
}

/// What a process finds at an address, by its first fault there.
fn find<'a>(
    seen: &'a Observed,
    child: &Mark,
    address: u64,
) -> Result<(Found, Option<&'a Event>), Undecided> {
    let mut faults = seen.faults_at(child.pid, address);
    let first: Option<(&Event, &Fault)> = faults.find(|(event, _)| event.ts > child.ts);
    let Some((event, fault)) = first else {
        return Ok((Found::Page, None));
    };
    let found = match fault.kind {
        FaultKind::ZeroRead | FaultKind::ZeroFill => Found::Empty,
        FaultKind::Invalid => Found::Nothing,
        // A processor that doesn't mark pages as used itself faults for that.
        FaultKind::Spurious => Found::Page,
        other => {
            return Err(Undecided::because(format!(
                "the child's read of {address:#x} led to a fault of another kind: {}",
                other.name()
            )));
        }
    };
    Ok((found, Some(event)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{observed::Mapping, story::Story};

    fn story(found: [Found; 3]) -> Observed {
        let mut story = Story::default();
        let pages = [("usual", 0x1000), ("wiped", 0x2000), ("left_out", 0x3000)];
        story.mark(1, "before the fork", &pages).frames(&[1, 2, 3]);
        let snapshot = story.mark(2, "child", &pages);
        for ((at, found), frame) in [0x1000, 0x2000, 0x3000].into_iter().zip(found).zip(1..) {
            if found == Found::Page {
                snapshot.frames.insert(at, Some(frame));
            }
            if found != Found::Nothing {
                snapshot.maps.push(Mapping {
                    start: at,
                    end: at + 0x1000,
                    ..Mapping::default()
                });
            }
        }
        for ((_, at), found) in pages.into_iter().zip(found) {
            let kind = match found {
                Found::Page => continue,
                Found::Empty => FaultKind::ZeroRead,
                Found::Nothing => FaultKind::Invalid,
            };
            story.fault(2, at, kind, 0, 9).pfn_before = None;
        }
        story.exit(2, None, Some(11));
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        use Found::{Empty, Nothing, Page};
        let verdict = |found| judge(&story(found)).expect("decided").verdict;
        assert_eq!(verdict([Page, Empty, Nothing]), Verdict::Qualified);
        assert_eq!(verdict([Page, Page, Nothing]), Verdict::Qualified);
        assert_eq!(verdict([Page; 3]), Verdict::Confirmed);
        assert_eq!(verdict([Empty, Empty, Nothing]), Verdict::Refuted);
    }

    #[test]
    fn proc_must_agree() {
        use Found::{Empty, Nothing, Page};
        for (at, frame) in [(0x1000, Some(7)), (0x2000, Some(2))] {
            let mut seen = story([Page, Empty, Nothing]);
            seen.marks[1].snapshot.frames.insert(at, frame);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
        let mut seen = story([Page, Empty, Nothing]);
        seen.marks[1].snapshot.maps.clear();
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }

    #[test]
    fn a_child_that_lives_decides_nothing() {
        let mut seen = story([Found::Page; 3]);
        seen.events.clear();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
