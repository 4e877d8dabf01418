//! T1: processes have data of their own, threads have the same.

use super::stores::{BY_CHILD, BY_THREAD, Stores};
use crate::lab::{
    claim::{Claim, Method},
    finding::{Evidence, Finding, Undecided, Verdict},
    observed::Observed,
};

pub const CLAIM: Claim = Claim {
    id: "T1",
    short: "processes have data of their own, threads share it",
    book: "The data of processes are separate: what one stores, another does not see. The threads of a process share \
           its data: what one stores, all see.",
    experiment: "A program has a page of private memory, as all its variables are. A second thread stores to it, and \
                 the first one reads. Then a child process stores to it, and the parent reads.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: copy_mm - with CLONE_VM the child gets the parent's address space, else a copy of it",
        "mm/memory.c: do_wp_page - a store to a page that a fork has left shared",
        "clone(2): CLONE_VM; pthreads(7): what threads share",
    ],
    method: Method::Experiment {
        program: "stores",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let run = Stores::of(seen)?;
    let own = run.ready.value("own")?;
    let (first, frame) = run.first(own)?;
    let mut evidence = Evidence::default();
    evidence
        .say(format!(
            "The parent's first store to the page at {own:#x} gave it a frame, a page of physical memory:"
        ))
        .event(first)
        .say(format!(
            "The thread was born. Its address space (mm) is {}:",
            if run.thread.1.shared.mm {
                "the first thread's own"
            } else {
                "another than the first thread's"
            }
        ))
        .event(run.thread.0);

    let threads_copy = run.threads_copy(own);
    let shares = run.thread.1.shared.mm && threads_copy.is_none();
    match threads_copy {
        None => evidence.say(format!(
            "It stored to the page, and no fault came of that: the page stayed in frame {frame:#x}. Nothing was copied."
        )),
        Some((event, _)) => evidence.say("Its store gave it another frame:").event(event),
    };
    evidence.agree(
        (run.by_thread.frame("own")? == Some(frame)) == shares,
        format!(
            "/proc/PID/pagemap shows the page in {} frame after the thread's store as before",
            if shares { "the same" } else { "another" }
        ),
    )?;
    evidence.agree(
        (run.after_thread.value("in_own")? == BY_THREAD) == shares,
        format!(
            "the first thread {} there what the second one had stored",
            if shares { "then read" } else { "did not read" }
        ),
    )?;

    evidence
        .say(format!(
            "The child was born. It has {}:",
            if run.child.1.shared.mm {
                "the address space of its parent"
            } else {
                "an address space of its own"
            }
        ))
        .event(run.child.0);
    let copy = run.childs_copy(own);
    let separate = !run.child.1.shared.mm && copy.is_some();
    match copy {
        Some((event, _)) => evidence
            .say("Its store cost a copied page: from then on the same address led the two to different frames:")
            .event(event),
        None => evidence.say("Its store copied nothing."),
    };
    let (childs, parents) = (run.by_child.frame("own")?, run.after_child.frame("own")?);
    evidence.agree(
        (childs != parents) == separate,
        format!(
            "/proc/PID/pagemap shows {} frames for the child's page and for the parent's",
            if separate { "different" } else { "the same" }
        ),
    )?;
    evidence.agree(
        (run.after_child.value("in_own")? == BY_CHILD) != separate,
        format!(
            "the parent {} what the child had stored",
            if separate {
                "did not read"
            } else {
                "then read"
            }
        ),
    )?;

    let figure = format!(
        "frames copied: child {}, thread {}",
        u8::from(copy.is_some()),
        u8::from(threads_copy.is_some())
    );
    let (verdict, why) = conclude(separate, shares);
    evidence.decide(verdict, figure, why)
}

/// From whether the child's data were its own and the thread's were not.
const fn conclude(separate: bool, shares: bool) -> (Verdict, &'static str) {
    match (separate, shares) {
        (true, true) => (
            Verdict::Confirmed,
            "The thread's store went to the one page that both threads have, and was seen. The child's store went to \
             a copy of the page, made at that moment, and the parent's page did not change.",
        ),
        (true, false) => (
            Verdict::Qualified,
            "The child's data were its own, but so were the thread's: its store did not reach the first thread.",
        ),
        (false, true) => (
            Verdict::Qualified,
            "The threads shared their data, but so did the processes: the child's store reached its parent.",
        ),
        (false, false) => (
            Verdict::Refuted,
            "The child's store reached its parent, and the thread's store did not reach the first thread.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stores::tests::story, *};

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |thread, child| {
            judge(&story(thread, child, false))
                .expect("decided")
                .verdict
        };
        assert_eq!(verdict(false, true), Verdict::Confirmed);
        assert_eq!(verdict(true, true), Verdict::Qualified);
        assert_eq!(verdict(false, false), Verdict::Qualified);
        assert_eq!(verdict(true, false), Verdict::Refuted);
    }

    #[test]
    fn pagemap_and_the_readers_must_agree() {
        for (mark, key) in [(1, "own"), (2, "in_own"), (3, "own"), (4, "in_own")] {
            let mut seen = story(false, true, false);
            let mark = &mut seen.marks[mark];
            if key == "own" {
                mark.snapshot
                    .frames
                    .values_mut()
                    .for_each(|frame| *frame = Some(if *frame == Some(12) { 10 } else { 99 }));
            } else {
                let other = if mark.values[key] == BY_THREAD && mark.name == "after the child" {
                    BY_CHILD
                } else {
                    0
                };
                mark.values.insert(key.to_owned(), other);
            }
            let found = judge(&seen);
            assert!(
                matches!(found, Err(Undecided::Contradiction(_))),
                "{found:?}"
            );
        }
    }
}
