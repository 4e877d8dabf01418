//! F8: after a fork the child's memory is the parent's.

use super::code;
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Fault, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "F8",
    short: "after fork both have the same physical memory",
    book: "After fork parent and child have two virtual address spaces, but the physical memory behind them is the \
           same: the child's code, data and stack are those of the parent.",
    experiment: "A program writes to a page of its data, one of its stack and one of its heap, and forks. The child \
                 runs on without writing to them, and says so; then it writes to all three. The fault of such a write \
                 shows which frame (physical page) the child had until then. Code is not written to: there the \
                 child's first step in it shows the frame.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/memory.c: copy_present_ptes - gives the child the same frames, write-protected on both sides",
        "kernel/fork.c: dup_mmap - goes through the parent's mappings",
        "proc_pid_pagemap(5): how to look at frame numbers from outside",
    ],
    method: Method::Experiment {
        program: "shares",
        judge,
    },
};

/// A page of one part of memory: the faults that show the frame of each side.
struct Page<'a> {
    part: &'static str,
    parent: (&'a Event, u64),
    child: (&'a Event, u64),
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the fork")?;
    let child = seen.mark("child has not written")?;
    let written = seen.mark("child has written")?;

    let mut pages = vec![code_page(seen, before, child)?];
    for part in ["data", "stack", "heap"] {
        pages.push(written_page(seen, part, [before, child, written])?);
    }

    let mut evidence = Evidence::default();
    for page in &pages {
        let how = match page.part {
            "code" => "the first step of each in a page of code",
            _ => {
                "the parent's write before the fork, and the child's write long after it, \"frame A -> B\": it had A until then"
            }
        };
        evidence.say(format!("{}: {how}:", page.part));
        evidence.event(page.parent.0).event(page.child.0);
    }
    let same = |page: &Page| page.parent.1 == page.child.1;
    for page in &pages {
        let (in_parent, in_child) = (before.frame(page.part)?, child.frame(page.part)?);
        // The page of code that both stepped into need not be the one that the program names.
        let named = page.part == "code"
            || (in_parent, in_child) == (Some(page.parent.1), Some(page.child.1));
        evidence.agree(
            (in_parent == in_child) == same(page) && named,
            format!(
                "/proc/PID/pagemap showed the {} in {} for the parent before the fork, and in {} for the child \
                 before its write, as the faults do",
                page.part,
                shown(in_parent),
                shown(in_child)
            ),
        )?;
    }

    let equal = pages.iter().filter(|page| same(page)).count();
    let figure = format!("{equal} of {} parts in the same frame", pages.len());
    match equal {
        0 => evidence.decide(
            Verdict::Refuted,
            figure,
            "The child had other frames than its parent before it had written anything.",
        ),
        _ if equal == pages.len() => evidence.decide(
            Verdict::Confirmed,
            figure,
            "The same virtual address led to the same frame in both, and nothing was copied until somebody wrote.",
        ),
        _ => evidence.decide(
            Verdict::Qualified,
            figure,
            "Some of the child's memory was in its parent's frames before any write, and some was not.",
        ),
    }
}

fn shown(frame: Option<u64>) -> String {
    frame.map_or_else(
        || "no frame".to_owned(),
        |frame| format!("frame {frame:#x}"),
    )
}

/// A page of code that both have stepped into.
fn code_page<'a>(seen: &'a Observed, before: &Mark, child: &Mark) -> Result<Page<'a>, Undecided> {
    let of_parent = code::frames(seen, before.pid, 0, before.ts);
    let of_child = code::frames(seen, child.pid, before.ts, child.ts);
    let programs_own = |fault: &Fault| fault.part.is_none();
    of_child
        .iter()
        .filter_map(|(page, (frame, event, fault))| {
            let (parents, first, _) = of_parent.get(page)?;
            Some((!programs_own(fault), (*first, *parents), (*event, *frame)))
        })
        // The program's own code is better to look at than a library's.
        .min_by_key(|(library, ..)| *library)
        .map(|(_, parent, child)| Page {
            part: "code",
            parent,
            child,
        })
        .ok_or_else(|| {
            Undecided::because("no page of code was seen into which parent and child both stepped")
        })
}

/// A page that the parent wrote before the fork and the child after it.
fn written_page<'a>(
    seen: &'a Observed,
    part: &'static str,
    [before, child, written]: [&Mark; 3],
) -> Result<Page<'a>, Undecided> {
    let address = before.value(part)?;
    let parent = seen
        .faults_at(before.pid, address)
        .filter(|(event, _)| event.ts < before.ts)
        .filter_map(|(event, fault)| Some((event, fault.pfn_after?)))
        .last();
    let child = seen
        .faults_at(child.pid, address)
        .filter(|(event, fault)| {
            (child.ts..written.ts).contains(&event.ts)
                && matches!(fault.kind, FaultKind::CowCopy | FaultKind::CowReuse)
        })
        .find_map(|(event, fault)| Some((event, fault.pfn_before?)));
    match (parent, child) {
        (Some(parent), Some(child)) => Ok(Page {
            part,
            parent,
            child,
        }),
        (None, _) => Err(Undecided::because(format!(
            "the parent's first write to its {part} was not seen"
        ))),
        (_, None) => Err(Undecided::because(format!(
            "the child's write to the {part} was not seen"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::Region};

    const PARTS: [(&str, u64); 4] = [
        ("code", 0x1000),
        ("data", 0x2000),
        ("heap", 0x3000),
        ("stack", 0x4000),
    ];

    /// The parent, 1, has the parts in the frames 11 to 14, the child, 2, before its write in these.
    fn story(childs: [u64; 4]) -> Observed {
        let mut story = Story::default();
        let parents = [11, 12, 13, 14];
        for (at, (part, address)) in PARTS.into_iter().enumerate() {
            let fault = story.fault(1, address, FaultKind::ZeroFill, 0, parents[at]);
            if part == "code" {
                fault.region = Region::Text;
            }
        }
        story.mark(1, "before the fork", &PARTS).frames(&parents);
        story
            .fault(2, 0x1000, FaultKind::FileMap, 0, childs[0])
            .region = Region::Text;
        story
            .mark(2, "child has not written", &PARTS)
            .frames(&childs);
        for (at, (_, address)) in PARTS.into_iter().enumerate().skip(1) {
            story.fault(2, address, FaultKind::CowCopy, childs[at], 20);
        }
        story.mark(2, "child has written", &PARTS);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |childs| judge(&story(childs)).expect("decided").verdict;
        assert_eq!(verdict([11, 12, 13, 14]), Verdict::Confirmed);
        assert_eq!(verdict([11, 12, 13, 24]), Verdict::Qualified);
        assert_eq!(verdict([21, 12, 13, 14]), Verdict::Qualified);
        assert_eq!(verdict([21, 22, 23, 24]), Verdict::Refuted);
    }

    #[test]
    fn what_was_not_seen_leaves_it_open() {
        for (pid, address) in [(1, 0x3000), (2, 0x3000), (2, 0x1000)] {
            let mut seen = story([11, 12, 13, 14]);
            let unseen = seen
                .faults_at(pid, address)
                .next()
                .map(|(event, _)| event.ts);
            seen.events.retain(|event| Some(event.ts) != unseen);
            assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
        }
    }

    #[test]
    fn pagemap_must_agree() {
        for mark in 0..2 {
            let mut seen = story([11, 12, 13, 14]);
            seen.marks[mark].snapshot.frames.insert(0x2000, Some(99));
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
