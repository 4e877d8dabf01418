//! F2: fork, vfork and clone end in one function of the kernel.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Clone, Event},
};

pub const CLAIM: Claim = Claim {
    id: "F2",
    short: "fork, vfork and clone all end in do_fork",
    book: "The system calls fork, vfork and clone are three doors to one room: each calls do_fork in the kernel, with \
           different arguments.",
    experiment: "A program makes a child by each of the C library's fork, vfork and clone, and by the bare system \
                 calls fork and clone3, where there are such. At the birth of each child memtrace records which functions of the kernel are \
                 under way, and which flags it was asked for.",
    expected: &[Verdict::Qualified],
    read: &[
        "kernel/fork.c: SYSCALL_DEFINE0(fork), SYSCALL_DEFINE0(vfork), SYSCALL_DEFINE5(clone), \
         SYSCALL_DEFINE2(clone3) - each fills in its arguments and calls kernel_clone",
        "kernel/fork.c: kernel_clone - makes the task (copy_process), wakes it up, and for vfork waits",
        "fork(2), section NOTES - the C library's fork calls clone",
    ],
    method: Method::Experiment {
        program: "births",
        judge,
    },
};

/// The program's marks, and whether each must be there: an architecture may have no fork, and a kernel no clone3.
const DOORS: [(&str, bool); 5] = [
    ("fork", true),
    ("system call fork", false),
    ("vfork", true),
    ("clone", true),
    ("clone3", false),
];

/// A child that was made.
struct Door<'a> {
    name: &'static str,
    birth: (&'a Event, &'a Clone),
    /// The innermost first.
    functions: Vec<&'a str>,
}

impl Door<'_> {
    fn arguments(&self) -> (&[std::sync::Arc<str>], Option<i32>) {
        (&self.birth.1.flags, self.birth.1.exit_signal)
    }
}

/// The outermost function that all have called in the same way: there they meet.
fn meeting<'a>(doors: &[Door<'a>]) -> Option<&'a str> {
    let (first, rest) = doors.split_first()?;
    let same = |at: &usize| {
        let function = first.functions[*at];
        rest.iter()
            .all(|door| door.functions.get(*at) == Some(&function))
    };
    let depth = (0..first.functions.len()).take_while(same).count();
    first.functions[..depth].last().copied()
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut doors = Vec::new();
    for (name, needed) in DOORS {
        let mark = match seen.mark(name) {
            Ok(mark) => mark,
            Err(_) if !needed => continue,
            Err(missing) => return Err(missing),
        };
        let child = mark.value("child")? as u32;
        doors.push(Door {
            name,
            birth: seen.birth(child)?,
            functions: seen.callers(seen.born(child)?.1)?,
        });
    }
    let meeting = meeting(&doors);
    let different = (1..doors.len()).all(|at| {
        !doors[..at]
            .iter()
            .any(|other| other.arguments() == doors[at].arguments())
    });

    let mut evidence = Evidence::default();
    evidence.say(
        "Look at the functions of the kernel that were under way at each birth (the innermost first, each called by \
         the next), and at the flags in brackets:",
    );
    for door in &doors {
        evidence
            .say(format!("{}: {}.", door.name, door.functions.join(" < ")))
            .event(door.birth.0);
    }
    let Some(meeting) = meeting else {
        return evidence.decide(
            Verdict::Refuted,
            "no function in common",
            "The calls have no function in common that makes the task.",
        );
    };
    let figure = format!("all meet in {meeting}");
    if !different {
        return evidence.decide(
            Verdict::Qualified,
            figure,
            format!("The calls meet in {meeting}, but not each with arguments of its own."),
        );
    }
    if ["do_fork", "_do_fork"].contains(&meeting) {
        return evidence.decide(
            Verdict::Confirmed,
            figure,
            format!("All of them end in {meeting}, with different flags."),
        );
    }
    evidence.decide(
        Verdict::Qualified,
        figure,
        format!(
            "There is one room behind all the doors, and only the arguments differ. But on this kernel its name is \
             {meeting}, not do_fork: do_fork became _do_fork in Linux 4.2, and kernel_clone in 5.10. And a program \
             that calls fork of the C library enters by the system call clone."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    /// Children of 1 that are made by these calls: the functions and the flag of each.
    fn story(doors: &[(&str, &[&str], &str)]) -> Observed {
        let mut story = Story::default();
        for (child, (name, functions, flag)) in (2..).zip(doors) {
            story.birth(1, child, None).flags = vec![(*flag).into()];
            story.born(1, child, functions);
            story.mark(1, name, &[("child", child.into())]);
        }
        story.observed()
    }

    fn through(function: &'static str) -> Observed {
        let inner = ["bpf_trace_run2", "copy_process", function];
        let chain = |call| [&inner[..], &[call, "do_syscall_64"]].concat();
        let (clone, fork, vfork) = (chain("sys_clone"), chain("sys_fork"), chain("sys_vfork"));
        story(&[
            ("fork", &clone, "A"),
            ("system call fork", &fork, "B"),
            ("vfork", &vfork, "C"),
            ("clone", &clone, "D"),
        ])
    }

    #[test]
    fn the_verdict_is_that_of_the_functions() {
        let decided = |seen: &Observed| {
            let finding = judge(seen).expect("decided");
            (finding.verdict, finding.figure)
        };
        let (qualified, confirmed) = (Verdict::Qualified, Verdict::Confirmed);
        assert_eq!(
            decided(&through("kernel_clone")),
            (qualified, "all meet in kernel_clone".into())
        );
        assert_eq!(
            decided(&through("do_fork")),
            (confirmed, "all meet in do_fork".into())
        );
        let apart = story(&[
            ("fork", &["bpf_trace_run2", "make_by_clone"], "A"),
            ("system call fork", &["bpf_trace_run2", "make_by_fork"], "B"),
            ("vfork", &["bpf_trace_run2", "make_by_vfork"], "C"),
            ("clone", &["bpf_trace_run2", "make_by_clone"], "D"),
        ]);
        assert_eq!(
            decided(&apart).0,
            Verdict::Refuted,
            "what tells of it is no meeting"
        );
    }

    #[test]
    fn the_arguments_must_differ() {
        let mut seen = through("do_fork");
        for event in &mut seen.events {
            if let crate::trace::event::EventKind::Clone(clone) = &mut event.what {
                clone.flags.clear();
            }
        }
        assert_eq!(judge(&seen).expect("decided").verdict, Verdict::Qualified);
    }

    #[test]
    fn without_names_nothing_is_decided() {
        let mut seen = through("do_fork");
        seen.symbols.clear();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
