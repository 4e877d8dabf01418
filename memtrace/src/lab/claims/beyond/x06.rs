//! X6: `MAP_POPULATE`.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Event, EventKind, Events},
};

pub const CLAIM: Claim = Claim {
    id: "X6",
    short: "MAP_POPULATE spares the page faults",
    book: "mmap(2): with MAP_POPULATE the call itself fills in the page tables of the new mapping. \"This will help to \
           reduce blocking on page faults later\".",
    experiment: "A program maps 32 pages and writes to each; then it maps 32 pages with MAP_POPULATE, and writes to each.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/gup.c: __mm_populate - walks the new mapping, and gets each page as if it were touched",
        "mm/util.c: vm_mmap_pgoff - calls it, when the mapping is made and its lock given back",
        "mmap(2), madvise(2): MADV_POPULATE_WRITE does it later",
    ],
    method: Method::Experiment {
        program: "populate",
        judge,
    },
};

/// What one of the mappings showed.
struct Mapping<'a> {
    pages: usize,
    /// Pages that were there before they were written.
    there: usize,
    faults: Vec<&'a Event>,
    pid: u32,
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let plain = mapping(seen, &mut evidence, "plain")?;
    let populated = mapping(seen, &mut evidence, "populated")?;
    // The kernel counts the faults that it takes for a program, too, though there is no exception.
    let account = seen
        .end
        .iter()
        .flat_map(|end| &end.processes)
        .find(|account| account.pid == populated.pid);
    if let Some(count) = account.and_then(|account| account.unobserved_by.get("mmap")) {
        evidence.say(format!(
            "By the kernel's own count of page faults it took {count} in mmap itself, where no program had touched \
             anything."
        ));
    }
    if plain.faults.is_empty() {
        return Err(Undecided::because(
            "here the pages of a plain mapping cost no faults, either: there are none to spare",
        ));
    }
    let figure = format!(
        "faults: plain {}, populated {}",
        plain.faults.len(),
        populated.faults.len()
    );
    let spared = populated.pages - populated.faults.len().min(populated.pages);
    if populated.faults.is_empty() {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "The pages were there when the call returned, and no write to them was a fault. The frames are not spared, \
             nor is the work: it is done at once, in the call, whether the pages will be used or not.",
        )
    } else if spared == 0 {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "Each page was a fault when it was written, as without the flag.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "Of {} pages it spared the faults of {spared}.",
                populated.pages
            ),
        )
    }
}

fn mapping<'a>(
    seen: &'a Observed,
    evidence: &mut Evidence,
    name: &str,
) -> Result<Mapping<'a>, Undecided> {
    let (mapped, written) = (
        seen.mark(&format!("{name}: mapped"))?,
        seen.mark(&format!("{name}: written"))?,
    );
    let pages = mapped.pages();
    let addresses: Vec<_> = pages.iter().map(|(page, _)| *page).collect();
    let first = *addresses
        .first()
        .ok_or_else(|| Undecided::because("the program named no pages"))?;
    let call = seen.events.iter().rfind(|event| match &event.what {
        EventKind::Mmap(mmap) => {
            event.ts < mapped.ts && (mmap.addr.0..mmap.addr.0 + mmap.len).contains(&first)
        }
        _ => false,
    });
    let call = call.ok_or_else(|| Undecided::because("the call of mmap was not seen"))?;
    let faults: Vec<_> = seen
        .faults()
        .filter(|(event, fault)| {
            event.pid == mapped.pid
                && (mapped.ts..written.ts).contains(&event.ts)
                && addresses
                    .iter()
                    .any(|page| page >> 12 == fault.addr.0 >> 12)
        })
        .map(|(event, _)| event)
        .collect();
    let there = pages.iter().filter(|(_, frame)| frame.is_some()).count();
    evidence
        .say(format!(
            "The {name} mapping was made, and the writes to its {} pages were {} faults:",
            pages.len(),
            faults.len()
        ))
        .event(call);
    for event in faults.iter().take(3) {
        evidence.event(event);
    }
    let mapping = Mapping {
        pages: pages.len(),
        there,
        faults,
        pid: mapped.pid,
    };
    let touched_late = mapping.faults.iter().filter(|event| match &event.what {
        EventKind::Fault(fault) => pages
            .iter()
            .any(|(page, frame)| page >> 12 == fault.addr.0 >> 12 && frame.is_some()),
        _ => false,
    });
    evidence.agree(
        touched_late.count() == 0 && (mapping.there == mapping.pages) == mapping.faults.is_empty(),
        format!(
            "/proc/PID/pagemap shows {} of the {} pages present before they were written",
            mapping.there, mapping.pages
        ),
    )?;
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Address, By, FaultKind, Mmap, Returned},
    };

    /// Four pages in each mapping; with `MAP_POPULATE` so many are there.
    fn story(populated: u64) -> Observed {
        let mut story = Story::default();
        for (name, base, there) in [("plain", 0x10_0000, 0), ("populated", 0x20_0000, populated)] {
            let mmap = Mmap {
                addr: Address(base),
                len: 0x4000,
                prot: Vec::new(),
                flags: Vec::new(),
                file: None,
                offset: None,
                ret: Returned::Address(Address(base)),
                by: By::Call,
                region: None,
                resident: None,
                private: None,
            };
            story.event(1, EventKind::Mmap(mmap));
            let pages: Vec<_> = (0..4)
                .map(|at| (base + at * 0x1000, (at < there).then_some(at)))
                .collect();
            story.mark_pages(1, &format!("{name}: mapped"), &pages);
            for (page, _) in pages.iter().filter(|(_, frame)| frame.is_none()) {
                story.fault(1, *page, FaultKind::ZeroFill, 0, 9).pfn_before = None;
            }
            story.mark_pages(1, &format!("{name}: written"), &pages);
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let finding = |populated| judge(&story(populated)).expect("decided");
        let today = finding(4);
        assert_eq!(
            (today.verdict, today.figure.as_str()),
            (Verdict::Confirmed, "faults: plain 4, populated 0")
        );
        assert_eq!(finding(3).verdict, Verdict::Qualified);
        assert_eq!(finding(0).verdict, Verdict::Refuted);
    }

    #[test]
    fn pagemap_must_agree() {
        for (populated, frame) in [(4, None), (0, Some(5))] {
            let mut seen = story(populated);
            seen.marks[2].snapshot.frames.insert(0x20_1000, frame);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
