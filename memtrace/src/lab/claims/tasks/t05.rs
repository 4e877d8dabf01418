//! T5: what a thread has for itself.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        inside::{kcmp_agrees, shares},
        observed::{Mark, Observed},
    },
    trace::event::{Clone, Event, EventKind, Events, Mmap, ObjectKind, SwitchIn},
};

pub const CLAIM: Claim = Claim {
    id: "T5",
    short: "own: id, registers, stack, policy, thread-local",
    book: "Private to a thread are its id, its registers, its stack, its scheduling policy and priority, and its \
           thread-local data. All else it shares with the other threads of its process.",
    experiment: "A program makes two threads. Each writes to its own stack and to its own thread-local variable, and \
                 chooses its own scheduling policy and nice value. memtrace looks at what the scheduler has for each \
                 when it gives it a CPU, and at the objects that were shared at its birth.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: copy_process - for each part of a task: a copy, or with its CLONE_ flag the parent's own",
        "arch/x86/kernel/process.c: copy_thread - the new thread's registers, and with CLONE_SETTLS its thread pointer",
        "kernel/sched/core.c: sched_fork - how the new task is scheduled",
        "pthreads(7) - which attributes the threads of a process share",
    ],
    method: Method::Experiment {
        program: "tasks",
        judge,
    },
};

/// What threads of a process have to share.
const SHARED: [ObjectKind; 6] = [
    ObjectKind::Mm,
    ObjectKind::Files,
    ObjectKind::Fs,
    ObjectKind::Sighand,
    ObjectKind::Signal,
    ObjectKind::Group,
];

/// A thread at its mark.
struct Thread<'a> {
    mark: &'a Mark,
    birth: (&'a Event, &'a Clone),
    /// The mapping of its stack.
    stack: (&'a Event, &'a Mmap),
    /// When it got a CPU for the last time before its end: by then it was scheduled as it had asked for. While it ends
    /// it loses what it had, its thread pointer first, and that before its exit is told of (`deactivate_mm`).
    runs: (&'a Event, &'a SwitchIn),
}

impl<'a> Thread<'a> {
    fn find(seen: &'a Observed, name: &str) -> Result<Self, Undecided> {
        let mark = seen.mark(name)?;
        let address = mark.value("stack")?;
        let stack = seen
            .events
            .iter()
            .filter(|event| event.pid == mark.pid && event.ts < mark.ts)
            .filter_map(|event| match &event.what {
                EventKind::Mmap(mmap) => Some((event, mmap)),
                _ => None,
            })
            .rfind(|(_, mmap)| (mmap.addr.0..mmap.addr.0 + mmap.len).contains(&address))
            .ok_or_else(|| Undecided::because("the mapping of a thread's stack was not seen"))?;
        let end = seen.exits().find(|(event, _)| event.tid == mark.tid);
        let end = end.map_or(u64::MAX, |(event, _)| event.ts);
        let runs = seen
            .runs(mark.tid)
            .rfind(|(event, runs)| event.ts < end && runs.tls.0 != 0)
            .ok_or_else(|| Undecided::because("a thread was not seen to get a CPU"))?;
        Ok(Self {
            mark,
            birth: seen.birth(mark.tid)?,
            stack,
            runs,
        })
    }

    /// /proc and the program must agree with the trace.
    fn check(&self, evidence: &mut Evidence) -> Result<(), Undecided> {
        let (mark, runs) = (self.mark, self.runs.1);
        evidence.agree(
            mark.value("pointer")? == runs.tls.0,
            format!(
                "in thread {} the thread pointer is {}, in the program as in the trace",
                mark.tid, runs.tls
            ),
        )?;
        let thread = mark
            .snapshot
            .threads
            .iter()
            .find(|thread| thread.tid == mark.tid);
        if let (Some(thread), Some(policy), Some(nice)) = (thread, &runs.policy, runs.nice) {
            evidence.agree(
                number(policy).is_none_or(|number| number == thread.policy) && thread.nice == i64::from(nice),
                format!(
                    "/proc/PID/task/{}/stat shows policy {} and nice value {}: {policy} and {nice} in the trace",
                    mark.tid, thread.policy, thread.nice
                ),
            )?;
        }
        Ok(())
    }
}

/// A policy's number in /proc (`include/uapi/linux/sched.h`).
fn number(policy: &str) -> Option<u32> {
    let known = [
        ("SCHED_OTHER", 0),
        ("SCHED_FIFO", 1),
        ("SCHED_RR", 2),
        ("SCHED_BATCH", 3),
        ("SCHED_IDLE", 5),
    ];
    known
        .into_iter()
        .find_map(|(name, number)| (name == policy).then_some(number))
}

/// What the notes list, and whether the two threads have each their own of it.
fn private(one: &Thread, two: &Thread) -> Result<[(&'static str, bool); 5], Undecided> {
    let differs = |of: fn(&SwitchIn) -> String| of(one.runs.1) != of(two.runs.1);
    Ok([
        ("id", one.birth.1.child_tid != two.birth.1.child_tid),
        ("stack", one.stack.1.addr != two.stack.1.addr),
        (
            "registers (the thread pointer)",
            differs(|runs| runs.tls.to_string()),
        ),
        (
            "scheduling policy and priority",
            differs(|runs| format!("{:?} {:?} {}", runs.policy, runs.nice, runs.rt_priority)),
        ),
        ("thread-local variable", {
            // It lies as far from the thread pointer in each.
            let distance = |thread: &Thread| -> Result<u64, Undecided> {
                Ok(thread.runs.1.tls.0.wrapping_sub(thread.mark.value("own")?))
            };
            distance(one)? == distance(two)? && one.runs.1.tls != two.runs.1.tls
        }),
    ])
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let (one, two) = (
        Thread::find(seen, "first thread")?,
        Thread::find(seen, "second thread")?,
    );
    let private = private(&one, &two)?;
    let mut shared = Vec::new();
    for kind in SHARED {
        shared.push((
            kind,
            shares(one.birth.1, kind)? && shares(two.birth.1, kind)?,
        ));
    }

    let mut evidence = Evidence::default();
    for (name, thread) in [("first", &one), ("second", &two)] {
        evidence
            .say(format!(
                "The {name} thread. Its stack is mapped, it is born (look at what it shares), it writes to its stack, \
                 and it gets a CPU (look at the thread pointer, the policy and the nice value):"
            ))
            .event(thread.stack.0)
            .event(thread.birth.0);
        let touch = seen
            .faults_at(thread.mark.pid, thread.mark.value("stack")?)
            .find(|(event, _)| event.tid == thread.mark.tid);
        if let Some((event, _)) = touch {
            evidence.event(event);
        }
        evidence.event(thread.runs.0);
    }
    evidence.say(format!(
        "The thread-local variable has one name in the program and the addresses {:#x} and {:#x}: each as far from the \
         thread pointer of its thread.",
        one.mark.value("own")?,
        two.mark.value("own")?
    ));
    for thread in [&one, &two] {
        thread.check(&mut evidence)?;
    }
    kcmp_agrees(&mut evidence, &[one.mark, two.mark], &shared)?;

    let missing: Vec<_> = private
        .iter()
        .filter(|(_, own)| !own)
        .map(|(what, _)| *what)
        .collect();
    let apart: Vec<_> = shared
        .iter()
        .filter(|(_, shared)| !shared)
        .map(|(kind, _)| kind.name())
        .collect();
    let figure = format!(
        "{} of {} own, {} of {} shared",
        private.len() - missing.len(),
        private.len(),
        shared.len() - apart.len(),
        shared.len()
    );
    if missing.len() == private.len() {
        return evidence.decide(
            Verdict::Refuted,
            figure,
            "The threads have nothing of it for themselves.",
        );
    }
    if !missing.is_empty() || !apart.is_empty() {
        let part = |what: &str, names: &[&str]| match names {
            [] => String::new(),
            names => format!(" {what}: {}.", names.join(", ")),
        };
        return evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "Not all is as the notes say.{}{}",
                part("The same in both threads", &missing),
                part("Not shared by the threads", &apart)
            ),
        );
    }
    evidence.decide(
        Verdict::Confirmed,
        figure,
        "Each of the two threads has its own of all that the notes list. The address space, the open files, the \
         working directory, the signal handlers and the rest of the process are one for both. So a thread's stack is \
         private only by custom: it lies in the memory that all share. (On Linux the nice value is each thread's own, \
         too; POSIX has one for the process.)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{inside::told::row, observed::ThreadSnapshot, story::Story},
        trace::event::{Address, By, ByObject, Returned},
    };

    /// Threads 2 and 3 of process 1.
    fn story() -> Observed {
        let mut story = Story::default();
        for (tid, name, policy, number) in [
            (2, "first thread", "SCHED_OTHER", 0),
            (3, "second thread", "SCHED_BATCH", 3),
        ] {
            let stack = u64::from(tid) << 20;
            let mmap = Mmap {
                addr: Address(stack),
                len: 0x8000,
                prot: Vec::new(),
                flags: Vec::new(),
                file: None,
                offset: None,
                ret: Returned::Address(Address(stack)),
                by: By::Call,
                region: None,
                resident: None,
                private: None,
            };
            story.event(1, EventKind::Mmap(mmap));
            let birth = story.birth(1, tid, None);
            (birth.thread, birth.child_pid) = (true, 1);
            birth.objects = ByObject(SHARED.map(|kind| row(kind, true)).into());
            let pointer = stack + 0x7000;
            let nice = tid.cast_signed() * 5;
            let runs = story.runs(1, tid);
            (runs.tls, runs.policy, runs.nice) =
                (Address(pointer), Some(policy.into()), Some(nice));
            let values = [
                ("stack", stack + 0x6000),
                ("own", pointer - 8),
                ("pointer", pointer),
            ];
            let snapshot = story.mark(1, name, &values);
            snapshot.kcmp = [
                ("VM", true),
                ("FILES", true),
                ("FS", true),
                ("SIGHAND", true),
            ]
            .into();
            snapshot.threads = vec![ThreadSnapshot {
                tid,
                policy: number,
                nice: nice.into(),
                ..ThreadSnapshot::default()
            }];
            if let Some(mark) = story.seen().marks.last_mut() {
                mark.tid = tid;
            }
        }
        story.observed()
    }

    fn verdict(seen: &Observed) -> Verdict {
        judge(seen).expect("decided").verdict
    }

    #[test]
    fn the_verdict_is_that_of_the_threads() {
        assert_eq!(verdict(&story()), Verdict::Confirmed);
        // One thing that both have, and no source that says otherwise.
        let mut seen = story();
        for event in &mut seen.events {
            if let EventKind::SwitchIn(runs) = &mut event.what {
                (runs.policy, runs.nice) = (None, None);
            }
        }
        assert_eq!(verdict(&seen), Verdict::Qualified);
        let mut seen = story();
        for event in &mut seen.events {
            if let EventKind::Clone(clone) = &mut event.what {
                clone.objects.0[5] = row(ObjectKind::Group, false);
            }
        }
        assert_eq!(verdict(&seen), Verdict::Qualified);
    }

    #[test]
    fn threads_that_have_all_in_common_refute_it() {
        let mut seen = story();
        let first = seen.marks[0].values.clone();
        for mark in &mut seen.marks {
            (mark.tid, mark.values) = (2, first.clone());
            mark.snapshot.threads.clear();
        }
        assert_eq!(verdict(&seen), Verdict::Refuted);
    }

    #[test]
    fn other_sources_must_agree() {
        let changes: [fn(&mut Mark); 4] = [
            |mark| mark.values.extend([("pointer".into(), 0)]),
            |mark| mark.snapshot.threads[0].policy = 1,
            |mark| mark.snapshot.threads[0].nice = 1,
            |mark| mark.snapshot.kcmp.extend([("FILES", false)]),
        ];
        for change in changes {
            let mut seen = story();
            change(&mut seen.marks[1]);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
