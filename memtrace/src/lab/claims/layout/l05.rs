//! L5: how large the stack can be.

use super::{
    extent::{Extent, PAGE, size},
    l04::in_maps,
};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, FaultKind, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L5",
    short: "the stack's size is fixed at 2 MiB",
    book: "The top of the stack and its size are fixed: it has 2 MiB.",
    experiment: "A child calls a function that calls itself without end, with a page of local variables each time, until \
                 the kernel kills it. A second child does the same with half the limit of the stack's size.",
    expected: &[Verdict::Refuted],
    read: &[
        "mm/mmap.c: acct_stack_growth (mm/vma.c in newer kernels) - compares the stack's size with RLIMIT_STACK",
        "fs/exec.c: setup_arg_pages - the stack's first size",
        "man 2 getrlimit: RLIMIT_STACK",
        "man 3 pthread_attr_setstacksize - other threads' stacks are mappings of a fixed size, and 2 MiB is their default \
         on some machines",
    ],
    method: Method::Experiment {
        program: "recursion",
        judge,
    },
};

/// What the book says.
const BOOK: u64 = 2 << 20;

/// A child that has overflown its stack.
struct Overflow<'a> {
    limit: u64,
    /// Bytes of the stack, from its end down to the lowest page that was touched.
    used: u64,
    /// Bytes that it would have had with the page whose touch killed.
    wanted: u64,
    last: &'a Event,
    killing: &'a Event,
    exit: &'a Event,
}

fn overflow<'a>(seen: &'a Observed, mark: &Mark, end: u64) -> Result<Overflow<'a>, Undecided> {
    let after = |event: &Event| event.pid == mark.pid && event.ts > mark.ts;
    let from_end = |address: u64| end.saturating_sub(address & !(PAGE - 1));
    let (last, used) = seen
        .faults()
        .filter(|(event, fault)| {
            after(event) && fault.region == Region::Stack && fault.kind != FaultKind::Invalid
        })
        .map(|(event, fault)| (event, from_end(fault.addr.0)))
        .max_by_key(|(_, used)| *used)
        .ok_or_else(|| Undecided::because("no growth of a child's stack was seen"))?;
    let (killing, wanted) = seen
        .faults()
        .filter(|(event, fault)| {
            after(event) && fault.kind == FaultKind::Invalid && fault.signal.is_some()
        })
        .map(|(event, fault)| (event, from_end(fault.addr.0)))
        .next()
        .ok_or_else(|| Undecided::because("the fault that killed a child was not seen"))?;
    let (exit, _) = seen
        .exits()
        .find(|(event, exit)| after(event) && exit.signal.is_some())
        .ok_or_else(|| Undecided::because("a child was not killed"))?;
    Ok(Overflow {
        limit: mark.value("limit")?,
        used,
        wanted,
        last,
        killing,
        exit,
    })
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let start = seen.mark("start")?;
    let stack = Extent::of(seen, start.pid, start.value("here")?, start.ts)?;
    let first = stack.end - stack.start;
    let marks: Vec<_> = seen.marks("limited").collect();
    let [one, other] = marks[..] else {
        return Err(Undecided::because("not both children came to their calls"));
    };
    let mut evidence = Evidence::default();
    evidence
        .say(format!(
            "At its start the program's stack has {}:",
            size(first)
        ))
        .event(stack.event);
    let overflows = [
        overflow(seen, one, stack.end)?,
        overflow(seen, other, stack.end)?,
    ];
    for child in &overflows {
        evidence
            .say(format!(
                "Under a limit of {} (RLIMIT_STACK) the stack grew, fault by fault, to {}. The lowest page that it got:",
                size(child.limit),
                size(child.used)
            ))
            .event(child.last)
            .say(format!(
                "The next call touched an address {} below the stack's end. That killed it:",
                size(child.wanted)
            ))
            .event(child.killing)
            .event(child.exit);
    }
    for mark in [one, other] {
        let mapping = in_maps(mark)?;
        evidence.agree(
            mapping.end == stack.end,
            format!(
                "/proc/{}/maps has the stack's end at {:#x}, as the trace",
                mark.pid, stack.end
            ),
        )?;
    }

    let obeys = |child: &Overflow<'_>| child.used <= child.limit && child.limit < child.wanted;
    let [one, other] = &overflows;
    let figure = format!("{} at first, then up to {}", size(first), size(one.used));
    let fixed = |child: &Overflow<'_>| child.used <= BOOK && BOOK < child.wanted;
    if fixed(one) && fixed(other) {
        return evidence.decide(
            Verdict::Confirmed,
            figure,
            "Both stacks could be 2 MiB large, and not more.",
        );
    }
    if fixed(one) {
        return evidence.decide(
            Verdict::Qualified,
            figure,
            "Under the limit that holds here a stack can have 2 MiB, but that is the limit's doing: under another the \
             stack had another size.",
        );
    }
    evidence.decide(
        Verdict::Refuted,
        figure,
        if obeys(one) && obeys(other) {
            format!(
                "The stack is small at first. Where the program touches what lies below, the kernel extends it, as \
                 long as its size stays within RLIMIT_STACK: {} here, and a process can be given another limit, \
                 as the second child shows. Beyond the limit the touch is SIGSEGV. (Other mappings stop it earlier: \
                 the kernel keeps a gap free below a stack, of 256 pages by default.)",
                size(one.limit)
            )
        } else {
            "The stack grew on demand, and not to 2 MiB; but it did not end at RLIMIT_STACK either.".to_owned()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{claims::layout::extent::told, observed::Mapping, story::Story};

    const MIB: u64 = 1 << 20;
    const END: u64 = 0x1000_0000;

    /// Two children under these limits, whose stacks grow to these sizes.
    fn story(children: [(u64, u64); 2]) -> Observed {
        let mut story = Story::default();
        told::exec(&mut story, 1);
        told::mmap(
            &mut story,
            1,
            (END - 0x2_1000, END),
            "rw",
            Some(Region::Stack),
            None,
        );
        story.mark(1, "start", &[("here", END - 0x100)]);
        for (child, (limit, reached)) in (2..).zip(children) {
            story.mark(child, "limited", &[("limit", limit)]).maps = vec![Mapping {
                end: END,
                name: "[stack]".into(),
                ..Mapping::default()
            }];
            for used in [reached / 2, reached] {
                story
                    .fault(child, END - used, FaultKind::ZeroFill, 0, 1)
                    .region = Region::Stack;
            }
            let killing = story.fault(child, END - reached - 8, FaultKind::Invalid, 0, 0);
            killing.signal = Some(11);
            story.exit(child, None, Some(11));
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |children| judge(&story(children)).expect("decided").verdict;
        assert_eq!(
            verdict([(8 * MIB, 8 * MIB), (4 * MIB, 4 * MIB)]),
            Verdict::Refuted
        );
        assert_eq!(
            verdict([(8 * MIB, 2 * MIB), (4 * MIB, 2 * MIB)]),
            Verdict::Confirmed
        );
        assert_eq!(
            verdict([(2 * MIB, 2 * MIB), (MIB, MIB)]),
            Verdict::Qualified
        );
        let beyond = judge(&story([(8 * MIB, 9 * MIB), (4 * MIB, 4 * MIB)])).expect("decided");
        assert_eq!(beyond.verdict, Verdict::Refuted);
        assert!(beyond.why.contains("did not end at RLIMIT_STACK"));
    }

    #[test]
    fn what_was_not_seen_or_is_otherwise_decides_nothing() {
        let mut seen = story([(8 * MIB, 8 * MIB), (4 * MIB, 4 * MIB)]);
        seen.marks[1].snapshot.maps[0].end -= PAGE;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        seen.events.pop();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
