//! F16: vfork returns twice, like fork.

use super::twice::Twice;
use crate::lab::{
    claim::{Claim, Method},
    finding::{Evidence, Finding, Undecided, Verdict},
    observed::Observed,
};

pub const CLAIM: Claim = Claim {
    id: "F16",
    short: "vfork returns the pid, and 0 in the child",
    book: "vfork, too, returns the child's process id in the parent and 0 in the child.",
    experiment: "A program calls vfork; the child stores the value that it got in a variable and ends. memtrace \
                 records each return of the call from the kernel to user mode: in which process, and with which value.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: SYSCALL_DEFINE0(vfork) - kernel_clone with the flags CLONE_VFORK and CLONE_VM",
        "arch/x86/kernel/process.c: copy_thread - sets the child's ax register to 0: what it will see as the value",
        "vfork(2) - it returns as fork(2) does",
    ],
    method: Method::Experiment {
        program: "births",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("vfork")?;
    let child = mark.value("child")? as u32;
    let twice = Twice::of(seen, child)?;
    let mut evidence = Evidence::default();
    evidence
        .say("The birth of the child:")
        .event(seen.birth(child)?.0)
        .say("And each return of that call to user mode:");
    for event in twice.events() {
        evidence.event(event);
    }
    let Some((parent, child_value)) = twice.values() else {
        return evidence.decide(
            Verdict::Refuted,
            format!("{} returns", twice.parent.len() + twice.child.len()),
            format!(
                "The call returned {} times in the parent and {} times in the child.",
                twice.parent.len(),
                twice.child.len()
            ),
        );
    };
    let values = (
        mark.value("child")?.cast_signed(),
        mark.value("in_child")?.cast_signed(),
    );
    evidence.agree(
        values == (parent, child_value),
        format!(
            "the program found {} in the parent and {} in the child, as the trace shows",
            values.0, values.1
        ),
    )?;
    let figure = format!("{parent} in the parent, {child_value} in the child");
    if (parent, child_value) == (i64::from(child), 0) {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "One call, two returns, with the value that the book says.",
        )
    } else {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "The call returned in both, but not with the child's pid in the parent and 0 in the child.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    /// What the call returns in the child, and in the parent; nothing where it doesn't.
    fn story(in_child: Option<i64>, in_parent: Option<i64>) -> Observed {
        let mut story = Story::default();
        story.birth(1, 2, None);
        if let Some(value) = in_child {
            story.returns(2, true, value, 0x1000);
        }
        if let Some(value) = in_parent {
            story.returns(1, false, value, 0x1000);
        }
        // The value of a later call is none of this one's.
        story.birth(1, 3, None);
        story.returns(1, false, 3, 0x1000);
        let value = in_child.unwrap_or_default().cast_unsigned();
        story.mark(1, "vfork", &[("child", 2), ("in_child", value)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_returns() {
        let verdict = |child, parent| judge(&story(child, parent)).expect("decided").verdict;
        assert_eq!(verdict(Some(0), Some(2)), Verdict::Confirmed);
        assert_eq!(verdict(Some(1), Some(2)), Verdict::Refuted);
        assert_eq!(verdict(Some(0), None), Verdict::Refuted);
        assert!(matches!(
            judge(&story(None, None)),
            Err(Undecided::NotHere(_))
        ));
    }

    #[test]
    fn the_program_must_have_got_the_same() {
        for (child, parent) in [(Some(0), Some(7)), (Some(0), Some(0))] {
            assert!(matches!(
                judge(&story(child, parent)),
                Err(Undecided::Contradiction(_))
            ));
        }
        let mut seen = story(Some(0), Some(2));
        seen.marks[0].values.insert("in_child".into(), 2);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
