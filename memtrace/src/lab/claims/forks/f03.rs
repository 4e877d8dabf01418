//! F3: a child has its own process control block, a copy of its parent's.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::SwitchIn,
};

pub const CLAIM: Claim = Claim {
    id: "F3",
    short: "fork copies the PCB: own task_struct, own pid",
    book: "fork copies the process control block. The child has one of its own, and a process id of its own.",
    experiment: "A program raises its own nice value and forks. memtrace looks at the task_struct of parent \
                 and child, which is Linux's process control block: whether it is the same object, and whether what it \
                 says of the scheduling (policy and nice value) is the same.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: dup_task_struct - takes memory for a new task_struct and copies the parent's into it",
        "kernel/fork.c: copy_process - gives the copy a pid of its own, and resets what a child doesn't inherit",
        "include/linux/sched.h: struct task_struct - what a task consists of",
    ],
    method: Method::Experiment {
        program: "births",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("child of fork")?;
    let child = seen.mark("fork")?.value("child")? as u32;
    let (birth, clone) = seen.birth(child)?;
    let (born_event, born) = seen.born(child)?;
    let (Some(of_parent), Some(of_child)) = (born.task.parent, born.task.child) else {
        return Err(Undecided::because(
            "the task_struct of parent and child was not seen",
        ));
    };
    let parent_runs = seen
        .runs(birth.tid)
        .rfind(|(event, _)| event.ts < birth.ts)
        .ok_or_else(|| {
            Undecided::because("the parent was not seen to get a CPU before the fork")
        })?;
    let child_runs = seen
        .runs(child)
        .next()
        .ok_or_else(|| Undecided::because("the child was not seen to get a CPU"))?;

    let mut evidence = Evidence::default();
    evidence
        .say("The child is born with another pid than its parent, and with another task_struct (task#):")
        .event(birth)
        .event(born_event)
        .say("What the parent's task_struct said of its scheduling when it last got a CPU before the fork:")
        .event(parent_runs.0)
        .say("And the child's when it got a CPU for the first time:")
        .event(child_runs.0);

    evidence.agree(
        (mark.pid == mark.tid && mark.pid != birth.pid) == (clone.child_pid != birth.pid),
        format!(
            "the kernel says that process {} made the child's mark, and that its parent is another process, {}",
            mark.pid, birth.pid
        ),
    )?;
    let by_proc = mark
        .snapshot
        .threads
        .iter()
        .find(|thread| thread.tid == child);
    if let (Some(thread), Some(nice)) = (by_proc, child_runs.1.nice) {
        evidence.agree(
            thread.nice == i64::from(nice),
            format!(
                "/proc/PID/stat shows the nice value {} for the child, the trace shows {nice}",
                thread.nice
            ),
        )?;
    }

    let own_task = of_parent != of_child;
    let own_pid = clone.child_pid != birth.pid;
    let scheduling = |runs: &SwitchIn| (runs.policy.clone(), runs.nice, runs.rt_priority);
    let copied = scheduling(parent_runs.1) == scheduling(child_runs.1);
    let nice = child_runs
        .1
        .nice
        .map_or_else(String::new, |nice| format!(", nice {nice} in both"));
    if !own_task || !own_pid {
        let what = if own_task { "pid" } else { "task_struct" };
        return evidence.decide(
            Verdict::Refuted,
            format!("parent and child share their {what}"),
            format!("The child does not have a {what} of its own."),
        );
    }
    if !copied {
        return evidence.decide(
            Verdict::Qualified,
            format!("task#{of_parent} and task#{of_child}, not alike"),
            "The child has a task_struct and a pid of its own, but what the task_struct says of the scheduling is not \
             a copy of what the parent's says.",
        );
    }
    evidence.decide(
        Verdict::Confirmed,
        format!("task#{of_parent} and task#{of_child}{nice}"),
        "The child has a task_struct of its own with a pid of its own, and what it says of the \
         scheduling is a copy of what the parent's says.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{observed::ThreadSnapshot, story::Story};

    /// The child, 2, has the `task_struct` `task`, and this nice value; its parent has task 1, and nice 5.
    fn story(task: u32, nice: i32) -> Observed {
        let mut story = Story::default();
        story.runs(1, 1).nice = Some(5);
        story.birth(1, 2, None);
        story.born(1, 2, &[]).task.child = Some(task);
        story.runs(2, 2).nice = Some(nice);
        story.mark(2, "child of fork", &[]).threads = vec![ThreadSnapshot {
            tid: 2,
            nice: nice.into(),
            ..ThreadSnapshot::default()
        }];
        story.mark(1, "fork", &[("child", 2)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_objects() {
        let verdict = |task, nice| judge(&story(task, nice)).expect("decided").verdict;
        assert_eq!(verdict(2, 5), Verdict::Confirmed);
        assert_eq!(verdict(1, 5), Verdict::Refuted);
        assert_eq!(verdict(2, 0), Verdict::Qualified);
    }

    #[test]
    fn the_kernel_must_say_the_same_elsewhere() {
        let mut seen = story(2, 5);
        seen.marks[0].snapshot.threads[0].nice = 7;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        let mut seen = story(2, 5);
        (seen.marks[0].pid, seen.marks[0].tid) = (1, 1);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
