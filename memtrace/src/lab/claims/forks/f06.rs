//! F6: after fork both go on from the same place.

use super::twice::Twice;
use crate::lab::{
    claim::{Claim, Method},
    finding::{Evidence, Finding, Undecided, Verdict},
    observed::Observed,
};

pub const CLAIM: Claim = Claim {
    id: "F6",
    short: "both go on from the statement after fork",
    book: "The child does not begin at main: both processes go on from the statement that follows fork.",
    experiment: "A program notes its pid in a variable in the statement before fork, and in another in the statement \
                 after it. memtrace records the instruction to which the call returns in the parent and in the child.",
    expected: &[Verdict::Confirmed],
    read: &[
        "arch/x86/kernel/process.c: copy_thread - gives the child the parent's saved registers, ip among them",
        "arch/x86/entry/entry_64.S: entry_SYSCALL_64 - where ip is saved: the instruction after syscall",
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
    let ([(_, parent), ..], [(_, child), ..]) = (&twice.parent[..], &twice.child[..]) else {
        return Err(Undecided::because(
            "the call was not seen to return in both",
        ));
    };
    let mut evidence = Evidence::default();
    evidence.say(format!(
        "The C library's fork enters the kernel by the call {}. Look at the instructions to which the two returns \
         lead:",
        parent.call
    ));
    for event in twice.events() {
        evidence.event(event);
    }
    if let Some(mapping) = in_parent.mapping(parent.ip.0) {
        evidence.say(format!(
            "In the parent's /proc/PID/maps {} lies in {} ({}): in the C library it is where the call returns to, \
             right behind the instruction that entered the kernel.",
            parent.ip, mapping.name, mapping.perms
        ));
    }
    let same = parent.ip == child.ip;
    // Who has done the statement before, and who the one after: the variables hold pids.
    let of = |mark: &crate::lab::observed::Mark| -> Result<_, Undecided> {
        Ok([
            mark.value("before")? == u64::from(in_parent.pid),
            mark.value("after")? == u64::from(mark.pid),
        ])
    };
    let so = [of(in_parent)?, of(in_child)?] == [[true; 2]; 2];
    evidence.agree(
        so == same,
        format!(
            "in the child the variable of the statement before fork has the pid {} (the parent had done it), that of \
             the statement after it {} (which each has done for itself)",
            in_child.value("before")?,
            in_child.value("after")?
        ),
    )?;
    if same {
        evidence.decide(
            Verdict::Confirmed,
            format!("both at {}", parent.ip),
            "Both return from the one call to the same instruction, and so to the statement that follows fork. What \
             is before it the child has not done, yet it has the results in its memory.",
        )
    } else {
        evidence.decide(
            Verdict::Refuted,
            format!("{} and {}", parent.ip, child.ip),
            "Parent and child do not go on at the same instruction.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    /// The parent, 1, and the child, 2, go on at these instructions; `before` has done the statement before fork for
    /// the child.
    fn story(parent: u64, child: u64, before: u64) -> Observed {
        let mut story = Story::default();
        story.birth(1, 2, None);
        story.returns(2, true, 0, child);
        story.returns(1, false, 2, parent);
        story.mark(2, "child of fork", &[("before", before), ("after", 2)]);
        story.mark(1, "fork", &[("child", 2), ("before", 1), ("after", 1)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_instructions() {
        let verdict = |seen: &Observed| judge(seen).expect("decided").verdict;
        assert_eq!(verdict(&story(0x1000, 0x1000, 1)), Verdict::Confirmed);
        assert_eq!(verdict(&story(0x1000, 0x2000, 2)), Verdict::Refuted);
    }

    #[test]
    fn the_variables_must_agree() {
        for seen in [story(0x1000, 0x1000, 2), story(0x1000, 0x2000, 1)] {
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }

    #[test]
    fn one_return_decides_nothing() {
        let mut seen = story(0x1000, 0x1000, 1);
        seen.events.pop();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
