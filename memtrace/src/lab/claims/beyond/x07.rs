//! X7: one fault brings in a huge page, and a write after a fork copies 4 KiB of it.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Fault, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "X7",
    short: "huge pages: 2 MiB per fault, and 2 MiB per copy",
    book: "With transparent huge pages the kernel deals with memory in units of 2 MiB: one page fault \
           brings in 2 MiB, and after a fork one write copies 2 MiB. The second half is why the \
           manuals of Redis and others advise against huge pages.",
    experiment: "A program asks for huge pages for 2 MiB of its memory (MADV_HUGEPAGE) and for small \
                 ones for another 2 MiB (MADV_NOHUGEPAGE), and writes to each 4 KiB of both. Then it \
                 forks, and the child writes one byte to the beginning of the huge page, and one \
                 byte 4 KiB further on.",
    expected: &[Verdict::Qualified],
    read: &[
        "mm/huge_memory.c: do_huge_pmd_anonymous_page - brings in 2 MiB at one fault",
        "mm/huge_memory.c: copy_huge_pmd - what a fork does: one entry, write-protected",
        "mm/huge_memory.c: do_huge_pmd_wp_page - the write: takes the page over, or splits the entry \
         into 512 (until Linux 5.7 it tried to copy 2 MiB)",
        "mm/memory.c: wp_page_copy - then copies the one small page",
        "Documentation/admin-guide/mm/transhuge.rst",
    ],
    method: Method::Experiment {
        program: "huge",
        judge,
    },
};

const HUGE: u64 = 2 << 20;

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the touch")?;
    let touched = seen.mark("touched")?;
    let once = seen.mark("child has written once")?;
    let (huge, second) = (before.value("huge")?, before.value("second")?);
    let mut evidence = Evidence::default();

    let fills = |start: u64| -> Vec<(&Event, &Fault)> {
        seen.faults()
            .filter(|(event, fault)| {
                event.pid == before.pid
                    && (before.ts..touched.ts).contains(&event.ts)
                    && (start..start + HUGE).contains(&fault.addr.0)
                    && fault.pfn_before.is_none()
                    && fault.pfn_after.is_some()
            })
            .collect()
    };
    let (of_huge, of_small) = (fills(huge), fills(before.value("small")?));
    let Some(&(first_fill, fault)) = of_huge.first() else {
        return Err(Undecided::because("no fault of the first touch was seen"));
    };
    if fault.page_size != HUGE {
        return Err(Undecided::because(
            "the kernel gave small pages where huge ones were asked for: they are switched off \
             (/sys/kernel/mm/transparent_hugepage/enabled), or free memory is too scattered",
        ));
    }
    evidence
        .say(format!(
            "All the 2 MiB for which huge pages were wanted came by {}. The 2 MiB of small pages took {} \
             faults.",
            faults(of_huge.len()),
            of_small.len()
        ))
        .event(first_fill);

    let copy = |address: u64, since: &Mark| {
        let since = since.ts;
        seen.faults_at(once.pid, address)
            .find(move |(event, fault)| event.ts > since && fault.kind == FaultKind::CowCopy)
    };
    let child = seen.mark("child")?;
    let Some((event, first_copy)) = copy(huge, child) else {
        return evidence.decide(
            Verdict::Refuted,
            "the child's write copied nothing",
            "The child's write to the huge page was followed by no copy at all, small or huge.",
        );
    };
    evidence
        .say("The child wrote one byte to the huge page. So much was copied:")
        .event(event);
    if let Some((event, _)) = copy(second, once) {
        evidence
            .say("And 4 KiB further on it had to be copied once more:")
            .event(event);
    }

    let three = ["huge", "second", "last"];
    let changed = |key: &&str| Ok(touched.frame(key)? != once.frame(key)?);
    let changed: Vec<bool> = three
        .iter()
        .map(changed)
        .collect::<Result<_, Undecided>>()?;
    let copied_all = first_copy.page_size == HUGE;
    evidence.agree(
        changed == [true, copied_all, copied_all],
        format!(
            "after the one write /proc/PID/pagemap shows another frame for the child's first 4 KiB, and {} \
             for its second and its last",
            if copied_all { "others" } else { "the old ones" }
        ),
    )?;

    let figure = format!(
        "2 MiB by {}; a write copies {} KiB",
        faults(of_huge.len()),
        first_copy.page_size / 1024
    );
    conclude(evidence, figure, of_huge.len() == 1, copied_all)
}

/// The verdict: whether one fault brought in all, and one write copied all.
fn conclude(
    evidence: Evidence,
    figure: String,
    one_fill: bool,
    copied_all: bool,
) -> Result<Finding, Undecided> {
    match (one_fill, copied_all) {
        (true, true) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "One fault brought in 2 MiB, and one write copied 2 MiB.",
        ),
        (false, false) => evidence.decide(
            Verdict::Refuted,
            figure,
            "Neither did one fault bring in 2 MiB, nor did one write copy 2 MiB.",
        ),
        (false, true) => evidence.decide(
            Verdict::Qualified,
            figure,
            "One write copied 2 MiB, but it had taken several faults to bring them in.",
        ),
        (true, false) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The first half is right: one fault did the work of 512. The second is not: when the child \
             wrote, the kernel split its entry for the huge page into 512 small ones (the memory itself \
             stayed where it was), and copied just the 4 KiB that were written to. What a fork costs a \
             program with huge pages is not the copying of 2 MiB: it is that a huge page becomes 512 small \
             ones, each with a fault of its own at the first write.",
        ),
    }
}

fn faults(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} fault{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    const AT: u64 = 0x4000_0000;

    /// So many faults of this size fill the huge page, and the child's write copies so many bytes.
    fn story(fills: u64, filled: u64, copied: u64) -> Observed {
        let mut story = Story::default();
        let pages = [
            ("huge", AT),
            ("second", AT + 4096),
            ("last", AT + HUGE - 4096),
        ];
        let mut all = pages.to_vec();
        all.push(("small", AT + 2 * HUGE));
        story.mark(1, "before the touch", &all);
        for number in 0..fills {
            let fault = story.fault(1, AT + 4096 * number, FaultKind::ZeroFill, 0, 512);
            fault.pfn_before = None;
            fault.page_size = filled;
        }
        story.mark(1, "touched", &pages).frames(&[512, 513, 1023]);
        story.mark(2, "child", &pages);
        let all = copied == HUGE;
        if copied > 0 {
            story.fault(2, AT, FaultKind::CowCopy, 512, 2048).page_size = copied;
        }
        let frames = if all {
            [2048, 2049, 2559]
        } else {
            [2048, 513, 1023]
        };
        story
            .mark(2, "child has written once", &pages)
            .frames(&frames);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |fills, copied| judge(&story(fills, HUGE, copied)).expect("decided").verdict;
        assert_eq!(verdict(1, 4096), Verdict::Qualified);
        assert_eq!(verdict(1, HUGE), Verdict::Confirmed);
        assert_eq!(verdict(2, HUGE), Verdict::Qualified);
        assert_eq!(verdict(2, 4096), Verdict::Refuted);
        assert_eq!(verdict(1, 0), Verdict::Refuted);
    }

    #[test]
    fn without_a_huge_page_there_is_no_verdict() {
        let small = judge(&story(512, 4096, 4096));
        assert!(matches!(small, Err(Undecided::NotHere(why)) if why.contains("small pages")));
    }

    #[test]
    fn pagemap_must_agree() {
        let mut seen = story(1, HUGE, 4096);
        seen.marks[3].snapshot.frames.insert(AT + 4096, Some(7));
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
