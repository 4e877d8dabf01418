//! X11: mlock brings pages in, and a fork makes them fault all the same.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Fault, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "X11",
    short: "an access to locked memory never faults",
    book: "mlock brings pages into memory and keeps them there, so that programs that must not be late \
           never wait for a page fault: an access to locked memory does not fault.",
    experiment: "A program locks eight untouched pages with mlock, and then touches them as well as eight \
                 that are not locked. Then it forks, and touches the locked pages again while the child \
                 lives.",
    expected: &[Verdict::Qualified],
    read: &[
        "mm/mlock.c: do_mlock - marks the mapping VM_LOCKED, then mm_populate brings its pages in",
        "mm/gup.c: populate_vma_page_range - faults taken by the kernel itself, without an exception",
        "kernel/fork.c: dup_mmap - clears VM_LOCKED in the child",
        "mm/memory.c: copy_present_ptes - write-protects the pages of both, locked or not",
        "man 2 mlock, its notes on real-time processes and on fork",
    ],
    method: Method::Experiment {
        program: "locks",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before mlock")?;
    let locked = seen.mark("after mlock")?;
    let touched = seen.mark("after the touch")?;
    let child = seen.mark("child")?;
    let written = seen.mark("parent has written")?;
    let pages = before.value("pages")?;
    let mut evidence = Evidence::default();

    let faults = |key: &str, from: &Mark, to: &Mark| -> Result<Vec<(&Event, &Fault)>, Undecided> {
        let start = before.value(key)?;
        Ok(seen
            .faults()
            .filter(|(event, fault)| {
                event.pid == before.pid
                    && (from.ts..to.ts).contains(&event.ts)
                    && (start..start + 4096 * pages).contains(&fault.addr.0)
            })
            .collect())
    };
    let in_call = faults("locked", before, locked)?.len();
    let at_touch = faults("locked", locked, touched)?;
    let plain = faults("plain", locked, touched)?;
    let after_fork = faults("locked", touched, written)?;

    let accounts = seen.end.iter().flat_map(|end| &end.processes);
    let by_mlock: i64 = accounts
        .filter(|account| account.pid == before.pid)
        .filter_map(|account| account.unobserved_by.get("mlock"))
        .sum();
    evidence.say(format!(
        "mlock returned after {in_call} page faults of the program; but inside the call the kernel counts \
         {by_mlock} that it took itself, for {pages} pages."
    ));
    let present = |mark: &Mark| mark.snapshot.frames.values().flatten().count() as u64;
    let frames_kept = locked.snapshot.frames == touched.snapshot.frames;
    evidence.agree(
        present(locked) == pages,
        format!(
            "/proc/PID/pagemap shows a frame for {} of the {pages} locked pages before the first touch",
            present(locked)
        ),
    )?;
    evidence.say(format!(
        "Then the program touched all pages: {} faults in the locked ones, {} in those that are not locked.",
        at_touch.len(),
        plain.len()
    ));
    for (event, _) in at_touch.iter().chain(&plain).take(2) {
        evidence.event(event);
    }
    if plain.is_empty() {
        return Err(Undecided::because(
            "there were no faults in the pages that are not locked, either",
        ));
    }
    evidence.agree(
        !at_touch.is_empty() || frames_kept,
        "/proc/PID/pagemap shows the same frames before and after the touch",
    )?;
    evidence.say(format!(
        "After a fork the parent wrote to its locked pages again, and took {} faults:",
        after_fork.len()
    ));
    for (event, _) in after_fork.iter().take(2) {
        evidence.event(event);
    }
    let copies = after_fork
        .iter()
        .filter(|(_, fault)| fault.kind == FaultKind::CowCopy)
        .count();
    let changed = touched
        .snapshot
        .frames
        .iter()
        .filter(|(address, frame)| written.snapshot.frames.get(address) != Some(frame))
        .count();
    evidence.agree(
        changed == copies,
        format!(
            "/proc/PID/pagemap shows other frames for {changed} of the parent's pages now, the trace {copies} \
             copies"
        ),
    )?;
    let lock = |mark: &Mark| {
        mark.snapshot
            .status
            .get("VmLck")
            .copied()
            .unwrap_or_default()
    };
    evidence.say(format!(
        "By VmLck in /proc/PID/status the parent had {} KiB locked, its child {}.",
        lock(touched),
        lock(child)
    ));

    let figure = format!(
        "faults: {} at the touch, {} after a fork",
        at_touch.len(),
        after_fork.len()
    );
    conclude(evidence, figure, at_touch.is_empty(), after_fork.is_empty())
}

/// The verdict: whether there was no fault at the first touch, and none after the fork.
fn conclude(
    evidence: Evidence,
    figure: String,
    quiet_touch: bool,
    quiet_after_fork: bool,
) -> Result<Finding, Undecided> {
    match (quiet_touch, quiet_after_fork) {
        (true, true) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "No access to a locked page faulted, not even after a fork.",
        ),
        (true, false) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The call brought the pages in, and the first touch of them did not fault. But locked means: in \
             memory. It does not mean: writable. A fork write-protects the pages of both sides, locked or \
             not, and each then costs its parent a fault and a copy; the child does not even inherit the \
             lock. So a program that must not be late forks before it \
             locks its memory, or keeps that memory out of the fork (MADV_DONTFORK).",
        ),
        (false, _) => evidence.decide(
            Verdict::Refuted,
            figure,
            "The pages were locked, and the very first touch of them faulted.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    const PLAIN: u64 = 0x10_0000;
    const LOCKED: u64 = 0x20_0000;

    /// Whether the locked pages fault at the touch, and after the fork.
    fn story(touch: bool, fork: bool) -> Observed {
        let mut story = Story::default();
        let places = [("plain", PLAIN), ("locked", LOCKED), ("pages", 2)];
        let pages = [("page0", LOCKED), ("page1", LOCKED + 4096)];
        story.mark(1, "before mlock", &places);
        story.mark(1, "after mlock", &pages).frames(&[10, 11]);
        story.fault(1, PLAIN, FaultKind::ZeroFill, 0, 7).pfn_before = None;
        if touch {
            story.fault(1, LOCKED, FaultKind::Spurious, 10, 10);
        }
        story.mark(1, "after the touch", &pages).frames(&[10, 11]);
        story.mark(2, "child", &pages).frames(&[10, 11]);
        if fork {
            story.fault(1, LOCKED, FaultKind::CowCopy, 10, 20);
            story.fault(1, LOCKED + 4096, FaultKind::CowCopy, 11, 21);
        }
        let frames = if fork { [20, 21] } else { [10, 11] };
        story.mark(1, "parent has written", &pages).frames(&frames);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |touch, fork| judge(&story(touch, fork)).expect("decided").verdict;
        assert_eq!(verdict(false, true), Verdict::Qualified);
        assert_eq!(verdict(false, false), Verdict::Confirmed);
        assert_eq!(verdict(true, true), Verdict::Refuted);
    }

    #[test]
    fn pagemap_must_agree() {
        for (mark, frame) in [(1, None), (2, None), (4, Some(10))] {
            let mut seen = story(false, true);
            seen.marks[mark].snapshot.frames.insert(LOCKED, frame);
            let result = judge(&seen);
            assert!(matches!(result, Err(Undecided::Contradiction(_))), "{mark}");
        }
    }

    #[test]
    fn faults_must_be_seen_at_all() {
        let mut seen = story(false, true);
        seen.events.remove(0);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
