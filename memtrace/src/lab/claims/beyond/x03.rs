//! X3: fault-around.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Event, Events, Fault},
};

pub const CLAIM: Claim = Claim {
    id: "X3",
    short: "each page of a mapped file costs a page fault",
    book: "A mapped file is brought into the address space page by page: the first access to each page of it is a page \
           fault, which maps that page.",
    experiment: "A program writes 32 pages to a file, so that they are in the page cache, and maps the file twice, with \
                 MAP_PRIVATE. From the first mapping it reads a byte of each page, in order; to the other one it writes \
                 a byte of each page.",
    expected: &[Verdict::Qualified],
    read: &[
        "mm/memory.c: do_read_fault, do_fault_around - at a read, maps the pages around that are in the page cache",
        "mm/filemap.c: filemap_map_pages - finds them there",
        "mm/memory.c: do_cow_fault - a write to a private mapping: one page, which has to be copied",
        "/sys/kernel/debug/fault_around_bytes - how far around; 64 KiB by default",
    ],
    method: Method::Experiment {
        program: "around",
        judge,
    },
};

/// What one of the two mappings showed.
struct Phase<'a> {
    pages: usize,
    faults: Vec<(&'a Event, &'a Fault)>,
    /// Pages that were there when one had been accessed.
    after_one: usize,
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let read = phase(seen, &mut evidence, "read")?;
    let written = phase(seen, &mut evidence, "written")?;
    let (each_read, each_write) = (
        read.faults.len() == read.pages,
        written.faults.len() == written.pages,
    );
    let figure = format!(
        "{} pages: {} faults read, {} written",
        read.pages,
        read.faults.len(),
        written.faults.len()
    );
    match (each_read, each_write) {
        (true, true) => evidence.decide(Verdict::Confirmed, figure, "Each page cost a fault of its own, read or written."),
        (false, true) => evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "A write to a private page has to make a copy, and makes one for that page only. But a read just needs an \
                 entry in the page table, and the kernel fills in those of the neighbours at the same time if they are \
                 in the page cache: after the first byte was read, {} pages were mapped.",
                read.after_one
            ),
        ),
        (true, false) => evidence.decide(
            Verdict::Qualified,
            figure,
            "Each page that was read cost a fault; those that were written did not.",
        ),
        (false, false) => evidence.decide(Verdict::Refuted, figure, "One fault brought several pages, read or written."),
    }
}

fn phase<'a>(
    seen: &'a Observed,
    evidence: &mut Evidence,
    name: &str,
) -> Result<Phase<'a>, Undecided> {
    let [mapped, one, all] =
        ["mapped", "the first page", "all pages"].map(|step| seen.mark(&format!("{name}: {step}")));
    let (mapped, one, all) = (mapped?, one?, all?);
    let pages = mapped.pages();
    let faults: Vec<_> = seen
        .faults()
        .filter(|(event, fault)| {
            event.pid == mapped.pid
                && (mapped.ts..all.ts).contains(&event.ts)
                && pages
                    .iter()
                    .any(|(page, _)| page >> 12 == fault.addr.0 >> 12)
        })
        .collect();
    evidence.say(format!(
        "The {} pages of the mapping that was {name} cost {} faults. The first ones:",
        pages.len(),
        faults.len()
    ));
    for (event, _) in faults.iter().take(3) {
        evidence.event(event);
    }
    let present =
        |pages: &[(u64, Option<u64>)]| pages.iter().filter(|(_, frame)| frame.is_some()).count();
    let (after_one, after_all) = (one.pages(), all.pages());
    evidence.agree(
        present(&pages) == 0 && present(&after_all) == pages.len(),
        format!(
            "/proc/PID/pagemap shows no page of it at first, and all {} in the end",
            pages.len()
        ),
    )?;
    evidence.agree(
        faults.iter().filter(|(event, _)| event.ts > one.ts).all(|(_, fault)| {
            let page = after_one.iter().find(|(page, _)| page >> 12 == fault.addr.0 >> 12);
            page.is_some_and(|(_, frame)| frame.is_none())
        }),
        format!(
            "after the first page was {name}, pagemap shows {} of {} pages present; none of these cost a fault later",
            present(&after_one),
            pages.len()
        ),
    )?;
    Ok(Phase {
        pages: pages.len(),
        faults,
        after_one: present(&after_one),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::FaultKind};

    /// Eight pages; a fault brings so many of them, for reads and for writes.
    fn story(at_once: [usize; 2]) -> Observed {
        let mut story = Story::default();
        for (name, at_once) in ["read", "written"].into_iter().zip(at_once) {
            let pages: Vec<u64> = (1..=8).map(|number| number * 0x1000).collect();
            let mark = |story: &mut Story, step: &str, there: usize| {
                let frame = |at: usize| (at < there).then_some(at as u64 + 50);
                let pages: Vec<_> = pages
                    .iter()
                    .enumerate()
                    .map(|(at, page)| (*page, frame(at)))
                    .collect();
                story.mark_pages(1, &format!("{name}: {step}"), &pages);
            };
            mark(&mut story, "mapped", 0);
            for at in (0..8).step_by(at_once) {
                story
                    .fault(1, pages[at], FaultKind::FileMap, 0, at as u64 + 50)
                    .pfn_before = None;
                if at == 0 {
                    mark(&mut story, "the first page", at_once);
                }
            }
            mark(&mut story, "all pages", 8);
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let finding = |at_once| judge(&story(at_once)).expect("decided");
        let today = finding([4, 1]);
        assert_eq!(today.verdict, Verdict::Qualified);
        assert_eq!(today.figure, "8 pages: 2 faults read, 8 written");
        assert_eq!(finding([1, 1]).verdict, Verdict::Confirmed);
        assert_eq!(finding([1, 4]).verdict, Verdict::Qualified);
        assert_eq!(finding([2, 2]).verdict, Verdict::Refuted);
    }

    #[test]
    fn pagemap_must_agree() {
        for (mark, page, frame) in [
            (0, 0x1000, Some(1)),
            (1, 0x5000, Some(54)),
            (5, 0x1000, None),
        ] {
            let mut seen = story([4, 1]);
            seen.marks[mark].snapshot.frames.insert(page, frame);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
