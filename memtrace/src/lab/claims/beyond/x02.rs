//! X2: demand paging.

use std::collections::BTreeSet;

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{EventKind, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "X2",
    short: "mapped memory costs nothing until it is touched",
    book: "Demand paging: when a program asks for memory, the kernel only notes that it may use these addresses. A page \
           of them gets a frame, a page of physical memory, when it is touched for the first time, by a page fault.",
    experiment: "A program maps 64 MiB of memory, and stores a byte in 16 places, 4 MiB apart from each other.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/vma.c: __mmap_region (in older kernels mmap_region in mm/mmap.c) - notes a mapping, and that is all",
        "mm/memory.c: do_anonymous_page - gives a frame to a page that is touched for the first time",
        "mmap(2), proc_pid_status(5): VmSize against VmRSS",
    ],
    method: Method::Experiment {
        program: "demand",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let (before, mapped, touched) = (
        seen.mark("before")?,
        seen.mark("mapped")?,
        seen.mark("touched")?,
    );
    let pages: Vec<_> = mapped.pages().iter().map(|(page, _)| *page).collect();
    let first = *pages
        .first()
        .ok_or_else(|| Undecided::because("the program named no pages"))?;
    let mut evidence = Evidence::default();

    let mapping = seen.events.iter().find(|event| match &event.what {
        EventKind::Mmap(mmap) => {
            (before.ts..mapped.ts).contains(&event.ts)
                && (mmap.addr.0..mmap.addr.0 + mmap.len).contains(&first)
        }
        _ => false,
    });
    let mapping = mapping.ok_or_else(|| Undecided::because("the call of mmap was not seen"))?;
    let status =
        |mark: &Mark, what: &str| mark.snapshot.status.get(what).copied().unwrap_or_default();
    let grew = |what| status(mapped, what).saturating_sub(status(before, what));
    evidence.say("The memory was mapped:").event(mapping);
    evidence.say(format!(
        "By /proc/PID/status the program's addresses (VmSize) became {} KiB more by that, and the memory in use (VmRSS) \
         {} KiB.",
        grew("VmSize"),
        grew("VmRSS")
    ));

    let early = seen.faults_in(&pages, before, mapped).count();
    let faults: Vec<_> = seen.faults_in(&pages, mapped, touched).collect();
    let filled: BTreeSet<_> = faults
        .iter()
        .filter(|(_, fault)| fault.kind == FaultKind::ZeroFill && fault.pfn_before.is_none())
        .map(|(_, fault)| fault.addr.0 >> 12)
        .collect();
    evidence.say(format!(
        "{} of the {} pages were touched for the first time by a page fault that found no frame and gave one. The first \
         three and the last:",
        filled.len(),
        pages.len()
    ));
    for (event, _) in faults.iter().take(3).chain(faults.iter().skip(3).last()) {
        evidence.event(event);
    }

    let there = mapped
        .pages()
        .iter()
        .filter(|(_, frame)| frame.is_some())
        .count();
    evidence.agree(
        there + filled.len() == pages.len(),
        format!(
            "/proc/PID/pagemap shows {there} of the {} pages present before they were touched",
            pages.len()
        ),
    )?;
    let frames = touched.pages();
    evidence.agree(
        faults.iter().all(|(_, fault)| {
            let now = frames
                .iter()
                .find(|(page, _)| page >> 12 == fault.addr.0 >> 12);
            now.is_some_and(|(_, frame)| *frame == fault.pfn_after)
        }),
        "afterwards pagemap shows each of them in the very frame that its fault gave it",
    )?;

    let figure = format!("{} faults for {} touched pages", filled.len(), pages.len());
    if filled.len() == pages.len() && early == 0 {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "To map the memory cost no page. Each page came at its own first touch, and those that were not touched \
             never came.",
        )
    } else if filled.is_empty() {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "The pages were there before they were touched: no touch was a fault.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "Some pages came when they were touched; others were there before.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Address, By, Mmap, Returned},
    };

    /// Four pages; these are there from the beginning.
    fn story(there: &[u64]) -> Observed {
        let mut story = Story::default();
        let pages = [0x1000, 0x2000, 0x3000, 0x4000];
        story.mark(1, "before", &[]);
        let mmap = Mmap {
            addr: Address(0x1000),
            len: 0x4000,
            prot: Vec::new(),
            flags: Vec::new(),
            file: None,
            offset: None,
            ret: Returned::Address(Address(0x1000)),
            by: By::Call,
            region: None,
            resident: None,
            private: None,
        };
        story.event(1, EventKind::Mmap(mmap));
        let at = |page: u64| there.contains(&page).then_some(page >> 12);
        story.mark_pages(1, "mapped", &pages.map(|page| (page, at(page))));
        for page in pages.into_iter().filter(|page| !there.contains(page)) {
            story
                .fault(1, page, FaultKind::ZeroFill, 0, page >> 12)
                .pfn_before = None;
        }
        story.mark_pages(1, "touched", &pages.map(|page| (page, Some(page >> 12))));
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |there: &[u64]| judge(&story(there)).expect("decided").verdict;
        assert_eq!(verdict(&[]), Verdict::Confirmed);
        assert_eq!(verdict(&[0x2000]), Verdict::Qualified);
        assert_eq!(verdict(&[0x1000, 0x2000, 0x3000, 0x4000]), Verdict::Refuted);
    }

    #[test]
    fn pagemap_must_agree() {
        for (mark, frame) in [(1, Some(7)), (2, None)] {
            let mut seen = story(&[]);
            seen.marks[mark].snapshot.frames.insert(0x2000, frame);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
