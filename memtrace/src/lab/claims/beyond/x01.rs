//! X1: how near a stack can grow to what lies below it.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Events, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "X1",
    short: "a stack can grow to the mapping below it",
    book: "mmap(2) on MAP_GROWSDOWN, the flag of stacks: a touch of the page below the mapping makes it grow by a page. \
           \"This growth can be repeated until the mapping grows to within a page of the high end of the next lower \
           mapping, at which point touching the 'guard' page will result in a SIGSEGV signal\".",
    experiment: "A child process makes such a mapping at the upper end of some free room, and a mapping that can be \
                 written at the lower end. Then it touches page after page, downwards, until that fails. A second child \
                 does the same above a mapping that nobody may access.",
    expected: &[Verdict::Qualified],
    read: &[
        "mm/vma.c: expand_downwards (in older kernels in mm/mmap.c) - refuses to grow nearer than stack_guard_gap to what \
         can be accessed",
        "Documentation/admin-guide/kernel-parameters.txt: stack_guard_gap - its size in pages, 256 by default",
        "CVE-2017-1000364, the \"Stack Clash\" - why it is no longer a single page",
    ],
    method: Method::Experiment {
        program: "gap",
        judge,
    },
};

const PAGE: u64 = 4096;
/// What "within a page" leaves free, in pages.
const WITHIN: u64 = 1;

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let writable = gap(seen, &mut evidence, "above one that can be written")?;
    let guard = gap(seen, &mut evidence, "above one that nobody may access")?;
    let figure = format!("gap {writable} pages; above PROT_NONE {guard}");
    match (writable <= WITHIN, guard <= WITHIN) {
        (true, true) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "Both grew until there was no more than a page between them and the mapping below.",
        ),
        (false, false) => evidence.decide(
            Verdict::Refuted,
            figure,
            "The kernel let neither grow so near to the mapping below.",
        ),
        (false, true) => evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "Below a stack the kernel keeps a gap, here of {} KiB, to memory that can be used: a function with large \
                 local variables could step over a single page, and write into what is below. There is nothing to \
                 write to in a mapping that nobody may access, so no gap is kept above it, and only there the manual's \
                 sentence holds.",
                writable * PAGE / 1024
            ),
        ),
        (true, false) => evidence.decide(
            Verdict::Qualified,
            figure,
            "It is as the manual says above memory that can be used, but not above memory that nobody may access.",
        ),
    }
}

/// The free pages between what has grown and what is below it.
fn gap(seen: &Observed, evidence: &mut Evidence, name: &str) -> Result<u64, Undecided> {
    let start = seen.mark(name)?;
    let (below, top) = (start.value("below")?, start.value("top")?);
    let room = below + PAGE..top + PAGE;
    let faults: Vec<_> = seen
        .faults()
        .filter(|(event, fault)| {
            event.pid == start.pid && event.ts > start.ts && room.contains(&fault.addr.0)
        })
        .collect();
    let grown: Vec<_> = faults
        .iter()
        .filter(|(_, fault)| fault.kind == FaultKind::ZeroFill)
        .collect();
    let (Some(first), Some(last)) = (grown.first(), grown.last()) else {
        return Err(Undecided::because(
            "no touch of the growing mapping was seen",
        ));
    };
    let lowest = grown
        .iter()
        .map(|(_, fault)| fault.addr.0)
        .min()
        .unwrap_or(top)
        & !(PAGE - 1);
    evidence
        .say(format!(
            "The mapping {name}, whose end is at {:#x}: {} pages came to be there as they were touched. The first and the last \
             of them:",
            room.start,
            grown.len()
        ))
        .event(first.0)
        .event(last.0);
    match faults
        .iter()
        .find(|(_, fault)| fault.kind == FaultKind::Invalid)
    {
        Some((event, _)) => evidence.say("The next touch was refused:").event(event),
        None => evidence.say("No touch was refused."),
    };
    let pages = (lowest - room.start) / PAGE;
    let end = end(seen, start)?;
    let mapping = end.mapping(lowest).map(|mapping| mapping.start);
    evidence.agree(
        mapping == Some(lowest),
        format!(
            "/proc/PID/maps shows the mapping from {lowest:#x} on: {pages} pages are free below it"
        ),
    )?;
    Ok(pages)
}

/// Where the child stopped.
fn end<'a>(seen: &'a Observed, start: &Mark) -> Result<&'a Mark, Undecided> {
    let mut marks = seen.marks("refused").chain(seen.marks("reached"));
    marks
        .find(|mark| mark.pid == start.pid)
        .ok_or_else(|| Undecided::because("the child did not get so far"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{observed::Mapping, story::Story};

    /// Room of 16 pages; so many of them stay free.
    fn story(free: [u64; 2]) -> Observed {
        let mut story = Story::default();
        let (below, top) = (0x10_0000, 0x11_0000);
        let names = [
            "above one that can be written",
            "above one that nobody may access",
        ];
        for ((pid, name), free) in (2..).zip(names).zip(free) {
            story.mark(pid, name, &[("below", below), ("top", top)]);
            let lowest = below + PAGE + free * PAGE;
            let mut at = top;
            while at >= lowest {
                story.fault(pid, at, FaultKind::ZeroFill, 0, at >> 12);
                at -= PAGE;
            }
            if free > 0 {
                story.fault(pid, at, FaultKind::Invalid, 0, 0);
            }
            let end = if free > 0 { "refused" } else { "reached" };
            story.mark(pid, end, &[]).maps = vec![Mapping {
                start: lowest,
                end: top + PAGE,
                ..Mapping::default()
            }];
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let finding = |free| judge(&story(free)).expect("decided");
        let today = finding([8, 0]);
        assert_eq!(today.verdict, Verdict::Qualified);
        assert_eq!(today.figure, "gap 8 pages; above PROT_NONE 0");
        assert_eq!(finding([1, 0]).verdict, Verdict::Confirmed);
        assert_eq!(finding([1, 8]).verdict, Verdict::Qualified);
        assert_eq!(finding([8, 8]).verdict, Verdict::Refuted);
    }

    #[test]
    fn maps_must_agree() {
        let mut seen = story([8, 0]);
        seen.marks[1].snapshot.maps[0].start += PAGE;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
