//! F10: without an exec parent and child share the code for good.

use super::code;
use crate::trace::event::Events;
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::FaultKind,
};

pub const CLAIM: Claim = Claim {
    id: "F10",
    short: "without exec the code stays shared for good",
    book: "If the child does not exec, data and stack part from the parent's as they are written, but the code segment \
           stays shared: the code of the two is the same.",
    experiment: "A program forks; the child goes on with the same program, writes to data, stack and heap, and ends \
                 without an exec. For each page of code that both came to (the program's own and the libraries') the \
                 frames of the two are compared, up to the end.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/memory.c: vma_needs_copy - fork doesn't even copy the page tables of such mappings",
        "mm/filemap.c: filemap_map_pages - maps the pages of the file that are in the page cache",
        "mm/memory.c: do_cow_fault - what a write to a private file page would do",
    ],
    method: Method::Experiment {
        program: "shares",
        judge,
    },
};

/// Pairs of events that are shown.
const SHOWN: usize = 3;

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the fork")?;
    let child = seen.mark("child has not written")?;
    let child_at_end = seen.mark("child has written")?;
    let parent_at_end = seen.mark("parent at the end")?;
    if seen.execs().any(|(event, _)| event.pid == child.pid) {
        return Err(Undecided::because("the child did exec"));
    }

    let of_parent = code::frames(seen, before.pid, 0, u64::MAX);
    let of_child = code::frames(seen, child.pid, 0, u64::MAX);
    let both: Vec<_> = of_child
        .iter()
        .filter_map(|(page, child)| Some((of_parent.get(page)?, child)))
        .collect();
    if both.is_empty() {
        return Err(Undecided::because(
            "no page of code was seen into which parent and child both stepped",
        ));
    }
    let (same, other): (Vec<_>, Vec<_>) =
        both.iter().partition(|(parent, child)| parent.0 == child.0);
    // A copy by either: then its later frame is another one.
    let copies: Vec<_> = seen
        .faults()
        .filter(|(event, fault)| {
            [before.pid, child.pid].contains(&event.pid)
                && code::is_code(fault)
                && matches!(fault.kind, FaultKind::CowCopy | FaultKind::FileCow)
        })
        .collect();

    let mut evidence = Evidence::default();
    let shown = if other.is_empty() { &same } else { &other };
    evidence.say(format!(
        "Both came to {} pages of code. In each pair the parent's fault is the first and the child's the second; the \
         frames are what to compare:",
        both.len()
    ));
    // The program's own code first.
    let mut shown: Vec<_> = shown.iter().collect();
    shown.sort_by_key(|(_, (_, _, fault))| fault.part.is_some());
    for (parent, child) in shown.into_iter().take(SHOWN) {
        evidence.event(parent.1).event(child.1);
    }
    if let Some((event, _)) = copies.first() {
        evidence
            .say("A page of code was written to, and so copied:")
            .event(event);
    }

    let code = |mark: &Mark| mark.frame("code");
    let frames = [
        code(before)?,
        code(child)?,
        code(child_at_end)?,
        code(parent_at_end)?,
    ];
    let one_frame = frames[0].is_some() && frames.iter().all(|frame| *frame == frames[0]);
    let shared = other.is_empty() && copies.is_empty();
    let page = before.value("code")? >> 12;
    let differs = other
        .iter()
        .any(|(parent, _)| parent.2.addr.0 >> 12 == page)
        || copies.iter().any(|(_, fault)| fault.addr.0 >> 12 == page);
    evidence.agree(
        one_frame != differs,
        format!(
            "/proc/PID/pagemap was asked four times for the page of main(), before the fork and up to the end, in \
             the parent and in the child; it showed {} frame, as the faults do",
            if one_frame { "one and the same" } else { "more than one" }
        ),
    )?;

    let figure = format!("{} of {} code pages in one frame", same.len(), both.len());
    if shared {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "Wherever both ran code they ran it from the same frame, to the end: it is the page cache's copy of the \
             file, which every process that runs the program uses. (Only a write could change that, as a debugger's \
             breakpoint is; code isn't writable, so none comes by accident.)",
        )
    } else if same.is_empty() {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "Parent and child ran from different frames everywhere.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "Most code stayed in one frame, but not every page of it: some was copied.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Part, Region},
    };

    const MAIN: u64 = 0x1000;
    const LIBRARY: u64 = 0x8000;

    /// The parent has frame 11 for the program's code and 12 for the library's, the child these.
    fn story(childs: [u64; 2]) -> Story {
        let mut story = Story::default();
        let step = |story: &mut Story, pid, frames: [u64; 2]| {
            story
                .fault(pid, MAIN, FaultKind::FileMap, 0, frames[0])
                .region = Region::Text;
            let fault = story.fault(pid, LIBRARY, FaultKind::FileMap, 0, frames[1]);
            (fault.region, fault.part) = (Region::Lib, Some(Part::Text));
        };
        step(&mut story, 1, [11, 12]);
        let code = [("code", MAIN)];
        story.mark(1, "before the fork", &code).frames(&[11]);
        story.birth(1, 2, None);
        step(&mut story, 2, childs);
        for name in ["child has not written", "child has written"] {
            story.mark(2, name, &code).frames(&childs[..1]);
        }
        story.exit(2, Some(0), None);
        story.mark(1, "parent at the end", &code).frames(&[11]);
        story
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |childs| judge(&story(childs).observed()).expect("decided").verdict;
        assert_eq!(verdict([11, 12]), Verdict::Confirmed);
        assert_eq!(verdict([11, 22]), Verdict::Qualified);
        assert_eq!(verdict([21, 22]), Verdict::Refuted);

        let mut copied = story([11, 12]);
        let fault = copied.fault(1, LIBRARY, FaultKind::CowCopy, 12, 30);
        (fault.region, fault.part) = (Region::Lib, Some(Part::Text));
        assert_eq!(
            judge(&copied.observed()).expect("decided").verdict,
            Verdict::Qualified
        );
    }

    #[test]
    fn without_a_common_page_it_is_open() {
        let mut seen = story([11, 12]).observed();
        let child = seen.marks[1].pid;
        seen.events.retain(|event| event.pid != child);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn pagemap_must_agree() {
        for mark in 0..4 {
            let mut seen = story([11, 12]).observed();
            seen.marks[mark].snapshot.frames.insert(MAIN, Some(99));
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
        let mut seen = story([21, 12]).observed();
        for mark in &mut seen.marks {
            mark.snapshot.frames.insert(MAIN, Some(11));
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
