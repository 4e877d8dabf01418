//! X14: KSM merges equal pages, and a write parts them.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{CowCause, EventKind, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "X14",
    short: "KSM makes one page of equal ones until a write",
    book: "Kernel samepage merging (KSM) looks for pages with equal contents and replaces them by a single \
           write-protected one; when a program writes to it, it gets its own copy again.",
    experiment: "A program fills eight pages with the same bytes and asks for them to be merged \
                 (MADV_MERGEABLE). When they are, it writes to the first, and then takes its request back \
                 (MADV_UNMERGEABLE). Where KSM is switched off, and root runs the lab, the program switches \
                 it on and, at its end, off again.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/ksm.c: cmp_and_merge_page, try_to_merge_one_page - what the kernel thread ksmd does",
        "mm/memory.c: do_wp_page, wp_page_copy - the write to a merged page",
        "mm/ksm.c: ksm_madvise, break_ksm - MADV_UNMERGEABLE: the kernel takes a write fault itself",
        "Documentation/admin-guide/mm/ksm.rst",
    ],
    method: Method::Experiment {
        program: "merges",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    is_on(seen.mark("start")?)?;
    let before = seen.mark("before")?;
    let merged = seen.mark("merged")?;
    let written = seen.mark("written")?;
    let unmerged = seen.mark("unmerged")?;
    let mut pages = merged.snapshot.frames.iter();
    let (Some((&first, &Some(frame))), true) = (pages.next(), distinct(before) > 1) else {
        return Err(Undecided::because(
            "the pages were not there, each in its own frame",
        ));
    };
    let with_it = 1 + pages.filter(|(_, other)| **other == Some(frame)).count();
    if with_it < 2 {
        return Err(Undecided::because(
            "ksmd had not merged the pages after five seconds: it is slow, or busy with others' memory",
        ));
    }
    let mut evidence = Evidence::default();
    evidence.say(format!(
        "By /proc/PID/pagemap the {} pages had {} frames at first, and {} after a while; {with_it} of them \
         are frame {frame:#x}. Who did it is the kernel thread ksmd; the program noticed nothing.",
        before.snapshot.frames.len(),
        distinct(before),
        distinct(merged),
    ));

    let write = seen
        .faults_at(merged.pid, first)
        .find(|(event, _)| event.ts > merged.ts && event.ts < written.ts);
    let Some((event, fault)) = write else {
        return evidence.decide(
            Verdict::Refuted,
            format!("{with_it} pages in 1 frame, no copy"),
            "The pages were merged, but a write to one of them went through without a fault: it must have \
             changed them all.",
        );
    };
    evidence.say("The write to the first page:").event(event);
    let copied = fault.kind == FaultKind::CowCopy;
    let cause = fault.cause.as_ref().map(|cause| cause.cause);
    if copied {
        evidence.agree(
            cause == Some(CowCause::Ksm) && fault.pfn_before == Some(frame),
            "the trace names KSM as the cause of the copy, and the frame that /proc/PID/pagemap shows for the \
             merged pages as the old one",
        )?;
    }
    let others_kept = merged
        .snapshot
        .frames
        .iter()
        .skip(1)
        .all(|(page, frame)| written.snapshot.frames.get(page) == Some(frame));
    let own = written.snapshot.frames.get(&first).copied().flatten();
    evidence.agree(
        copied == (own != Some(frame)) && others_kept,
        format!(
            "/proc/PID/pagemap shows {} for the page that was written to, and the old frames for the others",
            if copied { "another frame" } else { "the same frame" }
        ),
    )?;

    let advice = seen.events.iter().find(|event| {
        event.ts > written.ts
            && matches!(&event.what, EventKind::Madvise(madvise) if &*madvise.advice == "MADV_UNMERGEABLE")
    });
    if let Some(event) = advice {
        evidence
            .say(format!(
                "When the program took its request back, the kernel gave each page a frame of its own: \
                 /proc/PID/pagemap shows {} frames for {} pages then.",
                distinct(unmerged),
                unmerged.snapshot.frames.len()
            ))
            .event(event);
    }
    let parted = distinct(unmerged) == unmerged.snapshot.frames.len();

    let figure = format!(
        "{with_it} pages in 1 frame, a write {}",
        if copied { "copies" } else { "doesn't copy" }
    );
    conclude(evidence, figure, copied, parted)
}

/// KSM is there and works, by what the program found before it began.
fn is_on(start: &Mark) -> Result<(), Undecided> {
    if start.value("on")? != 0 {
        return Ok(());
    }
    Err(Undecided::because(
        match start.value("run")?.cast_signed() {
            run @ 0.. => format!(
                "KSM is switched off (/sys/kernel/mm/ksm/run is {run}), and the program may not switch it on: \
                 it runs as the user who typed sudo. \"echo 1 > /sys/kernel/mm/ksm/run\" as root does"
            ),
            _ => "this kernel has no KSM (/sys/kernel/mm/ksm/run)".to_owned(),
        },
    ))
}

/// The verdict: whether the write got a copy, and the merging could be undone.
fn conclude(
    evidence: Evidence,
    figure: String,
    copied: bool,
    parted: bool,
) -> Result<Finding, Undecided> {
    match (copied, parted) {
        (true, true) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "Equal pages came to lie in one frame, the write to one of them got a copy and left the others \
             alone, and the merging could be undone. It is copy-on-write as after a fork, only that here the \
             sharing came from the contents and not from a common origin.",
        ),
        (true, false) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The write got its copy, but the merging of the other pages could not be undone.",
        ),
        (false, _) => evidence.decide(
            Verdict::Refuted,
            figure,
            "The pages were merged, but the write to one of them did not get a copy of its own.",
        ),
    }
}

/// How many frames the pages of a mark lie in.
fn distinct(mark: &Mark) -> usize {
    let mut frames: Vec<u64> = mark.snapshot.frames.values().flatten().copied().collect();
    frames.sort_unstable();
    frames.dedup();
    frames.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Address, Cause, Madvise},
    };

    const PAGES: [(&str, u64); 3] = [("page0", 0x1000), ("page1", 0x2000), ("page2", 0x3000)];

    /// What the write leads to, and the frames at the end.
    fn story(write: Option<FaultKind>, end: [u64; 3]) -> Observed {
        let mut story = Story::default();
        story.mark(1, "start", &[("run", 0), ("on", 1), ("pages", 3)]);
        story.mark(1, "before", &PAGES).frames(&[1, 2, 3]);
        story.mark(1, "merged", &PAGES).frames(&[9, 9, 9]);
        let mut own = 9;
        if let Some(kind) = write {
            if kind == FaultKind::CowCopy {
                own = 20;
            }
            story.fault(1, 0x1000, kind, 9, own).cause = Some(Box::new(Cause {
                cause: CowCause::Ksm,
                fork: None,
                sharers: Vec::new(),
                sharer_count: 0,
                map_count: Some(3),
            }));
        }
        story.mark(1, "written", &PAGES).frames(&[own, 9, 9]);
        let madvise = Madvise {
            addr: Address(0x1000),
            len: 0x3000,
            advice: "MADV_UNMERGEABLE".into(),
            call: None,
            process: None,
            ret: 0,
        };
        story.event(1, EventKind::Madvise(madvise));
        story.mark(1, "unmerged", &PAGES).frames(&end);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |write, end| judge(&story(write, end)).expect("decided").verdict;
        let copy = Some(FaultKind::CowCopy);
        assert_eq!(verdict(copy, [20, 21, 22]), Verdict::Confirmed);
        assert_eq!(verdict(copy, [20, 9, 9]), Verdict::Qualified);
        assert_eq!(
            verdict(Some(FaultKind::CowReuse), [20, 21, 22]),
            Verdict::Refuted
        );
        assert_eq!(verdict(None, [9, 9, 9]), Verdict::Refuted);
    }

    #[test]
    fn without_merging_there_is_no_verdict() {
        let copy = Some(FaultKind::CowCopy);
        let mut seen = story(copy, [20, 21, 22]);
        seen.marks[2].snapshot.frames(&[1, 2, 3]);
        assert!(
            matches!(judge(&seen), Err(Undecided::NotHere(why)) if why.contains("five seconds"))
        );
        let mut seen = story(copy, [20, 21, 22]);
        seen.marks[0].values.insert("on".to_owned(), 0);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(why)) if why.contains("run is 0")));
        seen.marks[0].values.insert("run".to_owned(), u64::MAX);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(why)) if why.contains("no KSM")));
    }

    #[test]
    fn pagemap_must_agree() {
        for (mark, frames) in [(2, [8, 8, 8]), (3, [9, 9, 9]), (3, [20, 7, 9])] {
            let mut seen = story(Some(FaultKind::CowCopy), [20, 21, 22]);
            seen.marks[mark].snapshot.frames(&frames);
            let result = judge(&seen);
            assert!(
                matches!(result, Err(Undecided::Contradiction(_))),
                "{frames:?}"
            );
        }
    }
}
