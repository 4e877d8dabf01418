//! F15: vfork's child runs in its parent's address space.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Clone, Event, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "F15",
    short: "vfork's child changes its parent's variables",
    book: "A child made by vfork shares the address space of its parent: it runs wholly in it. If it changes a \
           variable, that is the parent's variable.",
    experiment: "A child of vfork writes to a variable of its parent's and ends; the parent looks at the variable. Then \
                 a child of fork does the same, for comparison.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: the system call vfork - kernel_clone with CLONE_VFORK and CLONE_VM",
        "kernel/fork.c: copy_mm - with CLONE_VM the child gets the parent's mm itself",
        "vfork(2)",
    ],
    method: Method::Experiment {
        program: "lends",
        judge,
    },
};

/// A child that writes to the variable.
struct Case<'a> {
    birth: (&'a Event, &'a Clone),
    /// The copy that its write made, if any.
    copy: Option<&'a Event>,
    /// The child before and after its write, and the parent before and after all that.
    child: &'a Mark,
    written: &'a Mark,
    before: &'a Mark,
    after: &'a Mark,
}

impl<'a> Case<'a> {
    fn find(seen: &'a Observed, call: &str) -> Result<Self, Undecided> {
        let before = seen.mark(&format!("before the {call}"))?;
        let child = seen.mark(&format!("{call}'s child"))?;
        let written = seen.mark(&format!("{call}'s child has written"))?;
        let after = seen.mark(&format!("after the {call}"))?;
        let copy = seen
            .faults_at(child.pid, before.value("page")?)
            .find(|(event, fault)| {
                (child.ts..written.ts).contains(&event.ts) && fault.kind == FaultKind::CowCopy
            })
            .map(|(event, _)| event);
        Ok(Self {
            birth: seen.birth(child.pid)?,
            copy,
            child,
            written,
            before,
            after,
        })
    }

    fn same_space(&self) -> bool {
        self.birth.1.shared.mm
    }

    /// Whether the parent finds its variable changed.
    fn changed(&self) -> Result<bool, Undecided> {
        Ok(self.before.value("is")? != self.after.value("is")?)
    }

    /// kcmp and pagemap must agree.
    fn check(&self, evidence: &mut Evidence, call: &str) -> Result<(), Undecided> {
        if let Some(same) = self.child.snapshot.kcmp.get("VM") {
            evidence.agree(
                *same == self.same_space(),
                format!(
                    "kcmp(2) found {} address space for parent and child of {call}, as the birth shows",
                    if *same { "one" } else { "another" }
                ),
            )?;
        }
        let frames = [
            self.before.frame("page")?,
            self.child.frame("page")?,
            self.written.frame("page")?,
        ];
        let moved = frames[1] != frames[2];
        evidence.agree(
            frames[0].is_some() && frames[0] == frames[1] && moved == self.copy.is_some(),
            format!(
                "/proc/PID/pagemap showed the parent's frame for the child of {call} before its write, and {} after \
                 it, as the faults say",
                if moved { "another" } else { "the same" }
            ),
        )?;
        Ok(())
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let vfork = Case::find(seen, "vfork")?;
    let fork = Case::find(seen, "fork")?;

    let mut evidence = Evidence::default();
    evidence
        .say("The birth of vfork's child: look at what it shares:")
        .event(vfork.birth.0);
    match vfork.copy {
        None => evidence.say("Its write to the page of the variable copied nothing."),
        Some(copy) => evidence
            .say("Its write to the page of the variable copied the page:")
            .event(copy),
    };
    evidence
        .say(format!(
            "The variable was {} before; the child made it {}, and then the parent found it to be {}.",
            vfork.before.value("is")?,
            vfork.written.value("is")?,
            vfork.after.value("is")?
        ))
        .say("For comparison the birth of fork's child, and what its write did:")
        .event(fork.birth.0);
    if let Some(copy) = fork.copy {
        evidence.event(copy);
    }
    evidence.say(format!(
        "That child made the variable {}, too, but the parent found it to be {}.",
        fork.written.value("is")?,
        fork.after.value("is")?
    ));
    vfork.check(&mut evidence, "vfork")?;
    fork.check(&mut evidence, "fork")?;

    let space = if vfork.same_space() {
        "same mm"
    } else {
        "own mm"
    };
    let seen_by_parent = if vfork.changed()? { "seen" } else { "not seen" };
    let figure = format!(
        "{space}, {} copied, store {seen_by_parent}",
        u8::from(vfork.copy.is_some())
    );
    if !vfork.same_space() || !vfork.changed()? {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "The child of vfork had an address space of its own, or its write did not reach the parent's variable: \
             vfork was like fork.",
        )
    } else if vfork.copy.is_some() || fork.changed()? {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "The child's write did reach the parent's variable, but not only as both use one address space: the write \
             copied a page, or even the write of fork's child came there.",
        )
    } else {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "There is one address space and two tasks use it. So the child's write needs no copy and meets the \
             parent's own variable, while fork's child writes to a copy.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::Copied};

    const PAGE: u64 = 0x5000;

    /// A child of each: whether it has its parent's mm, whether its write copies, and what the parent finds then.
    fn story(cases: [(bool, bool, u64); 2]) -> Observed {
        let mut story = Story::default();
        for ((call, child), (same, copies, after)) in
            [("vfork", 2), ("fork", 3)].into_iter().zip(cases)
        {
            let values = |is| [("page", PAGE), ("is", is)];
            let at_page = |story: &mut Story, pid, name: &str, is, frame| {
                let snapshot = story.mark(pid, name, &values(is));
                snapshot.frames.insert(PAGE, Some(frame));
                snapshot.kcmp.insert("VM", same);
            };
            at_page(&mut story, 1, &format!("before the {call}"), 1, 10);
            story.birth(1, child, (!same).then(Copied::default));
            at_page(&mut story, child, &format!("{call}'s child"), 1, 10);
            if copies {
                story.fault(child, PAGE, FaultKind::CowCopy, 10, 20);
            }
            let frame = if copies { 20 } else { 10 };
            at_page(
                &mut story,
                child,
                &format!("{call}'s child has written"),
                2,
                frame,
            );
            at_page(&mut story, 1, &format!("after the {call}"), after, 10);
        }
        story.observed()
    }

    const FORK: (bool, bool, u64) = (false, true, 1);

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |vfork, fork| judge(&story([vfork, fork])).expect("decided").verdict;
        assert_eq!(verdict((true, false, 2), FORK), Verdict::Confirmed);
        assert_eq!(verdict((true, true, 2), FORK), Verdict::Qualified);
        assert_eq!(
            verdict((true, false, 2), (false, true, 2)),
            Verdict::Qualified
        );
        assert_eq!(verdict((false, true, 1), FORK), Verdict::Refuted);
        assert_eq!(verdict((true, false, 1), FORK), Verdict::Refuted);
    }

    #[test]
    fn kcmp_and_pagemap_must_agree() {
        let mut seen = story([(true, false, 2), FORK]);
        seen.marks[1].snapshot.kcmp.insert("VM", false);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        for (mark, frame) in [(0, 11), (2, 11), (6, 10)] {
            let mut seen = story([(true, false, 2), FORK]);
            seen.marks[mark].snapshot.frames.insert(PAGE, Some(frame));
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}
