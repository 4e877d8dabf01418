//! L9: what becomes of memory that nobody frees.

use std::collections::{BTreeMap, BTreeSet};

use super::extent::PAGE;
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Fault, FaultKind, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L9",
    short: "what is never freed is reclaimed at the end",
    book: "Memory that a program does not free is reclaimed by the system when the program ends.",
    experiment: "Eight children, one after the other, fill 8 MiB of heap each and end without a free. Each also has 64 pages \
                 in common with its parent, which the parent writes to when the child has ended.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/exit.c: exit_mm - the task lets go of its address space",
        "mm/mmap.c: exit_mmap - when nobody uses it any more: unmaps all, frees the frames and the page tables",
        "man 5 proc_pid_statm",
    ],
    method: Method::Experiment {
        program: "leak",
        judge,
    },
};

/// The frames that a child's heap got before its mark.
fn leaked<'a>(seen: &'a Observed, mark: &Mark) -> Vec<(&'a Event, u64)> {
    let (pid, until) = (mark.pid, mark.ts);
    seen.faults()
        .filter(|(event, fault)| {
            event.pid == pid && event.ts < until && fault.region == Region::Heap
        })
        .filter(|(_, fault)| fault.kind == FaultKind::ZeroFill)
        .filter_map(|(event, fault)| Some((event, fault.pfn_after?)))
        .collect()
}

/// Whether nobody else mapped the page that was written.
fn is_sole_owner(fault: &Fault) -> bool {
    match fault.kind {
        FaultKind::CowReuse => true,
        // The kernel copies, too, where it holds a reference to the page itself.
        FaultKind::CowCopy => fault
            .cause
            .as_ref()
            .is_some_and(|cause| cause.sharer_count == 0 && cause.map_count == Some(1)),
        _ => false,
    }
}

/// The parent's write faults in the pages in common since a time, and those of them when nobody else mapped the page.
fn writes_after(
    seen: &Observed,
    since: u64,
    end: &Mark,
    evidence: &mut Evidence,
) -> Result<(usize, usize), Undecided> {
    let (shared, pages) = (end.value("shared")?, end.value("pages")?);
    let writes: Vec<_> = seen
        .faults()
        .filter(|(event, fault)| {
            event.pid == end.pid
                && (since..end.ts).contains(&event.ts)
                && (shared..shared + pages * PAGE).contains(&fault.addr.0)
        })
        .collect();
    let free = writes
        .iter()
        .filter(|(_, fault)| is_sole_owner(fault))
        .count();
    evidence.say(format!(
        "The fork had left the {pages} pages in common write-protected. When the parent wrote to them after each child's \
         end, {free} of {} times nobody else mapped the page any more. The first such write:",
        writes.len()
    ));
    if let Some((event, _)) = writes.first() {
        evidence.event(event);
    }
    Ok((writes.len(), free))
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let end = seen.mark("end")?;
    let children: Vec<_> = seen.marks("leaked").collect();
    let ended: Vec<_> = seen.marks("ended").collect();
    let (Some(first), Some(first_end)) = (children.first(), ended.first()) else {
        return Err(Undecided::because("no child ended"));
    };
    let mut evidence = Evidence::default();

    let frames: Vec<_> = children.iter().map(|mark| leaked(seen, mark)).collect();
    let total: usize = frames.iter().map(Vec::len).sum();
    let distinct: BTreeSet<_> = frames.iter().flatten().map(|(_, frame)| *frame).collect();
    let again = total - distinct.len();
    let old: BTreeMap<_, _> = frames[0]
        .iter()
        .map(|(event, frame)| (*frame, *event))
        .collect();
    let mut later = frames.iter().skip(1).flatten();
    let pair = later.find_map(|(event, frame)| Some((*old.get(frame)?, *event)));
    evidence.say(format!(
        "The {} children took {total} pages for their heaps. A page of the first child:",
        children.len()
    ));
    if let Some(event) = pair
        .map(|(event, _)| event)
        .or(frames[0].first().map(|(event, _)| *event))
    {
        evidence.event(event);
    }
    if let Some((event, _)) = seen.exits().find(|(event, _)| event.pid == first.pid) {
        evidence.say("It ended without a free:").event(event);
    }
    if let Some((_, event)) = pair {
        evidence
            .say("Later another child got the same frame:")
            .event(event);
    }
    evidence.say(format!(
        "The kernel gives a frame that is in use to nobody else. But {again} times a child got a frame that one before it \
         had leaked: in all only {} frames served for {total} pages.",
        distinct.len()
    ));

    let (writes, free) = writes_after(seen, first_end.ts, end, &mut evidence)?;

    let gone = ended
        .iter()
        .all(|mark| mark.values.get("resident") == Some(&0));
    let enough = children.iter().zip(&frames).all(|(mark, frames)| {
        // The kernel's counters are not exact while a process runs.
        mark.values
            .get("resident")
            .is_some_and(|&resident| resident * 8 >= frames.len() as u64 * 7)
    });
    evidence.agree(
        enough,
        "/proc/PID/statm of each child counted the pages of its heap as resident before it ended",
    )?;
    let figure = format!("{total} pages in {} frames", distinct.len());
    match (writes > 0 && free == writes, again > 0) {
        (true, true) => {
            evidence.agree(gone, "/proc/PID/statm of each child that had ended, while it was a zombie, counted no page")?;
            evidence.decide(
                Verdict::Confirmed,
                figure,
                "With its last task an address space goes, and with it all its pages, freed or not: its own frames were \
                 given to others, and from those that it shared its part was taken away. The system does that always, \
                 not only \"possibly\", as the notes have it. What a program leaks is lost only as long as it runs.",
            )
        }
        (true, false) if gone => Err(Undecided::because(
            "none of the leaked frames came into use again while the program ran, so nothing shows that they were freed",
        )),
        (false, false) => {
            evidence.agree(
                !gone,
                "/proc/PID/statm of the ended children still counts pages",
            )?;
            evidence.decide(
                Verdict::Refuted,
                figure,
                "Neither own nor shared pages were given back at the end.",
            )
        }
        (only_shared, _) => evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "Only the {} pages were given back at the end.",
                if only_shared { "shared" } else { "leaked" }
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Cause, CowCause},
    };

    /// Two children leak these frames; the parent's write to the shared page after it takes it over, or copies it.
    fn story(frames: [u64; 2], reuse: bool, resident: u64) -> Observed {
        let mut story = Story::default();
        for (child, frame) in (2..).zip(frames) {
            story
                .fault(child, 0x9000, FaultKind::ZeroFill, 0, frame)
                .region = Region::Heap;
            story.mark(child, "leaked", &[("resident", 1)]);
            story.exit(child, Some(0), None);
            story.mark(1, "ended", &[("resident", resident)]);
            if reuse {
                story.fault(1, 0x5000, FaultKind::CowReuse, 5, 5);
            } else {
                let fault = story.fault(1, 0x5000, FaultKind::CowCopy, 5, 6);
                fault.cause = Some(Box::new(Cause {
                    cause: CowCause::Fork,
                    fork: None,
                    sharers: vec![child],
                    sharer_count: 1,
                    map_count: Some(2),
                }));
            }
        }
        story.mark(1, "end", &[("shared", 0x5000), ("pages", 1)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |frames, reuse, resident| {
            judge(&story(frames, reuse, resident)).map(|found| found.verdict)
        };
        assert_eq!(verdict([7, 7], true, 0), Ok(Verdict::Confirmed));
        assert_eq!(verdict([7, 8], false, 1), Ok(Verdict::Refuted));
        assert_eq!(verdict([7, 8], true, 1), Ok(Verdict::Qualified));
        assert_eq!(verdict([7, 7], false, 0), Ok(Verdict::Qualified));
        assert!(matches!(
            verdict([7, 8], true, 0),
            Err(Undecided::NotHere(_))
        ));
    }

    #[test]
    fn a_copy_for_a_reference_of_the_kernels_own_is_no_sharing() {
        let mut seen = story([7, 7], false, 0);
        for event in &mut seen.events {
            if let crate::trace::event::EventKind::Fault(Fault {
                cause: Some(cause), ..
            }) = &mut event.what
            {
                (cause.sharer_count, cause.map_count) = (0, Some(1));
            }
        }
        assert_eq!(
            judge(&seen).map(|found| found.verdict),
            Ok(Verdict::Confirmed)
        );
    }

    #[test]
    fn statm_must_agree() {
        for (frames, reuse, resident) in [([7, 7], true, 1), ([7, 8], false, 0)] {
            let found = judge(&story(frames, reuse, resident));
            assert!(matches!(found, Err(Undecided::Contradiction(_))));
        }
        let mut seen = story([7, 7], true, 0);
        seen.marks[0].values.insert("resident".into(), 0);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
