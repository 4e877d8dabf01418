//! T7: threads share variables directly, processes need shared memory.

use super::stores::{BY_CHILD, BY_THREAD, Stores};
use crate::lab::{
    claim::{Claim, Method},
    finding::{Evidence, Finding, Undecided, Verdict},
    observed::Observed,
};

pub const CLAIM: Claim = Claim {
    id: "T7",
    short: "threads share variables, processes need IPC for it",
    book: "Threads, and a thread and the one that made it, share the variables in memory directly. Processes do not: \
           they need some means of interprocess communication, such as shared memory.",
    experiment: "A program has two pages: one mapped with MAP_PRIVATE, as all variables are, and one with MAP_SHARED. \
                 A second thread stores to the private one. Then a child process stores to both. After each the first \
                 thread reads both.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/memory.c: vma_needs_copy - which mappings fork copies the page tables of; shared ones it need not",
        "mm/shmem.c: shmem_fault - finds the page of shared memory for who touches it, whichever process that is",
        "mmap(2): MAP_SHARED and MAP_PRIVATE; shm_overview(7)",
    ],
    method: Method::Experiment {
        program: "stores",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let run = Stores::of(seen)?;
    let (own, common) = (run.ready.value("own")?, run.ready.value("common")?);
    let (own_first, own_frame) = run.first(own)?;
    let (common_first, common_frame) = run.first(common)?;
    let mut evidence = Evidence::default();
    evidence
        .say("The first stores of the parent, to the private page and to the shared one, each gave it a frame:")
        .event(own_first)
        .event(common_first);

    // The thread and the private page.
    let threads_copy = run.threads_copy(own);
    let direct = run.thread.1.shared.mm && threads_copy.is_none();
    match threads_copy {
        Some((event, _)) => evidence.say("The thread's store gave it another frame for the private page:").event(event),
        None => evidence.say(format!(
            "The thread stored to the private page without a fault: it has the page in frame {own_frame:#x}, as its \
             maker has."
        )),
    };
    evidence.agree(
        (run.after_thread.value("in_own")? == BY_THREAD) == direct,
        format!(
            "the first thread {} what the second had stored",
            read(direct)
        ),
    )?;

    // The child and the private page.
    let copy = run.childs_copy(own);
    let parted = copy.is_some_and(|(_, fault)| {
        fault.pfn_before == Some(own_frame) && fault.pfn_after != fault.pfn_before
    });
    match copy {
        Some((event, _)) => evidence
            .say("The child's store to the private page: up to then it had the parent's frame, from then on its own:")
            .event(event),
        None => evidence.say("The child's store to the private page copied nothing."),
    };

    // The child and the shared page.
    let touched = run.childs_fault(common);
    let childs_frame = match touched {
        Some((event, fault)) => {
            evidence
                .say(format!(
                    "The child's store to the shared page. The parent has it in frame {common_frame:#x}; the child \
                     gets:"
                ))
                .event(event);
            fault.pfn_after
        }
        // The fork has copied the entry of the page table.
        None => run.by_child.frame("common")?,
    };
    let joined = childs_frame == Some(common_frame);

    let frames = |key| -> Result<bool, Undecided> {
        Ok(run.by_child.frame(key)? == run.after_child.frame(key)?)
    };
    evidence.agree(
        frames("own")? != parted && frames("common")? == joined,
        format!(
            "/proc/PID/pagemap shows {} of the private page, and {} of the shared one, for child and parent after the \
             child's stores",
            if parted { "different frames" } else { "the same frame" },
            if joined { "the same frame" } else { "different frames" },
        ),
    )?;
    evidence.agree(
        (run.after_child.value("in_own")? == BY_CHILD) != parted
            && (run.after_child.value("in_common")? == BY_CHILD) == joined,
        format!(
            "the parent {} what the child had stored to the private page, and {} what it had stored to the shared one",
            read(!parted),
            read(joined)
        ),
    )?;

    let figure = format!(
        "private: {}, shared: {}",
        if parted { "2 frames" } else { "1 frame" },
        if joined { "1 frame" } else { "2 frames" },
    );
    let (verdict, why) = conclude(direct, parted, joined);
    evidence.decide(verdict, figure, why)
}

/// From whether the thread shared the variable, the private page parted, and the shared one did not.
const fn conclude(direct: bool, parted: bool, joined: bool) -> (Verdict, &'static str) {
    match (direct, parted && joined) {
        (true, true) => (
            Verdict::Confirmed,
            "The thread needed nothing to share a variable. The processes parted at the first store to ordinary \
             memory; only in the page that was mapped as shared they kept one frame, so that each sees what the other \
             stores.",
        ),
        (false, false) => (
            Verdict::Refuted,
            "The thread did not share the variable, and the processes were not kept apart by private memory, or not \
             brought together by shared memory.",
        ),
        (true, false) => (
            Verdict::Qualified,
            if parted {
                "The threads shared the variable, and private memory kept the processes apart; but shared memory did \
                 not bring them together."
            } else {
                "The threads shared the variable; but so did the processes, without any shared memory."
            },
        ),
        (false, true) => (
            Verdict::Qualified,
            "It is as said for processes, but the thread did not share the variable.",
        ),
    }
}

const fn read(it: bool) -> &'static str {
    if it { "read" } else { "did not read" }
}

#[cfg(test)]
mod tests {
    use super::{super::stores::tests::story, *};

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |thread, child, common| {
            let finding = judge(&story(thread, child, common)).expect("decided");
            finding.verdict
        };
        assert_eq!(verdict(false, true, false), Verdict::Confirmed);
        assert_eq!(verdict(false, false, false), Verdict::Qualified);
        assert_eq!(verdict(false, true, true), Verdict::Qualified);
        assert_eq!(verdict(true, true, false), Verdict::Qualified);
        assert_eq!(verdict(true, false, true), Verdict::Refuted);
    }

    #[test]
    fn pagemap_and_the_readers_must_agree() {
        let alter: [fn(&mut Observed); 3] = [
            |seen| {
                seen.marks[2].values.insert("in_own".to_owned(), 0);
            },
            |seen| {
                seen.marks[3]
                    .snapshot
                    .frames
                    .values_mut()
                    .for_each(|frame| *frame = Some(5));
            },
            |seen| {
                seen.marks[4].values.insert("in_common".to_owned(), 0);
            },
        ];
        for alter in alter {
            let mut seen = story(false, true, false);
            alter(&mut seen);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
