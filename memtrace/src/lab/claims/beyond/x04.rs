//! X4: the zero page.

use std::collections::BTreeSet;

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Access, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "X4",
    short: "fresh memory that is only read is one zero page",
    book: "Memory that was never written reads as zero. While it is only read, the kernel need not give it any frame: \
           all such pages are mapped to one page of zeros, for everybody. The first write takes a frame of its own.",
    experiment: "A program maps eight pages, reads a byte of each, and then writes to the first of them.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/memory.c: do_anonymous_page - a read maps the zero page, a write takes a zeroed folio",
        "mm/memory.c: wp_page_copy - a write over the zero page: there is nothing to copy, only zeros to give",
        "arch/x86/kernel/head_64.S: empty_zero_page - it is a part of the kernel itself",
    ],
    method: Method::Experiment {
        program: "zero",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let (mapped, read, written) = (
        seen.mark("mapped")?,
        seen.mark("read")?,
        seen.mark("written")?,
    );
    let pages: Vec<_> = mapped.pages().iter().map(|(page, _)| *page).collect();
    let mut evidence = Evidence::default();

    let reads: Vec<_> = seen
        .faults_in(&pages, mapped, read)
        .filter(|(_, fault)| fault.access == Access::Read && fault.pfn_after.is_some())
        .collect();
    if reads.len() != pages.len() {
        return Err(Undecided::because(format!(
            "{} faults were seen for the first reads of {} pages",
            reads.len(),
            pages.len()
        )));
    }
    let frames: BTreeSet<_> = reads
        .iter()
        .filter_map(|(_, fault)| fault.pfn_after)
        .collect();
    evidence.say(format!(
        "The reads of {} pages led to {} frame{}. The first three, and the last:",
        pages.len(),
        frames.len(),
        if frames.len() == 1 { "" } else { "s" }
    ));
    for (event, _) in reads.iter().take(3).chain(reads.last()) {
        evidence.event(event);
    }
    evidence.agree(
        read.pages()
            .iter()
            .zip(&reads)
            .all(|((_, frame), (_, fault))| *frame == fault.pfn_after),
        "/proc/PID/pagemap shows the same frames",
    )?;

    let write = seen
        .faults_in(&pages[..1], read, written)
        .find(|(_, fault)| fault.access == Access::Write);
    let fresh = write.is_some_and(|(_, fault)| {
        matches!(fault.kind, FaultKind::CowZero | FaultKind::ZeroFill)
            && fault.pfn_after != fault.pfn_before
    });
    match write {
        Some((event, _)) => evidence.say("The write to the first page:").event(event),
        None => evidence.say("The write to the first page was no fault."),
    };
    let after = written.pages();
    let others_stay = after[1..] == read.pages()[1..];
    let moved = after[0].1 != read.pages()[0].1;
    evidence.agree(
        moved == fresh && others_stay,
        format!(
            "pagemap shows {} for the first page then, and what it showed before for the others",
            if fresh {
                "another frame"
            } else {
                "the same frame"
            }
        ),
    )?;

    let figure = format!(
        "{} pages read: {} frame{}",
        pages.len(),
        frames.len(),
        if frames.len() == 1 { "" } else { "s" }
    );
    if frames.len() == 1 && fresh {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "All pages were mapped to one frame as long as they were only read. The write took a frame of its own, and \
             only for the page that it fell in. Nothing was copied: what a fresh page must have are zeros.",
        )
    } else if frames.len() == pages.len() {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "Each page got a frame of its own when it was read.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            if fresh {
                "Pages that were only read had more than one frame, though fewer than there were pages."
            } else {
                "The pages were in one frame while they were read, but the write took no other one."
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    const PAGES: [u64; 4] = [0x1000, 0x2000, 0x3000, 0x4000];

    /// The frames that the reads led to, and the first page's frame after the write.
    fn story(frames: [u64; 4], write: u64) -> Observed {
        let mut story = Story::default();
        story.mark_pages(1, "mapped", &PAGES.map(|page| (page, None)));
        let mut pages = Vec::new();
        for (page, frame) in PAGES.into_iter().zip(frames) {
            let fault = story.fault(1, page, FaultKind::ZeroRead, 0, frame);
            (fault.access, fault.pfn_before) = (Access::Read, None);
            pages.push((page, Some(frame)));
        }
        story.mark_pages(1, "read", &pages);
        if write != frames[0] {
            story.fault(1, PAGES[0], FaultKind::CowZero, frames[0], write);
        }
        pages[0].1 = Some(write);
        story.mark_pages(1, "written", &pages);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |frames, write| judge(&story(frames, write)).expect("decided").verdict;
        assert_eq!(verdict([5; 4], 9), Verdict::Confirmed);
        assert_eq!(verdict([5, 5, 6, 6], 9), Verdict::Qualified);
        assert_eq!(verdict([5; 4], 5), Verdict::Qualified);
        assert_eq!(verdict([5, 6, 7, 8], 9), Verdict::Refuted);
    }

    #[test]
    fn pagemap_must_agree() {
        for (mark, page) in [(1, PAGES[1]), (2, PAGES[0]), (2, PAGES[3])] {
            let mut seen = story([5; 4], 9);
            seen.marks[mark]
                .snapshot
                .frames
                .insert(page, (page != PAGES[0]).then_some(77).or(Some(5)));
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
