//! F1: no call makes a process from nothing: it is copied from another, then exec gives it its program.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Clone, Event, Events, Exec},
};

pub const CLAIM: Claim = Claim {
    id: "F1",
    short: "a process is copied from one, then execs",
    book: "A process can't be made directly, as there is no such call. It can only be copied from another process; then \
           a call of the exec family switches it to the program that is really to run.",
    experiment: "A program starts a shell by posix_spawn(3), which looks as if it made a process from a file. The shell \
                 runs a pipeline of three programs. For each task that comes up the trace must show its birth, and \
                 which came first: its birth or its exec.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: copy_process - every task begins as a copy of the one that calls it",
        "fs/exec.c: begin_new_exec - throws the old program out of the task that calls it",
        "clone(2), execve(2), posix_spawn(3)",
    ],
    method: Method::Experiment {
        program: "pipeline",
        judge,
    },
};

/// A task, as the trace saw it come up.
struct Task<'a> {
    pid: u32,
    birth: Option<(&'a Event, &'a Clone)>,
    exec: Option<(&'a Event, &'a Exec)>,
}

impl Task<'_> {
    fn born_then_exec(&self) -> bool {
        match (self.birth, self.exec) {
            (Some((birth, _)), Some((exec, _))) => birth.ts < exec.ts,
            _ => false,
        }
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the shell")?;
    let last = seen.mark("end of the pipeline")?;
    let after = seen.mark("the shell has ended")?;
    if after.value("status")? != 0 {
        return Err(Undecided::because("the shell could not run the pipeline"));
    }
    let tasks = tasks(seen, before.pid);
    if tasks.len() < 4 {
        return Err(Undecided::because(
            "the shell ran the pipeline with fewer tasks than one for itself and one for each program",
        ));
    }

    let mut evidence = Evidence::default();
    evidence.say(format!(
        "Besides the program itself, process {}, the trace shows {} tasks. Each was born of one that was there, by a \
         clone; then it did exec:",
        before.pid,
        tasks.len()
    ));
    for task in &tasks {
        for event in [
            task.birth.map(|(event, _)| event),
            task.exec.map(|(event, _)| event),
        ]
        .into_iter()
        .flatten()
        {
            evidence.event(event);
        }
    }
    let (of_last, _) = seen.birth(last.pid)?;
    let parent = last.value("parent")?;
    evidence.agree(
        u64::from(of_last.pid) == parent,
        format!(
            "getppid(2) told the last program of the pipeline, process {}, that its parent is {parent}, and in the \
             trace it was born of {}",
            last.pid, of_last.pid
        ),
    )?;

    let as_claimed = tasks.iter().filter(|task| task.born_then_exec()).count();
    let figure = format!("{as_claimed} of {} tasks: clone, then exec", tasks.len());
    let from_nothing = tasks
        .iter()
        .any(|task| task.birth.is_none() || task.exec.is_some() && !task.born_then_exec());
    if from_nothing {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "There was a task that ran a program before any clone had made the task.",
        )
    } else if as_claimed < tasks.len() {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "Every task was born of another by a clone, but not every one did exec: such a task goes on with the \
             program of its parent.",
        )
    } else {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "No task came from nothing. Even posix_spawn is a clone and then an exec: the C library calls both, one \
             after the other.",
        )
    }
}

/// All tasks but the first, in the order in which they came up.
fn tasks(seen: &Observed, first: u32) -> Vec<Task<'_>> {
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for event in &seen.events {
        if event.pid == first || tasks.iter().any(|task| task.pid == event.pid) {
            continue;
        }
        let pid = event.pid;
        tasks.push(Task {
            pid,
            birth: seen.clones().find(|(_, clone)| clone.child_pid == pid),
            exec: seen.execs().find(|(event, _)| event.pid == pid),
        });
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::EventKind};

    /// The program is process 1, the shell 2, the rest its children.
    fn story() -> Observed {
        let mut story = Story::default();
        story.mark(1, "before the shell", &[]);
        story.birth(1, 2, None);
        story.exec(2, "/bin/sh");
        for child in 3..=5 {
            story.birth(2, child, None);
            story.exec(child, "/bin/ls");
            story.exit(child, Some(0), None);
        }
        story.mark(5, "end of the pipeline", &[("parent", 2)]);
        story.mark(1, "the shell has ended", &[("status", 0)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |seen: &Observed| judge(seen).expect("decided").verdict;
        assert_eq!(verdict(&story()), Verdict::Confirmed);

        let mut no_exec = story();
        no_exec
            .events
            .retain(|event| event.pid != 4 || !matches!(event.what, EventKind::Exec(_)));
        assert_eq!(verdict(&no_exec), Verdict::Qualified);

        let mut no_birth = story();
        no_birth.events.retain(
            |event| !matches!(&event.what, EventKind::Clone(clone) if clone.child_pid == 3),
        );
        assert_eq!(verdict(&no_birth), Verdict::Refuted);

        let mut exec_first = story();
        for event in &mut exec_first.events {
            if matches!(event.what, EventKind::Exec(_)) {
                event.ts = 0;
            }
        }
        assert_eq!(verdict(&exec_first), Verdict::Refuted);
    }

    #[test]
    fn getppid_must_agree() {
        let mut seen = story();
        seen.marks[1].values.insert("parent".to_owned(), 9);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
