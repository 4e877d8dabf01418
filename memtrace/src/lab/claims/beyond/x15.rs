//! X15: fork's work grows with the memory in use, and with how small its pages are.

use super::batch::{Batch, SLACK, batches};
use crate::lab::{
    claim::{Claim, Method},
    finding::{Evidence, Finding, Undecided, Verdict},
    observed::Observed,
    times::Times,
};
use crate::trace::event::Events;

pub const CLAIM: Claim = Claim {
    id: "X15",
    short: "thanks to copy-on-write fork always costs the same",
    book: "Since fork copies no memory but shares it until a write, it costs the same for a big process \
           as for a small one.",
    experiment: "A process that uses 8 MiB of memory in pages of 4 KiB forks five times; then one that \
                 uses as much in pages of 2 MiB. The same with 32 and with 128 MiB. The children end at \
                 once.",
    expected: &[Verdict::Refuted],
    read: &[
        "mm/memory.c: copy_page_range, copy_pte_range - copies the entries of the page tables, one by one",
        "mm/huge_memory.c: copy_huge_pmd - one entry for 2 MiB, and a table kept ready for when the page \
         is split (pgtable_trans_huge_deposit)",
        "kernel/fork.c: dup_mmap - for each mapping",
    ],
    method: Method::Experiment {
        program: "grows",
        judge,
    },
};

const HUGE: u64 = 2 << 20;

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let small = batches(seen, "small pages")?;
    let huge = batches(seen, "huge pages")?;
    let small = measure(seen, &small, "pages of 4 KiB", &mut evidence)?;
    let huge = if huge.iter().all(|batch| huge_pages(seen, batch) == 0) {
        evidence.say("Huge pages were not to be had, so that is all.");
        None
    } else {
        Some(measure(seen, &huge, "pages of 2 MiB", &mut evidence)?)
    };

    let figure = small.figure;
    match (small.grows, huge.as_ref().map(|huge| huge.grows)) {
        (true, None | Some(true)) => {
            let with_huge = huge.map_or_else(String::new, |huge| {
                format!(
                    " With pages of 2 MiB the tables grow, too (the kernel keeps one ready for each huge \
                     page, in case it must be split), but there is one entry to copy where there were 512. \
                     The calls took {} in the one case and {} in the other, in the median and from the \
                     shortest to the longest.",
                    small.times, huge.times
                )
            });
            let why = format!(
                "No memory is copied, but the tables that say where it is are: 8 bytes for each page, in \
                 tables of 4 KiB that must be had and filled.{with_huge}"
            );
            evidence.decide(Verdict::Refuted, figure, why)
        }
        (false, None | Some(false)) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "What a fork copied did not grow with the process.",
        ),
        _ => evidence.decide(
            Verdict::Qualified,
            figure,
            "What a fork copied grew with the process for one size of pages, and not for the other.",
        ),
    }
}

/// What forks cost with pages of one size.
struct Cost {
    /// Page tables of a child, for the least and the most memory.
    figure: String,
    /// Whether these differ by more than what comes and goes.
    grows: bool,
    /// How long the calls took, for the most memory.
    times: Times,
}

fn measure(
    seen: &Observed,
    batches: &[Batch],
    pages: &str,
    evidence: &mut Evidence,
) -> Result<Cost, Undecided> {
    for batch in batches {
        // One for 4 KiB, or one for the 2 MiB of a huge page.
        let private = batch.copied().map_or(0, |copied| copied.pages);
        let entries = private.saturating_sub(huge_pages(seen, batch) * (HUGE / 4096 - 1));
        evidence.say(format!(
            "With {} MiB in {pages} a fork had {entries} entries for private pages to copy, gave the child {} \
             KiB of page tables, and took {}.",
            batch.mib()?,
            batch.table_bytes() / 1024,
            batch.times
        ));
    }
    let (Some(least), Some(most)) = (batches.first(), batches.last()) else {
        return Err(Undecided::because("no sizes were seen"));
    };
    let (from, to) = (least.mib()?, most.mib()?);
    if let Some((event, _)) = most.births.first() {
        evidence
            .say(format!("The first of the forks with {to} MiB in {pages}:"))
            .event(event);
    }
    let copied = most.table_bytes().saturating_sub(least.table_bytes());
    let own = most
        .parents_tables()?
        .saturating_sub(least.parents_tables()?);
    evidence.agree(
        copied.abs_diff(own) <= SLACK,
        format!(
            "from {from} to {to} MiB in {pages} the parent's own page tables grew by {} KiB by VmPTE in \
             /proc/PID/status, the child's by {} KiB",
            own / 1024,
            copied / 1024
        ),
    )?;
    Ok(Cost {
        figure: format!(
            "tables {} KiB at {from} MiB, {} at {to}",
            least.table_bytes() / 1024,
            most.table_bytes() / 1024
        ),
        grows: copied > SLACK,
        times: most.times,
    })
}

/// How many huge pages the memory of this batch is in: each came by one fault, after the mark before.
fn huge_pages(seen: &Observed, batch: &Batch) -> u64 {
    let before = seen.marks.iter().rfind(|mark| mark.ts < batch.mark.ts);
    let since = before.map_or(0, |mark| mark.ts);
    let huge = seen.faults().filter(|(event, fault)| {
        event.pid == batch.mark.pid
            && (since..batch.mark.ts).contains(&event.ts)
            && fault.page_size == HUGE
            && fault.pfn_before.is_none()
    });
    huge.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{finding::Observation, story::Story},
        trace::event::{Copied, Event, EventKind, FaultKind},
    };

    /// The page tables grow so much a MiB, for small and for huge pages.
    fn story(small: u64, huge: u64) -> Observed {
        let mut story = Story::default();
        let mut child = 1;
        for mib in [8, 32, 128] {
            for (name, growth) in [("small pages", small), ("huge pages", huge)] {
                if name == "huge pages" {
                    for number in 0..mib / 2 {
                        let fault = story.fault(1, HUGE * number, FaultKind::ZeroFill, 0, 512);
                        fault.page_size = HUGE;
                        fault.pfn_before = None;
                    }
                }
                let tables = 40_960 + mib * growth;
                let snapshot = story.mark(1, name, &[("mib", mib)]);
                snapshot.status.insert("VmPTE".to_owned(), tables / 1024);
                for _ in 0..5 {
                    child += 1;
                    let copied = Copied {
                        pages: mib * 256 + 20,
                        table_bytes: tables,
                        ..Copied::default()
                    };
                    story.birth(1, child, Some(copied));
                    story.cloned(1, child, 1_000_000);
                }
            }
        }
        story.mark(1, "done", &[("rounds", 5)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |small, huge| judge(&story(small, huge)).expect("decided").verdict;
        assert_eq!(verdict(2048, 2048), Verdict::Refuted);
        assert_eq!(verdict(2048, 0), Verdict::Qualified);
        assert_eq!(verdict(0, 0), Verdict::Confirmed);
    }

    #[test]
    fn a_huge_page_is_one_entry() {
        let finding = judge(&story(2048, 2048)).expect("decided");
        assert_eq!(finding.figure, "tables 56 KiB at 8 MiB, 296 at 128");
        let says = |words: &str| {
            finding
                .seen
                .iter()
                .any(|seen| matches!(seen, Observation::Text(text) if text.contains(words)))
        };
        assert!(says("128 MiB in pages of 4 KiB a fork had 32788 entries"));
        assert!(says("128 MiB in pages of 2 MiB a fork had 84 entries"));
    }

    #[test]
    fn without_huge_pages_the_small_ones_decide() {
        let verdict = |small| {
            let mut seen = story(small, 0);
            seen.events
                .retain(|event| !matches!(event.what, EventKind::Fault(_)));
            judge(&seen).expect("decided").verdict
        };
        assert_eq!(verdict(2048), Verdict::Refuted);
        assert_eq!(verdict(0), Verdict::Confirmed);
    }

    #[test]
    fn a_fork_that_was_not_seen_decides_nothing() {
        let mut seen = story(2048, 2048);
        let birth = |event: &Event| matches!(event.what, EventKind::Clone(_));
        let last = seen.events.iter().rposition(birth).expect("there is one");
        seen.events.remove(last);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn the_parents_tables_must_agree() {
        let mut seen = story(2048, 2048);
        for mark in &mut seen.marks {
            mark.snapshot.status.insert("VmPTE".to_owned(), 10);
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
