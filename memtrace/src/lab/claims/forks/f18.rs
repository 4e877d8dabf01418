//! F18: what a child of vfork may do, and what becomes of one that returns.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Exit, Fault, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "F18",
    short: "a vfork child must call exit or exec to end",
    book: "A child made by vfork must call exit (or exec) explicitly; otherwise it can't end.",
    experiment: "A function calls vfork in a process that is there for nothing else. One child ends by _exit and one \
                 execs. A third does neither: it returns from the function, and then from main. The trace shows what becomes of \
                 these children and of their parents.",
    expected: &[Verdict::Qualified],
    read: &[
        "vfork(2), \"Standard description\": what is undefined in the child",
        "kernel/fork.c: copy_mm - the child has the parent's mm, and with it the parent's stack",
        "arch/x86/mm/fault.c: bad_area - where a wild jump ends in SIGSEGV",
    ],
    method: Method::Experiment {
        program: "returns",
        judge,
    },
};

/// The process of a way, and its vfork's child.
struct Case<'a> {
    mark: &'a Mark,
    birth: &'a Event,
    child_ended: (&'a Event, &'a Exit),
    ended: (&'a Event, &'a Exit),
    /// An access to nothing that ended in a signal.
    invalid: Option<(&'a Event, &'a Fault)>,
    /// Whether the parent came back to where vfork was called from.
    returned: bool,
}

impl<'a> Case<'a> {
    fn find(seen: &'a Observed, way: &str) -> Result<Self, Undecided> {
        let mark = seen.mark(way)?;
        let pid = mark.value("child")? as u32;
        let ended = |pid: u32| {
            seen.exits()
                .find(|(event, _)| event.pid == pid)
                .ok_or_else(|| Undecided::because(format!("the end of {pid} was not seen")))
        };
        let (birth, clone) = seen
            .clones()
            .find(|(event, _)| event.pid == pid)
            .ok_or_else(|| Undecided::because(format!("the vfork of {pid} was not seen")))?;
        Ok(Self {
            mark,
            birth,
            child_ended: ended(clone.child_pid)?,
            ended: ended(pid)?,
            invalid: seen
                .faults()
                .find(|(event, fault)| event.pid == pid && fault.kind == FaultKind::Invalid),
            returned: seen
                .marks("parent has returned")
                .any(|mark| mark.pid == pid),
        })
    }

    /// Whether the parent got on as it should.
    fn unharmed(&self) -> bool {
        self.returned && well(self.ended.1)
    }

    /// wait(2) must agree.
    fn check(&self, evidence: &mut Evidence, way: &str) -> Result<(), Undecided> {
        let status = self.mark.value("status")?;
        let exit = self.ended.1;
        let as_traced = match exit.signal {
            Some(signal) => status & 0x7f == u64::from(signal),
            None => status == u64::from(exit.code.unwrap_or_default()) << 8,
        };
        evidence.agree(
            as_traced,
            format!(
                "wait(2) told the status {status:#x} of the process whose vfork child {way}, as the trace does: {}",
                end_in_words(exit)
            ),
        )?;
        Ok(())
    }
}

fn well(exit: &Exit) -> bool {
    exit.signal.is_none() && exit.code == Some(0)
}

fn end_in_words(exit: &Exit) -> String {
    match (exit.signal, exit.code) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, code) => format!("ended with {}", code.unwrap_or_default()),
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let ends = Case::find(seen, "ends")?;
    let execs = Case::find(seen, "execs")?;
    let returns = Case::find(seen, "returns")?;

    let mut evidence = Evidence::default();
    for (way, case) in [("calls _exit", &ends), ("execs", &execs)] {
        evidence
            .say(format!("The child {way}. Its end, and its parent's:"))
            .event(case.child_ended.0)
            .event(case.ended.0);
    }
    evidence
        .say("The child returns from the function that called vfork. Its birth, on its parent's stack, and its end:")
        .event(returns.birth)
        .event(returns.child_ended.0);
    if let Some((event, _)) = returns.invalid {
        evidence
            .say(
                "Then its parent goes on and returns, too, but to the address that is now in that place of the stack. \
                 There is no code:",
            )
            .event(event);
    }
    evidence
        .say("The end of that parent:")
        .event(returns.ended.0);
    for (way, case) in [("ends", &ends), ("execs", &execs), ("returns", &returns)] {
        case.check(&mut evidence, way)?;
    }

    if !ends.unharmed() || !execs.unharmed() {
        return Err(Undecided::because(
            "even a child that ended by _exit, or one that did exec, left a parent that did not get on, so nothing \
             can be said of one that returns",
        ));
    }
    let child_ended = well(returns.child_ended.1);
    let figure = format!(
        "returned: child {}, parent {}",
        end_in_short(returns.child_ended.1),
        if returns.unharmed() {
            "unharmed".to_owned()
        } else {
            end_in_short(returns.ended.1)
        }
    );
    match (child_ended, returns.unharmed()) {
        (false, _) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "The child that called neither did not end properly; it had to be killed.",
        ),
        (true, true) => evidence.decide(
            Verdict::Refuted,
            figure,
            "The child that returned ended all the same, and its parent got on as if nothing had happened.",
        ),
        (true, false) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The child that only returned did end: main's return calls exit for it. But the rule is right, for another \
             reason than the book's: parent and child have one stack. By its return the child gave up the part of it \
             that its parent still needs, and its next calls wrote over the address to which the parent had to return.",
        ),
    }
}

fn end_in_short(exit: &Exit) -> String {
    match (exit.signal, exit.code) {
        (Some(11), _) => "SIGSEGV".to_owned(),
        (Some(signal), _) => format!("signal {signal}"),
        // The parent of a child that returned may end with 0 and still never come back to where it was.
        (None, Some(0)) => "ended".to_owned(),
        (None, code) => format!("exit {}", code.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    /// How a process ends: code, signal, and whether it came back from the function before.
    type Ends = (Option<u32>, Option<u32>, bool);
    const WELL: Ends = (Some(0), None, true);
    const CRASH: Ends = (None, Some(11), false);

    /// The ends of the three children, and those of their parents.
    fn story(children: [Ends; 3], parents: [Ends; 3]) -> Observed {
        let mut story = Story::default();
        let ways = ["ends", "execs", "returns"];
        for (number, way) in (0_u32..).zip(ways) {
            let (parent, child) = (10 + number, 20 + number);
            let (code, signal, _) = children[number as usize];
            story.birth(1, parent, Some(crate::trace::event::Copied::default()));
            story.birth(parent, child, None).call = "vfork".into();
            story.exit(child, code, signal);
            let (code, signal, returned) = parents[number as usize];
            if returned {
                story.mark(parent, "parent has returned", &[]);
            }
            if signal == Some(11) {
                story.fault(parent, 0x3d, FaultKind::Invalid, 0, 0).signal = signal;
            }
            story.exit(parent, code, signal);
            let status = u64::from(signal.unwrap_or(code.unwrap_or_default() << 8));
            story.mark(1, way, &[("child", u64::from(parent)), ("status", status)]);
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |child, parent| {
            judge(&story([WELL, WELL, child], [WELL, WELL, parent]))
                .expect("decided")
                .verdict
        };
        assert_eq!(verdict(WELL, CRASH), Verdict::Qualified);
        assert_eq!(verdict(WELL, (Some(0), None, false)), Verdict::Qualified);
        assert_eq!(verdict(WELL, (Some(3), None, true)), Verdict::Qualified);
        assert_eq!(verdict(WELL, WELL), Verdict::Refuted);
        assert_eq!(verdict((None, Some(14), false), WELL), Verdict::Confirmed);
    }

    #[test]
    fn if_the_right_ways_do_harm_it_is_open() {
        for way in 0..2 {
            let mut parents = [WELL, WELL, CRASH];
            parents[way] = CRASH;
            let result = judge(&story([WELL; 3], parents));
            assert!(matches!(result, Err(Undecided::NotHere(_))));
        }
    }

    #[test]
    fn wait_must_agree() {
        let mut seen = story([WELL; 3], [WELL, WELL, CRASH]);
        for mark in &mut seen.marks {
            mark.values.insert("status".to_owned(), 6);
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
