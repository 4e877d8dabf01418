//! F9: a write after a fork copies one page, not the segment.

use crate::{
    lab::{
        claim::{Claim, Evidence, Finding, Method, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::FaultKind,
};

pub const CLAIM: Claim = Claim {
    id: "F9",
    short: "the first write copies the whole segment",
    book: "After a fork parent and child use the same memory. When either writes to a segment, \
           the child gets its own physical copy of that segment.",
    experiment: "A program has three neighbouring pages of data, and forks. The child writes to the \
                 first page and ends; then the parent writes to the second.",
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

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the fork")?;
    let child = seen.mark("child has written")?;
    let parent = seen.mark("parent has written")?;
    let (first, second, third) = (
        before.value("first")?,
        before.value("second")?,
        before.value("third")?,
    );
    let mut evidence = Evidence::default();

    let since = before.ts;
    let copies: Vec<_> = [first, second, third]
        .into_iter()
        .filter_map(|page| {
            seen.faults_at(child.pid, page)
                .find(|(event, fault)| event.ts > since && fault.kind == FaultKind::CowCopy)
        })
        .collect();
    for (event, _) in &copies {
        evidence.event(event);
    }
    let reuse = seen
        .faults_at(before.pid, second)
        .find(|(event, fault)| event.ts > child.ts && fault.kind == FaultKind::CowReuse);
    if let Some((event, _)) = reuse {
        evidence
            .say("When the child was gone, the parent's write took its page over as it was:")
            .event(event);
    }

    // pagemap must tell the same story.
    let frames = |mark: &crate::lab::observed::Mark| -> Result<[Option<u64>; 3], Undecided> {
        Ok([
            mark.frame("first")?,
            mark.frame("second")?,
            mark.frame("third")?,
        ])
    };
    let (old, new) = (frames(before)?, frames(child)?);
    let changed = (0..3).filter(|&page| old[page] != new[page]).count();
    evidence.agree(
        changed == copies.len(),
        format!(
            "/proc/PID/pagemap shows other frames for {changed} of the child's three pages, the trace \
             shows {} copies",
            copies.len()
        ),
    )?;
    evidence.agree(
        reuse.is_none() || parent.frame("second")? == old[1],
        "/proc/PID/pagemap shows the same frame for the parent's second page before and after its write",
    )?;

    let figure = format!("{} of 3 pages copied", copies.len());
    match (copies.len(), reuse) {
        (0, _) => evidence.decide(
            Verdict::Refuted,
            figure,
            "The child's write copied nothing.",
        ),
        (3, _) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "One write to one page gave the child its own copy of all the pages of the segment.",
        ),
        (_, None) => evidence.decide(
            Verdict::Refuted,
            figure,
            "A write copies one page. And the last owner did not keep its page.",
        ),
        (_, Some(_)) => evidence.decide(
            Verdict::Qualified,
            figure,
            "A write does give the writer its own copy, but of the one page that it falls in; the rest \
             of the segment stays shared. And who writes last copies nothing: it keeps the page.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    /// The child, 2, copies the pages with these numbers; the parent, 1, takes the second over if `reuse`.
    fn story(copied: &[u64], reuse: bool) -> Observed {
        let mut story = Story::default();
        let page = |number: u64| 0x1000 * (number + 1);
        let pages = [("first", page(0)), ("second", page(1)), ("third", page(2))];
        story
            .mark(1, "before the fork", &pages)
            .frames(&[10, 11, 12]);
        for &number in copied {
            story.fault(
                2,
                page(number),
                FaultKind::CowCopy,
                10 + number,
                20 + number,
            );
        }
        let frame = |number| if copied.contains(&number) { 20 } else { 10 } + number;
        story
            .mark(2, "child has written", &pages)
            .frames(&[frame(0), frame(1), frame(2)]);
        if reuse {
            story.fault(1, page(1), FaultKind::CowReuse, 11, 11);
        }
        story
            .mark(1, "parent has written", &pages)
            .frames(&[10, 11, 12]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict =
            |copied: &[u64], reuse| judge(&story(copied, reuse)).expect("decided").verdict;
        assert_eq!(verdict(&[0], true), Verdict::Qualified);
        assert_eq!(verdict(&[0, 1, 2], true), Verdict::Confirmed);
        assert_eq!(verdict(&[], true), Verdict::Refuted);
        assert_eq!(verdict(&[0], false), Verdict::Refuted);
    }

    #[test]
    fn pagemap_must_agree() {
        let mut seen = story(&[0], true);
        for frame in seen.marks[1].look.frames.values_mut() {
            *frame = Some(1);
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
