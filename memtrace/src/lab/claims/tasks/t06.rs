//! T6: a process is the unit of resources, a thread that of scheduling.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        inside::{kcmp_agrees, shares},
        observed::{Mark, Observed},
    },
    trace::event::{Event, ObjectKind},
};

pub const CLAIM: Claim = Claim {
    id: "T6",
    short: "resources: per process; scheduling: per thread",
    book: "A process is the unit to which resources are given, a thread is the unit that is scheduled.",
    experiment: "A program makes two threads and waits for them. memtrace records each time when the scheduler gives \
                 one of its threads a CPU or takes it away, and which objects of the kernel's the threads use.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/sched/core.c: __schedule - picks the next task; it knows tasks, which are threads",
        "kernel/sched/core.c: context_switch - leaves the address space as it is where both tasks have the same",
        "include/linux/sched.h: struct task_struct - its members mm, files and signal lead to what a process's \
         threads share",
    ],
    method: Method::Experiment {
        program: "tasks",
        judge,
    },
};

/// What belongs to the process.
const RESOURCES: [ObjectKind; 3] = [ObjectKind::Mm, ObjectKind::Files, ObjectKind::Signal];

/// Another thread gets a CPU while one waits: that one's leave, and the other's turn.
fn others_turn(seen: &Observed, waits: u32, other: u32) -> Option<(&Event, &Event)> {
    seen.rests(waits)
        .filter(|(_, rests)| !rests.runnable)
        .find_map(|(leaves, _)| {
            let back = seen
                .runs(waits)
                .map(|(event, _)| event.ts)
                .find(|ts| *ts > leaves.ts)?;
            let turn = seen
                .runs(other)
                .map(|(event, _)| event)
                .find(|event| (leaves.ts..back).contains(&event.ts))?;
            Some((leaves, turn))
        })
}

/// /proc must have counted what the trace has.
fn switches_agree(
    evidence: &mut Evidence,
    seen: &Observed,
    threads: &[&Mark],
) -> Result<(), Undecided> {
    // /proc counts how often a thread has left its CPU, up to the mark and a bit longer.
    for mark in threads {
        let Some(thread) = mark
            .snapshot
            .threads
            .iter()
            .find(|thread| thread.tid == mark.tid)
        else {
            continue;
        };
        let counted = thread.switches.0 + thread.switches.1;
        let before = seen
            .rests(mark.tid)
            .filter(|(event, _)| event.ts < mark.ts)
            .count() as u64;
        let all = seen.rests(mark.tid).count() as u64;
        evidence.agree(
            (before..=all).contains(&counted),
            format!(
                "/proc/PID/task/{}/status counts {counted} switches at the thread's mark; the trace has {before} \
                 before it and {all} in all",
                mark.tid
            ),
        )?;
    }
    Ok(())
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let (first, second, end) = (
        seen.mark("first thread")?,
        seen.mark("second thread")?,
        seen.mark("end")?,
    );
    let threads = [end.pid, first.tid, second.tid];
    let turns = threads.map(|tid| seen.runs(tid).count());
    let scheduled = turns.iter().filter(|turns| **turns > 0).count();

    let mut evidence = Evidence::default();
    evidence.say(format!(
        "How often the scheduler gave a CPU to each thread of process {}: {}.",
        end.pid,
        threads
            .iter()
            .zip(turns)
            .map(|(tid, turns)| format!("{turns} times to {tid}"))
            .collect::<Vec<_>>()
            .join(", ")
    ));
    let pairs = threads
        .iter()
        .flat_map(|waits| threads.iter().map(move |other| (*waits, *other)));
    let turn = pairs
        .filter(|(waits, other)| waits != other)
        .find_map(|(waits, other)| others_turn(seen, waits, other));
    if let Some((leaves, turn)) = turn {
        evidence
            .say("A thread waits; that does not keep another thread of the process from getting a CPU:")
            .event(leaves)
            .event(turn);
    }
    for (name, tid) in [("first", first.tid), ("second", second.tid)] {
        evidence
            .say(format!(
                "The birth of the {name} thread that the process makes, with what it shares:"
            ))
            .event(seen.birth(tid)?.0);
    }
    let mut shared = Vec::new();
    for kind in RESOURCES {
        let (one, two) = (seen.birth(first.tid)?.1, seen.birth(second.tid)?.1);
        shared.push((kind, shares(one, kind)? && shares(two, kind)?));
    }
    switches_agree(&mut evidence, seen, &[first, second])?;
    kcmp_agrees(&mut evidence, &[first, second], &shared)?;

    let apart: Vec<_> = shared
        .iter()
        .filter(|(_, shared)| !shared)
        .map(|(kind, _)| kind.name())
        .collect();
    let figure = format!(
        "{scheduled} threads scheduled, {} shared",
        match &apart[..] {
            [] => "all",
            _ if apart.len() == shared.len() => "nothing",
            _ => "not all",
        }
    );
    let by_thread = scheduled == threads.len() && turn.is_some();
    match (by_thread, apart.len()) {
        (true, 0) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "The scheduler gives a CPU to threads, each by itself: one waits while another of the same process runs. \
             The address space, the open files and what else belongs to the process are there once, for all its \
             threads.",
        ),
        (false, all) if all == shared.len() => evidence.decide(
            Verdict::Refuted,
            figure,
            "The threads of the process were not scheduled each by itself, and they don't share its resources.",
        ),
        (false, _) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The process has the resources, but its threads were not scheduled each by itself.",
        ),
        (true, _) => evidence.decide(
            Verdict::Qualified,
            figure,
            format!("Each thread is scheduled by itself, but the threads don't share {}.", apart.join(" and ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{inside::told::row, observed::ThreadSnapshot, story::Story},
        trace::event::{ByObject, EventKind},
    };

    /// Threads 2 and 3 of process 1: whether they get a CPU of their own, and share all resources.
    fn story(by_thread: bool, shared: bool) -> Observed {
        let mut story = Story::default();
        story.runs(1, 1);
        for tid in [2, 3] {
            let birth = story.birth(1, tid, None);
            (birth.thread, birth.child_pid) = (true, 1);
            birth.objects = ByObject(RESOURCES.map(|kind| row(kind, shared)).into());
        }
        story.rests(1, 1);
        for tid in [2, 3] {
            if by_thread {
                story.runs(1, tid);
                story.rests(1, tid);
            }
            let name = if tid == 2 {
                "first thread"
            } else {
                "second thread"
            };
            let snapshot = story.mark(1, name, &[]);
            snapshot.kcmp = [("VM", shared), ("FILES", shared)].into();
            snapshot.threads = vec![ThreadSnapshot {
                tid,
                switches: (u64::from(by_thread), 0),
                ..ThreadSnapshot::default()
            }];
            if let Some(mark) = story.seen().marks.last_mut() {
                mark.tid = tid;
            }
        }
        story.runs(1, 1);
        story.mark(1, "end", &[]);
        story.observed()
    }

    fn verdict(seen: &Observed) -> Verdict {
        judge(seen).expect("decided").verdict
    }

    #[test]
    fn the_verdict_is_that_of_the_turns_and_the_objects() {
        assert_eq!(verdict(&story(true, true)), Verdict::Confirmed);
        assert_eq!(verdict(&story(true, false)), Verdict::Qualified);
        assert_eq!(verdict(&story(false, true)), Verdict::Qualified);
        assert_eq!(verdict(&story(false, false)), Verdict::Refuted);
    }

    #[test]
    fn threads_that_only_run_together_are_not_scheduled_by_themselves() {
        let mut seen = story(true, true);
        seen.events
            .retain(|event| !matches!(event.what, EventKind::SwitchOut(_)));
        for mark in &mut seen.marks {
            mark.snapshot.threads.clear();
        }
        assert_eq!(verdict(&seen), Verdict::Qualified);
    }

    #[test]
    fn other_sources_must_agree() {
        let mut seen = story(true, true);
        seen.marks[0].snapshot.threads[0].switches = (7, 7);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        let mut seen = story(true, true);
        seen.marks[0].snapshot.kcmp.insert("VM", false);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
