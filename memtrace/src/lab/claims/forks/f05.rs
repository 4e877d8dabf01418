//! F5: fork returns twice.

use super::twice::Twice;
use crate::lab::{
    claim::{Claim, Method},
    finding::{Evidence, Finding, Undecided, Verdict},
    observed::Observed,
};

pub const CLAIM: Claim = Claim {
    id: "F5",
    short: "fork returns twice: the pid, and 0 in the child",
    book: "fork is called once and returns twice: in the parent it returns the child's process id, in the child 0.",
    experiment: "A program calls fork. memtrace records each return of the call from the kernel to user mode: in which \
                 process, and with which value.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: kernel_clone - returns the child's pid to the parent",
        "arch/x86/kernel/process.c: copy_thread - sets the child's ax register to 0: what it will see as the value",
        "arch/x86/entry/entry_64.S: ret_from_fork_asm - where the child begins, on its way to user mode",
        "fork(2), section RETURN VALUE",
    ],
    method: Method::Experiment {
        program: "births",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let (in_child, in_parent) = (seen.mark("child of fork")?, seen.mark("fork")?);
    let child = in_parent.value("child")? as u32;
    let twice = Twice::of(seen, child)?;
    let (birth, clone) = seen.birth(child)?;
    let mut evidence = Evidence::default();
    evidence
        .say("The birth of the child:")
        .event(birth)
        .say(format!(
            "The C library's fork enters the kernel by the call {}. Each return from there:",
            clone.call
        ));
    for event in twice.events() {
        evidence.event(event);
    }
    let count = twice.parent.len() + twice.child.len();
    let Some((parent, child_value)) = twice.values() else {
        return evidence.decide(
            Verdict::Refuted,
            format!("{count} returns"),
            format!(
                "The call returned {} times in the parent and {} times in the child.",
                twice.parent.len(),
                twice.child.len()
            ),
        );
    };
    // The program's numbers are the values that its variable has.
    let values = (
        in_parent.value("returned")?.cast_signed(),
        in_child.value("returned")?.cast_signed(),
    );
    evidence.agree(
        values == (parent, child_value),
        format!(
            "the program found {} in the parent and {} in the child, as the trace shows",
            values.0, values.1
        ),
    )?;
    let figure = format!("{parent} in the parent, {child_value} in the child");
    let known_to_kernel = i64::from(in_child.pid);
    evidence.say(format!(
        "The process that made the child's mark is {known_to_kernel}, says the kernel."
    ));
    if (parent, child_value) == (known_to_kernel, 0) {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "One call, two returns: a return to each of two processes, with the value that the book says.",
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

    /// Returns: in the child or not, and the value.
    fn story(returns: &[(bool, i64)]) -> Observed {
        let mut story = Story::default();
        story.birth(1, 2, None);
        let value = |wanted| {
            let returned = returns.iter().find(|(in_child, _)| *in_child == wanted);
            returned.map_or(0, |(_, value)| value.cast_unsigned())
        };
        for &(in_child, value) in returns {
            story.returns(if in_child { 2 } else { 1 }, in_child, value, 0x1000);
        }
        story.mark(2, "child of fork", &[("returned", value(true))]);
        story.mark(1, "fork", &[("child", 2), ("returned", value(false))]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_returns() {
        let verdict = |returns: &[_]| judge(&story(returns)).expect("decided").verdict;
        assert_eq!(verdict(&[(false, 2), (true, 0)]), Verdict::Confirmed);
        assert_eq!(verdict(&[(true, 0), (false, 2)]), Verdict::Confirmed);
        assert_eq!(verdict(&[(false, 2)]), Verdict::Refuted);
        assert_eq!(
            verdict(&[(false, 2), (true, 0), (true, 0)]),
            Verdict::Refuted
        );
        assert_eq!(verdict(&[(false, 3), (true, 0)]), Verdict::Refuted);
        assert_eq!(verdict(&[(false, 2), (true, 1)]), Verdict::Refuted);
        assert!(matches!(judge(&story(&[])), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn the_program_must_have_got_the_same() {
        let mut seen = story(&[(false, 2), (true, 0)]);
        seen.marks[0].values.insert("returned".into(), 2);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
