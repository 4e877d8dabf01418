//! T8: processes and threads are the same kind of thing.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        inside::{kcmp_agrees, shares},
        observed::Observed,
    },
    trace::event::{BirthDetail, ObjectKind},
};

pub const CLAIM: Claim = Claim {
    id: "T8",
    short: "process and thread: both a task_struct",
    book: "For Linux a process and a thread are the same kind of thing, a task_struct. The difference is whether the \
           user space is shared with another or not.",
    experiment: "A program makes a process by fork and a thread by pthread_create. memtrace looks at the task_struct, \
                 the kernel stack and the address space of each at its birth, and whether the scheduler treats them \
                 alike.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: copy_process - makes both; the flags say what is shared",
        "include/linux/sched.h: struct task_struct - its member mm leads to the user space",
        "clone(2), CLONE_VM and CLONE_THREAD",
    ],
    method: Method::Experiment {
        program: "tasks",
        judge,
    },
};

/// Whether a task has a `task_struct` and a kernel stack of its own.
fn own(born: &BirthDetail) -> Result<bool, Undecided> {
    let (Some(of_parent), Some(of_child)) = (born.task.parent, born.task.child) else {
        return Err(Undecided::because(
            "the task_struct of parent and child was not seen",
        ));
    };
    let stack = born.kernel_stack;
    Ok(of_parent != of_child && (stack.child.is_none() || stack.parent != stack.child))
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let tasks = [
        ("process", seen.mark("process")?),
        ("thread", seen.mark("first thread")?),
    ];
    let mut evidence = Evidence::default();
    let (mut all_own, mut all_run) = (true, true);
    let mut mms = Vec::new();
    let mut numbers = Vec::new();
    for (what, mark) in tasks {
        let (birth, clone) = seen.birth(mark.tid)?;
        let (born_event, born) = seen.born(mark.tid)?;
        let shared = shares(clone, ObjectKind::Mm)?;
        let turn = seen.runs(mark.tid).next();
        evidence
            .say(format!("The {what}: its birth, the task_struct and kernel stack that it gets, and its first turn on \
                          a CPU:"))
            .event(birth)
            .event(born_event);
        if let Some((event, _)) = turn {
            evidence.event(event);
        }
        kcmp_agrees(&mut evidence, &[mark], &[(ObjectKind::Mm, shared)])?;
        all_own &= own(born)?;
        all_run &= turn.is_some();
        mms.push(shared);
        numbers.push(born.task.child.unwrap_or_default());
    }
    let [in_process, in_thread] = mms[..] else {
        return Err(Undecided::because("there are not two tasks to compare"));
    };
    let word = |shared: bool| if shared { "shared" } else { "own" };
    let figure = format!(
        "task#{} mm {}, task#{} mm {}",
        numbers[0],
        word(in_process),
        numbers[1],
        word(in_thread)
    );
    if !all_own || !all_run {
        return evidence.decide(
            Verdict::Refuted,
            figure,
            "Not both of them have a task_struct and a kernel stack of their own, and a turn on a CPU.",
        );
    }
    if (in_process, in_thread) != (false, true) {
        return evidence.decide(
            Verdict::Qualified,
            figure,
            "Both have a task_struct of their own, but whether the user space is shared is not what tells them apart.",
        );
    }
    evidence.decide(
        Verdict::Confirmed,
        figure,
        "Each is born the same way, has a task_struct and a kernel stack of its own, and is given a CPU by the same \
         scheduler. The process has its own address space, the thread that of the task that made it. (A thread that \
         the C library makes shares more than that, as its flags say: open files, signal handlers, the thread group.)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{inside::told::row, story::Story},
        trace::event::{ByObject, EventKind},
    };

    /// Process 2 and thread 3 of process 1: whether each shares its address space, and the `task_struct` of the thread.
    fn story(shared: [bool; 2], task: u32) -> Observed {
        let mut story = Story::default();
        for (tid, (pid, name), shared) in [
            (2, (2, "process"), shared[0]),
            (3, (1, "first thread"), shared[1]),
        ] {
            let birth = story.birth(1, tid, None);
            (birth.thread, birth.child_pid) = (pid == 1, pid);
            birth.objects = ByObject(vec![row(ObjectKind::Mm, shared)]);
            let born = story.born(1, tid, &[]);
            if tid == 3 {
                born.task.child = Some(task);
            }
            story.runs(pid, tid);
            story.mark(pid, name, &[]).kcmp = [("VM", shared)].into();
            if let Some(mark) = story.seen().marks.last_mut() {
                mark.tid = tid;
            }
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_objects() {
        let verdict = |shared, task| judge(&story(shared, task)).expect("decided").verdict;
        assert_eq!(verdict([false, true], 3), Verdict::Confirmed);
        assert_eq!(verdict([false, false], 3), Verdict::Qualified);
        assert_eq!(verdict([true, true], 3), Verdict::Qualified);
        assert_eq!(verdict([false, true], 1), Verdict::Refuted);
        let mut seen = story([false, true], 3);
        seen.events
            .retain(|event| event.tid != 3 || !matches!(event.what, EventKind::SwitchIn(_)));
        assert_eq!(judge(&seen).expect("decided").verdict, Verdict::Refuted);
    }

    #[test]
    fn kcmp_must_agree() {
        for at in [0, 1] {
            let mut seen = story([false, true], 3);
            seen.marks[at].snapshot.kcmp.insert("VM", at == 0);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
