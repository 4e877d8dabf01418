//! F14: `CLONE_VFORK` decides whether the parent waits for the child.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Cloned, Event, EventKind, Events, VforkRelease},
};

pub const CLAIM: Claim = Claim {
    id: "F14",
    short: "CLONE_VFORK: the parent sleeps until the child ends",
    book: "The flag CLONE_VFORK of clone decides whether the parent runs or is blocked while the child runs. Without it \
           both run at the same time; with it the parent is suspended until the child ends.",
    experiment: "A program calls clone(2) three times. The first child, without the flag, ends only when the parent has \
                 told it to: so the parent must run meanwhile. The second child, with the flag, takes its time (20 ms) \
                 and ends; the third takes its time and execs.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: wait_for_vfork_done - where the parent sleeps",
        "kernel/fork.c: mm_release - lets the parent go, at the child's exec or end",
        "clone(2), CLONE_VFORK",
    ],
    method: Method::Experiment {
        program: "waits",
        judge,
    },
};

/// A clone: its return in the parent, and what is to be seen around it.
struct Case<'a> {
    birth: &'a Event,
    cloned: &'a Event,
    what: &'a Cloned,
    /// The child's exec, or its end where it did none.
    over: &'a Event,
    /// The parent goes to sleep in the call.
    sleeps: Option<&'a Event>,
    /// Where the parent came when the call had returned, and where the child came when it was about to end or exec.
    back: &'a Mark,
    about_to: &'a Mark,
}

impl Case<'_> {
    /// Whether the parent was held until the child's exec or end.
    fn held(&self) -> bool {
        self.what.held.is_some()
            && matches!(
                self.what.let_go,
                Some(VforkRelease::Exec | VforkRelease::Exit)
            )
            && self.cloned.ts >= self.about_to.ts
    }

    /// What the order of the marks, which the program made, says.
    fn held_by_marks(&self) -> bool {
        self.back.ts > self.about_to.ts
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let without = case(seen, "without the flag")?;
    let ended = case(seen, "with the flag, ended")?;
    let execed = case(seen, "with the flag, execed")?;

    let mut evidence = Evidence::default();
    evidence
        .say(
            "Without CLONE_VFORK; look at the parent's return and the child's end, which is later:",
        )
        .event(without.birth)
        .event(without.cloned)
        .event(without.over);
    for (what, case) in [("ends", &ended), ("execs", &execed)] {
        evidence.say(format!(
            "With CLONE_VFORK and a child that {what}; the parent {}was held for {:.1} ms:",
            if case.sleeps.is_some() {
                "leaves its CPU in the call and "
            } else {
                ""
            },
            case.what.held.unwrap_or_default() as f64 / 1e6
        ));
        let mut events = vec![case.birth, case.over, case.cloned];
        events.extend(case.sleeps);
        events.sort_by_key(|event| event.ts);
        for event in events {
            evidence.event(event);
        }
    }
    for (name, case) in [
        ("Without the flag", &without),
        ("With the flag and an end", &ended),
        ("With the flag and an exec", &execed),
    ] {
        let order = if case.held_by_marks() {
            "after"
        } else {
            "before"
        };
        evidence.agree(
            case.held() == case.held_by_marks(),
            format!("{name} the parent said that it was back {order} the child said that it was about to end or exec, \
                 as in the trace"),
        )?;
    }

    let figure = format!(
        "parent held: {} without, {} of 2 with",
        u8::from(without.held()),
        u8::from(ended.held()) + u8::from(execed.held())
    );
    match (without.held(), ended.held(), execed.held()) {
        (false, true, true) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "The flag alone made the difference. To be exact the parent sleeps until the child ends or execs: either \
             way the child has left the address space that it may have borrowed.",
        ),
        (false, true, false) | (false, false, true) => evidence.decide(
            Verdict::Qualified,
            figure,
            "With the flag the parent was held in one case, but not in the other.",
        ),
        _ => evidence.decide(
            Verdict::Refuted,
            figure,
            "Whether the parent was held did not depend on the flag.",
        ),
    }
}

/// The clone whose return the parent tells of by this mark.
fn case<'a>(seen: &'a Observed, name: &str) -> Result<Case<'a>, Undecided> {
    let back = seen.mark(name)?;
    let child = back.value("child")? as u32;
    let (birth, _) = seen.birth(child)?;
    let (cloned, what) = seen
        .cloned()
        .find(|(_, cloned)| cloned.child_tid == child)
        .ok_or_else(|| {
            Undecided::because(format!(
                "the return of the clone that made {child} was not seen"
            ))
        })?;
    let about_to = seen
        .marks
        .iter()
        .find(|mark| mark.pid == child)
        .ok_or_else(|| Undecided::because(format!("the child {child} never said that it runs")))?;
    let exec = seen
        .execs()
        .map(|(event, _)| event)
        .find(|event| event.pid == child);
    let exit = seen
        .exits()
        .map(|(event, _)| event)
        .find(|event| event.pid == child);
    let over = exec
        .or(exit)
        .ok_or_else(|| Undecided::because(format!("the end of {child} was not seen")))?;
    let sleeps = seen.events.iter().find(|event| {
        event.pid == birth.pid
            && (birth.ts..cloned.ts).contains(&event.ts)
            && matches!(&event.what, EventKind::SwitchOut(rests) if !rests.runnable)
    });
    Ok(Case {
        birth,
        cloned,
        what,
        over,
        sleeps,
        back,
        about_to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    /// The three clones; in those that are true the parent is held.
    fn story(held: [bool; 3]) -> Observed {
        let mut story = Story::default();
        let names = [
            "without the flag",
            "with the flag, ended",
            "with the flag, execed",
        ];
        for ((name, held), child) in names.into_iter().zip(held).zip(2..) {
            let child_goes_on = |story: &mut Story| {
                story.mark(child, "child is about to go", &[]);
                if child == 4 {
                    story.exec(child, "/bin/true");
                }
                story.exit(child, Some(0), None);
            };
            story.birth(1, child, None);
            if held {
                child_goes_on(&mut story);
            }
            let cloned = story.cloned(1, child, 1000);
            cloned.held = (child > 2).then_some(20_000_000);
            cloned.let_go = match (held, child) {
                (false, _) => None,
                (true, 4) => Some(VforkRelease::Exec),
                (true, _) => Some(VforkRelease::Exit),
            };
            if held {
                cloned.held = Some(20_000_000);
            }
            story.mark(1, name, &[("child", u64::from(child))]);
            if !held {
                child_goes_on(&mut story);
            }
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |held| judge(&story(held)).expect("decided").verdict;
        assert_eq!(verdict([false, true, true]), Verdict::Confirmed);
        assert_eq!(verdict([false, true, false]), Verdict::Qualified);
        assert_eq!(verdict([false, false, true]), Verdict::Qualified);
        assert_eq!(verdict([false, false, false]), Verdict::Refuted);
        assert_eq!(verdict([true, true, true]), Verdict::Refuted);
    }

    #[test]
    fn a_return_that_was_not_seen_leaves_it_open() {
        let mut seen = story([false, true, true]);
        seen.events
            .retain(|event| !matches!(event.what, EventKind::Cloned(_)));
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn the_order_of_the_marks_must_agree() {
        let mut seen = story([false, true, true]);
        for mark in &mut seen.marks {
            mark.ts = 0;
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
