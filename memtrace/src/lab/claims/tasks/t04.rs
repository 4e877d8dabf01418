//! T4: what a crash takes with it.

use std::collections::BTreeSet;

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Exit, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "T4",
    short: "a crash ends one process, but all of its threads",
    book: "Processes do not harm each other: one that crashes leaves the others alone. But when one thread crashes, \
           all threads of its process end.",
    experiment: "A program makes a child process, which stores to address 0, where nothing is mapped. Then it makes \
                 another child with four threads, and one of the four does the same while the others sleep. The parent \
                 waits for both.",
    expected: &[Verdict::Confirmed],
    read: &[
        "arch/x86/mm/fault.c: bad_area_nosemaphore - sends SIGSEGV to the thread whose access failed",
        "kernel/signal.c: get_signal - the thread takes the signal, and ends its whole group by do_group_exit",
        "kernel/exit.c: do_group_exit, kernel/signal.c: zap_other_threads - tell each other thread to end",
        "signal(7): Core, Term - what a signal does to the process",
    ],
    method: Method::Experiment {
        program: "crash",
        judge,
    },
};

/// SIGSEGV
const CRASH: u64 = 11;

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let [alone, in_group] = marks(seen)?;
    let mut evidence = Evidence::default();
    let survives = process(seen, alone, &mut evidence)?;
    let (dead, threads) = thread(seen, in_group, &mut evidence)?;
    let figure = format!(
        "parent {}; {} of {} threads ended",
        if survives { "lives" } else { "dies" },
        dead,
        threads
    );
    let (verdict, why) = match (survives, dead == threads) {
        (true, true) => (
            Verdict::Confirmed,
            "The crash of a process ended that process alone. The crash of a thread ended every thread of its process: \
             they have one memory, and nobody can know what the broken thread has done to it, so the kernel ends the \
             group as a whole.",
        ),
        (true, false) => (
            Verdict::Qualified,
            "The parent lived on, but so did threads of the process of which one had crashed.",
        ),
        (false, true) => (
            Verdict::Qualified,
            "All threads of a process ended with one, but the parent of a crashed process did not live on, either.",
        ),
        (false, false) => (
            Verdict::Refuted,
            "The parent did not outlive its child's crash, and threads lived on after a crash of one.",
        ),
    };
    evidence.decide(verdict, figure, why)
}

/// A process crashes. Whether its parent lives on.
fn process(seen: &Observed, mark: &Mark, evidence: &mut Evidence) -> Result<bool, Undecided> {
    evidence.say("The child's store to address 0 was a page fault that could not be resolved. It became SIGSEGV, and the child ended:");
    evidence.event(crash(seen, mark)?);
    let childs = ends(seen, mark.pid);
    for (event, _) in &childs {
        evidence.event(event);
    }
    let parent = seen.birth(mark.pid)?.0.pid;
    let parents_ends = ends(seen, parent);
    let killed = parents_ends.iter().find(|(_, exit)| exit.signal.is_some());
    let survives = killed.is_none();
    match parents_ends.first() {
        Some((event, _)) if survives => {
            evidence
                .say(format!(
                    "The parent, process {parent}, ended later, of itself:"
                ))
                .event(event);
        }
        Some((event, _)) => {
            evidence
                .say(format!(
                    "The parent, process {parent}, was ended by a signal, too:"
                ))
                .event(event);
        }
        None => return Err(Undecided::because("the parent's end was not seen")),
    }
    evidence.agree(
        (seen.status == 0) == survives,
        format!("the status with which the parent ended is {}", seen.status),
    )?;
    if let Some(after) = seen.marks("after the process's crash").next() {
        evidence.agree(
            after.value("signal")? == CRASH,
            "the parent learnt from wait(2) that signal 11, SIGSEGV, had ended the child",
        )?;
    }
    Ok(survives)
}

/// A thread crashes. How many of its process's threads end, and how many there are.
fn thread(
    seen: &Observed,
    mark: &Mark,
    evidence: &mut Evidence,
) -> Result<(usize, usize), Undecided> {
    let group = mark.pid;
    let threads: BTreeSet<_> = seen
        .clones()
        .filter(|(_, clone)| clone.child_pid == group)
        .map(|(_, clone)| clone.child_tid)
        .collect();
    let fault = crash(seen, mark)?;
    evidence
        .say(format!(
            "In process {group}, with {} threads, thread {} did the same:",
            threads.len(),
            mark.tid
        ))
        .event(fault);
    let ends = ends(seen, group);
    let dead: BTreeSet<_> = ends
        .iter()
        .filter(|(event, exit)| event.ts > fault.ts && exit.signal.is_some())
        .map(|(event, _)| event.tid)
        .collect();
    evidence.say(format!(
        "{} of its {} threads were ended by a signal then:",
        dead.len(),
        threads.len()
    ));
    for (event, _) in &ends {
        evidence.event(event);
    }
    evidence.agree(
        mark.snapshot.threads.len() == threads.len(),
        format!(
            "/proc/{group}/task showed {} threads before the crash",
            mark.snapshot.threads.len()
        ),
    )?;
    let all = dead == threads;
    if let Some(after) = seen.marks("after the thread's crash").next() {
        evidence.agree(
            (after.value("signal")? == CRASH) == all,
            "the parent learnt from wait(2) that signal 11 had ended the whole process",
        )?;
    }
    Ok((threads.intersection(&dead).count(), threads.len()))
}

/// The two that are about to crash.
fn marks(seen: &Observed) -> Result<[&Mark; 2], Undecided> {
    let marks: Vec<_> = seen.marks("about to crash").collect();
    <[_; 2]>::try_from(marks).map_err(|_| Undecided::because("there were not two that crashed"))
}

/// The fault of who is about to crash.
fn crash<'a>(seen: &'a Observed, mark: &Mark) -> Result<&'a Event, Undecided> {
    seen.faults_at(mark.pid, mark.value("at")?)
        .find(|(event, fault)| {
            event.tid == mark.tid
                && fault.kind == FaultKind::Invalid
                && fault.signal.map(u64::from) == Some(CRASH)
        })
        .map(|(event, _)| event)
        .ok_or_else(|| Undecided::because("the fault that ends in SIGSEGV was not seen"))
}

/// The ends of a process's threads.
fn ends(seen: &Observed, pid: u32) -> Vec<(&Event, &Exit)> {
    seen.exits().filter(|(event, _)| event.pid == pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{observed::ThreadSnapshot, story::Story},
        trace::event::{Copied, EventKind},
    };

    fn crash(story: &mut Story, pid: u32, tid: u32, threads: usize) {
        story.mark(pid, "about to crash", &[("at", 0)]).threads =
            vec![ThreadSnapshot::default(); threads];
        story.seen().marks.last_mut().expect("one").tid = tid;
        story.fault(pid, 0, FaultKind::Invalid, 0, 0).signal = Some(11);
        story.seen().events.last_mut().expect("one").tid = tid;
    }

    /// Process 1; its child 2 crashes; its child 3 has the threads 3, 4, 5, 6, and so many end when 6 crashes.
    fn story(parent_dies: bool, dead: usize) -> Observed {
        let mut story = Story::default();
        let copied = Some(Copied::default());
        story.birth(1, 2, copied);
        crash(&mut story, 2, 2, 1);
        story.exit(2, None, Some(11));
        story.mark(1, "after the process's crash", &[("signal", 11)]);
        story.birth(1, 3, copied);
        for tid in 4..=6 {
            let thread = story.birth(3, tid, None);
            (thread.thread, thread.child_pid) = (true, 3);
        }
        crash(&mut story, 3, 6, 4);
        for tid in [6, 5, 4, 3].into_iter().take(dead) {
            let exit = Exit {
                code: None,
                signal: Some(11),
                core: false,
                thread: tid != 3,
                by_exec: None,
            };
            story.thread_event(3, tid, EventKind::Exit(exit));
        }
        let signal = if dead == 4 { 11 } else { 0 };
        story.mark(1, "after the thread's crash", &[("signal", signal)]);
        if parent_dies {
            story.exit(1, None, Some(11));
            story.seen().status = 11;
        } else {
            story.exit(1, Some(0), None);
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict =
            |parent_dies, dead| judge(&story(parent_dies, dead)).expect("decided").verdict;
        assert_eq!(verdict(false, 4), Verdict::Confirmed);
        assert_eq!(verdict(false, 1), Verdict::Qualified);
        assert_eq!(verdict(true, 4), Verdict::Qualified);
        assert_eq!(verdict(true, 3), Verdict::Refuted);
    }

    #[test]
    fn wait_and_proc_must_agree() {
        let alter: [fn(&mut Observed); 4] = [
            |seen| seen.status = 11,
            |seen| seen.marks[1].values.extend([("signal".to_owned(), 9)]),
            |seen| seen.marks[2].snapshot.threads.clear(),
            |seen| seen.marks[3].values.extend([("signal".to_owned(), 0)]),
        ];
        for alter in alter {
            let mut seen = story(false, 4);
            alter(&mut seen);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }

    #[test]
    fn nothing_is_said_of_a_crash_that_was_not_seen() {
        let mut seen = story(false, 4);
        seen.events
            .retain(|event| !matches!(event.what, EventKind::Fault(_)));
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
