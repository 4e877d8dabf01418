//! F17: after vfork the child runs first, and its parent waits for its exec or exit.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Cloned, Event, Events, First, VforkRelease},
};

pub const CLAIM: Claim = Claim {
    id: "F17",
    short: "after vfork the child runs first, the parent waits",
    book: "After vfork the child runs first and its parent is suspended. Only when the child has called exec or exit \
           is the order of the two free again.",
    experiment: "A program calls vfork twenty times for a child that execs true(1), then twenty times for a child that \
                 ends. For each the trace shows who came back from the call first, and what let the parent go.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: kernel_clone - with CLONE_VFORK it waits before it returns",
        "kernel/fork.c: mm_release - completes that wait",
        "fs/exec.c: exec_mmap - calls it in the midst of an exec, when the old address space is left",
        "kernel/exit.c: exit_mm - calls it at the end",
    ],
    method: Method::Experiment {
        program: "vforks",
        judge,
    },
};

/// Fewer of a kind say little.
const ENOUGH: usize = 10;

/// A vfork.
struct Vfork<'a> {
    birth: &'a Event,
    cloned: (&'a Event, &'a Cloned),
    /// The child's exec or its end, whichever it was to do.
    over: &'a Event,
    /// What the child was to do.
    execs: bool,
    child_runs: &'a Mark,
    parent_is_back: &'a Mark,
}

impl<'a> Vfork<'a> {
    fn find(seen: &'a Observed, parent_is_back: &'a Mark) -> Result<Self, Undecided> {
        let child = parent_is_back.value("child")? as u32;
        let execs = parent_is_back.value("execs")? != 0;
        let missing =
            |what: &str| Undecided::because(format!("{what} of the child {child} was not seen"));
        let exec = seen
            .execs()
            .map(|(event, _)| event)
            .find(|event| event.pid == child);
        let exit = seen
            .exits()
            .map(|(event, _)| event)
            .find(|event| event.pid == child);
        Ok(Self {
            birth: seen.birth(child)?.0,
            cloned: seen
                .cloned()
                .find(|(_, cloned)| cloned.child_tid == child)
                .ok_or_else(|| missing("the parent's return from the vfork"))?,
            over: if execs { exec } else { exit }.ok_or_else(|| missing("the exec or the end"))?,
            execs,
            child_runs: seen
                .marks("child runs")
                .find(|mark| mark.pid == child)
                .ok_or_else(|| missing("the mark"))?,
            parent_is_back,
        })
    }

    /// Whether the child came first, and the parent after that which it has to wait for.
    fn waited(&self) -> bool {
        let cloned = self.cloned.1;
        let wanted = if self.execs {
            VforkRelease::Exec
        } else {
            VforkRelease::Exit
        };
        cloned.first == Some(First::Child) && cloned.let_go == Some(wanted)
    }

    fn marks_in_order(&self) -> bool {
        self.child_runs.ts < self.parent_is_back.ts
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let vforks = seen
        .marks("parent is back")
        .map(|mark| Vfork::find(seen, mark))
        .collect::<Result<Vec<_>, _>>()?;
    let (execs, ends): (Vec<_>, Vec<_>) = vforks.iter().partition(|vfork| vfork.execs);
    if execs.len() < ENOUGH || ends.len() < ENOUGH {
        return Err(Undecided::because(
            "the program did not make all its vforks",
        ));
    }
    let waited = |vforks: &[&Vfork]| vforks.iter().filter(|vfork| vfork.waited()).count();
    let counts = [waited(&execs), waited(&ends)];

    let mut evidence = Evidence::default();
    for (what, vforks, count) in [("execs", &execs, counts[0]), ("ends", &ends, counts[1])] {
        let mut held: Vec<_> = vforks
            .iter()
            .filter_map(|vfork| vfork.cloned.1.held)
            .collect();
        held.sort_unstable();
        let ms = |at: usize| held.get(at).copied().unwrap_or_default() as f64 / 1e6;
        evidence.say(format!(
            "A child that {what}: {count} of {} times the child was back first, and that let the parent go. The \
             parent was held for {:.1} ms ({:.1} to {:.1}). One of them:",
            vforks.len(),
            ms(held.len() / 2),
            ms(0),
            ms(held.len().saturating_sub(1)),
        ));
        // One that differs, if there is one.
        let example = vforks
            .iter()
            .find(|vfork| !vfork.waited())
            .or(vforks.first());
        if let Some(vfork) = example {
            let mut events = [vfork.birth, vfork.over, vfork.cloned.0];
            events.sort_by_key(|event| event.ts);
            for event in events {
                evidence.event(event);
            }
        }
    }
    let all = vforks.len();
    let in_order = vforks.iter().filter(|vfork| vfork.marks_in_order()).count();
    let agreeing = vforks
        .iter()
        .filter(|vfork| vfork.waited() == vfork.marks_in_order())
        .count();
    evidence.agree(
        agreeing == all,
        format!(
            "{in_order} of {all} times the child itself said that it runs before its parent said that it is back; \
             they are the same as in the trace"
        ),
    )?;

    let figure = format!("parent waited {} of {all} times", counts[0] + counts[1]);
    match counts[0] + counts[1] {
        0 => evidence.decide(
            Verdict::Refuted,
            figure,
            "The parent never waited for its child.",
        ),
        waited if waited == all => evidence.decide(
            Verdict::Confirmed,
            figure,
            "Each time the parent came back only after its child's exec or end: the kernel makes it wait, it is no \
             matter of the scheduler as it is with fork.",
        ),
        _ => evidence.decide(
            Verdict::Qualified,
            figure,
            "The parent waited sometimes, but not each time.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::EventKind};

    /// Vforks of process 1, half with an exec; in those that are true the parent waits.
    fn story(waits: impl Fn(u32) -> bool) -> Observed {
        let mut story = Story::default();
        for number in 0..2 * ENOUGH as u32 {
            let child = 10 + number;
            let execs = number < ENOUGH as u32;
            let childs = |story: &mut Story| {
                story.mark(child, "child runs", &[]);
                if execs {
                    story.exec(child, "/bin/true");
                }
                story.exit(child, Some(0), None);
            };
            story.birth(1, child, None);
            let waits = waits(number);
            if waits {
                childs(&mut story);
            }
            let cloned = story.cloned(1, child, 1000);
            cloned.held = Some(1000);
            if waits {
                cloned.let_go = Some(if execs {
                    VforkRelease::Exec
                } else {
                    VforkRelease::Exit
                });
            }
            cloned.first = Some(if waits { First::Child } else { First::Parent });
            let values = [("child", u64::from(child)), ("execs", u64::from(execs))];
            story.mark(1, "parent is back", &values);
            if !waits {
                childs(&mut story);
            }
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let decided = |seen: &Observed| {
            let finding = judge(seen).expect("decided");
            (finding.verdict, finding.figure)
        };
        let (verdict, figure) = decided(&story(|_| true));
        assert_eq!(verdict, Verdict::Confirmed);
        assert_eq!(figure, "parent waited 20 of 20 times");
        assert_eq!(decided(&story(|number| number != 7)).0, Verdict::Qualified);
        assert_eq!(decided(&story(|_| false)).0, Verdict::Refuted);
    }

    #[test]
    fn too_few_leave_it_open() {
        let mut seen = story(|_| true);
        seen.marks.truncate(20);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn the_order_of_the_marks_must_agree() {
        let mut seen = story(|_| true);
        for event in &mut seen.events {
            if let EventKind::Cloned(cloned) = &mut event.what {
                cloned.first = Some(First::Parent);
            }
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
