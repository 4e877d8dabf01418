//! F9: a write after a fork copies one page, not the segment.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{CowCause, Event, Fault, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "F9",
    short: "the first write copies the whole segment",
    book: "After a fork parent and child use the same memory. When either writes to a segment, \
           the child gets its own physical copy of that segment.",
    experiment: "A program has four neighbouring pages of data, and forks. The child writes to the first; then the \
                 parent, while the child lives, to the second; then, when the child is gone, to the third. Nobody \
                 writes to the fourth.",
    expected: &[Verdict::Qualified],
    read: &[
        "mm/memory.c: do_wp_page - decides between a copy and taking the page over",
        "mm/memory.c: wp_page_copy - copies the one page",
        "mm/memory.c: wp_can_reuse_anon_folio - whether anybody else has the page",
    ],
    method: Method::Experiment {
        program: "writes",
        judge,
    },
};

const PAGES: [&str; 4] = ["for_child", "for_parent", "for_last", "for_none"];

/// The copies that one of the two made of the four pages between two marks.
fn copies<'a>(
    seen: &'a Observed,
    pid: u32,
    from: &Mark,
    to: &Mark,
) -> Result<Vec<(&'a Event, &'a Fault)>, Undecided> {
    let mut copies = Vec::new();
    for page in PAGES {
        let of_page = seen
            .faults_at(pid, from.value(page)?)
            .find(|(event, fault)| {
                (from.ts..to.ts).contains(&event.ts) && fault.kind == FaultKind::CowCopy
            });
        copies.extend(of_page);
    }
    Ok(copies)
}

/// The frames of the four pages, by pagemap.
fn frames(mark: &Mark) -> Result<Vec<Option<u64>>, Undecided> {
    PAGES.into_iter().map(|page| mark.frame(page)).collect()
}

/// In how many of the four pages two lists differ.
fn changed(old: &[Option<u64>], new: &[Option<u64>]) -> usize {
    old.iter().zip(new).filter(|(old, new)| old != new).count()
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the fork")?;
    let child = seen.mark("child has written")?;
    let parent = seen.mark("parent has written")?;
    let child_at_end = seen.mark("child at its end")?;
    let last = seen.mark("last has written")?;

    let mut evidence = Evidence::default();
    let by_child = copies(seen, child.pid, before, child)?;
    let by_parent = copies(seen, before.pid, child, parent)?;
    for (who, copies) in [("child", &by_child), ("parent", &by_parent)] {
        evidence.say(format!(
            "The {who}'s one write copied {} of the four pages:",
            copies.len()
        ));
        for (event, _) in copies {
            evidence.event(event);
        }
    }
    let at_last = seen
        .faults_at(before.pid, before.value("for_last")?)
        .find(|(event, _)| (child_at_end.ts..last.ts).contains(&event.ts));
    if let Some((event, _)) = at_last {
        evidence
            .say("When the child was gone the parent wrote to the third page; look at the frame before and after:")
            .event(event);
    }

    // pagemap must tell the same story.
    let old = frames(before)?;
    let in_child = changed(&old, &frames(child)?);
    evidence.agree(
        in_child == by_child.len(),
        format!(
            "/proc/PID/pagemap showed other frames for {in_child} of the child's four pages after its write, as many \
             as it had copied"
        ),
    )?;
    let in_parent = changed(&old, &frames(parent)?);
    evidence.agree(
        in_parent == by_parent.len(),
        format!(
            "/proc/PID/pagemap showed other frames for {in_parent} of the parent's four pages after its own write, as \
             many as it had copied; so the child's write had changed none of them"
        ),
    )?;
    let kept = changed(&frames(parent)?, &frames(last)?) == 0;
    let reused = matches!(at_last, Some((_, fault)) if fault.kind == FaultKind::CowReuse);
    evidence.agree(
        kept == reused,
        format!(
            "/proc/PID/pagemap showed {} for the third page after the last write, as the fault does",
            if kept { "the same frame" } else { "another frame" }
        ),
    )?;

    // Something in the kernel may hold a page for a moment, and then it must be copied all the same.
    let held = matches!(at_last, Some((_, fault))
        if fault.cause.as_ref().is_some_and(|cause| cause.cause == CowCause::Reference));
    let (by_child, by_parent) = (by_child.len(), by_parent.len());
    let figure = format!("a write copied {by_child} of 4 pages");
    match (by_child, by_parent) {
        (4, _) | (_, 4) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "One write to one page gave the writer its own copy of all the pages.",
        ),
        (1, 1) if reused || held => evidence.decide(
            Verdict::Qualified,
            figure,
            if reused {
                "A write does give the writer its own copy, be it the child or the parent, but of the one page that it \
                 falls in; the rest of the segment stays shared. And who writes last copies nothing: it keeps the page."
            } else {
                "A write does give the writer its own copy, be it the child or the parent, but of the one page that it \
                 falls in; the rest of the segment stays shared. (The last owner would have kept its page without a \
                 copy, but this time something in the kernel held the page just then.)"
            },
        ),
        (1, 1) => evidence.decide(
            Verdict::Refuted,
            figure,
            "A write copied one page, not the segment, and the last owner of a page did not even keep it.",
        ),
        _ => evidence.decide(
            Verdict::Refuted,
            figure,
            "The writes copied neither the segment nor just the page that they fell in.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::Cause};

    /// The child, 2, and the parent, 1, copy the pages with these numbers; last the parent takes over or copies.
    fn story(by_child: &[usize], by_parent: &[usize], last: FaultKind) -> Observed {
        let mut story = Story::default();
        let page = |number: usize| 0x1000 * (number as u64 + 1);
        let pages = [0, 1, 2, 3].map(|number| (PAGES[number], page(number)));
        let old = [10, 11, 12, 13];
        let write = |story: &mut Story, pid, copied: &[usize]| {
            let mut new = old;
            for &number in copied {
                new[number] = 20 + number as u64;
                story.fault(
                    pid,
                    page(number),
                    FaultKind::CowCopy,
                    old[number],
                    new[number],
                );
            }
            new
        };
        story.mark(1, "before the fork", &pages).frames(&old);
        let childs = write(&mut story, 2, by_child);
        story.mark(2, "child has written", &pages).frames(&childs);
        let mut parents = write(&mut story, 1, by_parent);
        story.mark(1, "parent has written", &pages).frames(&parents);
        story.mark(2, "child at its end", &pages).frames(&childs);
        if last == FaultKind::CowCopy {
            parents[2] = 30;
        }
        story.fault(1, page(2), last, 12, parents[2]);
        story.mark(1, "last has written", &pages).frames(&parents);
        story.observed()
    }

    const REUSE: FaultKind = FaultKind::CowReuse;

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |by_child: &[usize], by_parent: &[usize], last| {
            judge(&story(by_child, by_parent, last))
                .expect("decided")
                .verdict
        };
        assert_eq!(verdict(&[0], &[1], REUSE), Verdict::Qualified);
        assert_eq!(verdict(&[0, 1, 2, 3], &[1], REUSE), Verdict::Confirmed);
        assert_eq!(verdict(&[], &[1], REUSE), Verdict::Refuted);
        assert_eq!(verdict(&[0], &[], REUSE), Verdict::Refuted);
        assert_eq!(verdict(&[0, 1], &[1], REUSE), Verdict::Refuted);
        assert_eq!(verdict(&[0], &[1], FaultKind::CowCopy), Verdict::Refuted);
    }

    #[test]
    fn a_page_that_the_kernel_holds_is_no_rule() {
        let mut seen = story(&[0], &[1], FaultKind::CowCopy);
        for event in &mut seen.events {
            if let crate::trace::event::EventKind::Fault(fault) = &mut event.what
                && fault.pfn_after == Some(30)
            {
                fault.cause = Some(Box::new(Cause {
                    cause: CowCause::Reference,
                    fork: None,
                    sharers: Vec::new(),
                    sharer_count: 0,
                    map_count: None,
                }));
            }
        }
        assert_eq!(judge(&seen).expect("decided").verdict, Verdict::Qualified);
    }

    #[test]
    fn pagemap_must_agree() {
        for mark in [1, 2, 4] {
            let mut seen = story(&[0], &[1], REUSE);
            seen.marks[mark].snapshot.frames.insert(0x4000, Some(99));
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
