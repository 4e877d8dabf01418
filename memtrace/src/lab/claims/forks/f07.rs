//! F7: whether parent or child runs first after a fork.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Mode},
};

pub const CLAIM: Claim = Claim {
    id: "F7",
    short: "who runs first after fork is up to the scheduler",
    book: "After fork both go on from the next statement, but the order in which parent and child run is not fixed: it \
           depends on the scheduler.",
    experiment: "A program forks 200 times. For the first hundred parent and child may run on any CPU; for the rest \
                 they have only one, and the parent has used it for a while (0 to 7 ms) when it forks. Each of the \
                 two meets a page fault with its first steps after the fork: the child as none of its code is mapped \
                 yet, the parent as its stack is write-protected for copy-on-write. Whose fault comes first has run \
                 first.",
    // It is chance, and may be the same 200 times.
    expected: &[Verdict::Confirmed, Verdict::Qualified],
    read: &[
        "kernel/sched/core.c: wake_up_new_task - hands the child to a CPU, and may preempt the parent",
        "kernel/sched/fair.c: place_entity - where in the order of its CPU a new task begins",
        "kernel/fork.c: kernel_clone - the parent goes on as soon as the child is awake",
    ],
    method: Method::Experiment {
        program: "forks",
        judge,
    },
};

/// A fork: the first fault in user mode of each, and the program's own word for who was first.
struct Race<'a> {
    birth: &'a Event,
    parent: &'a Event,
    child: &'a Event,
    mark: &'a Mark,
}

impl Race<'_> {
    fn child_first(&self) -> bool {
        self.child.ts < self.parent.ts
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let forks = seen.mark("start")?.value("forks")?;
    let races = seen
        .marks("forked")
        .map(|mark| race(seen, mark))
        .collect::<Result<Vec<_>, _>>()?;
    if races.len() as u64 != forks {
        return Err(Undecided::because(format!(
            "only {} of the {forks} forks were made",
            races.len()
        )));
    }
    let (freely, on_one): (Vec<_>, Vec<_>) = races
        .iter()
        .enumerate()
        .partition(|(number, _)| *number < races.len() / 2);
    let child_first =
        |races: &[(usize, &Race)]| races.iter().filter(|(_, race)| race.child_first()).count();

    let mut evidence = Evidence::default();
    evidence.say(format!(
        "On any CPU the child ran first after {} of {} forks; with one CPU for both, after {} of {}.",
        child_first(&freely),
        freely.len(),
        child_first(&on_one),
        on_one.len()
    ));
    for (who, example) in [
        ("parent", races.iter().find(|race| !race.child_first())),
        ("child", races.iter().find(|race| race.child_first())),
    ] {
        if let Some(race) = example {
            let mut events = [race.birth, race.parent, race.child];
            events.sort_by_key(|event| event.ts);
            evidence.say(format!(
                "A fork after which the {who} ({}) ran first; the order of the two faults is what to look at:",
                if who == "child" { race.child.pid } else { race.parent.pid }
            ));
            for event in events {
                evidence.event(event);
            }
        }
    }

    // Between the two faults and the race to the page that both share a lot can happen, so the program's own word is
    // asked for only where one was through before the other came there at all.
    let mut clear = 0;
    let mut agreed = 0;
    for race in &races {
        if let Some(child_first) = clearly(seen, race)? {
            clear += 1;
            agreed += usize::from(child_first == (race.mark.value("child_first")? == 1));
        }
    }
    evidence.agree(
        agreed == clear,
        format!(
            "in {clear} of the {forks} forks the trace shows that one had passed a page that both share before the \
             other came there; each time the program found the mark of the same one in that page"
        ),
    )?;

    let children = races.iter().filter(|race| race.child_first()).count();
    let figure = format!("child first in {children} of {forks}");
    if children > 0 && (children as u64) < forks {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "Both orders occurred, in one and the same program. A program must not rely on either.",
        )
    } else {
        let one = if children == 0 { "parent" } else { "child" };
        evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "Here the {one} was first each time. Nothing promises that: it is how this kernel's scheduler treats \
                 a new task, and how busy its CPUs were."
            ),
        )
    }
}

fn race<'a>(seen: &'a Observed, mark: &'a Mark) -> Result<Race<'a>, Undecided> {
    let child = mark.value("child")? as u32;
    let (birth, _) = seen.birth(child)?;
    let first = |pid: u32| {
        seen.faults()
            .find(|(event, fault)| {
                event.pid == pid
                    && fault.mode == Mode::User
                    && (birth.ts..mark.ts).contains(&event.ts)
            })
            .map(|(event, _)| event)
            .ok_or_else(|| {
                Undecided::because(format!(
                    "no page fault of {pid} was seen after the fork that made {child}, so who ran first is not known"
                ))
            })
    };
    Ok(Race {
        birth,
        parent: first(birth.pid)?,
        child: first(child)?,
        mark,
    })
}

/// Whether the child had passed the shared pages before the parent came there, or the other way round; nothing where
/// they were there together.
fn clearly(seen: &Observed, race: &Race) -> Result<Option<bool>, Undecided> {
    let (first, through) = (race.mark.value("first")?, race.mark.value("through")?);
    let at = |pid: u32, page: u64| seen.faults_at(pid, page).next().map(|(event, _)| event.ts);
    let (parent, child) = (race.parent.pid, race.child.pid);
    let passed = |one: u32, other: u32| matches!((at(one, through), at(other, first)), (Some(passed), Some(came)) if passed < came);
    Ok(match (passed(child, parent), passed(parent, child)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::FaultKind};

    const STACK: u64 = 0x7000;

    /// Forks of process 1; in those that are true the child is first.
    fn story(child_first: &[bool]) -> Observed {
        let mut story = Story::default();
        story.mark(1, "start", &[("forks", child_first.len() as u64)]);
        for (number, &child_first) in (0_u64..).zip(child_first) {
            let child = 2 + number as u32;
            let first = 0x10_0000 + 0x2000 * number;
            let through = first + 0x1000;
            story.birth(1, child, None);
            let order = if child_first { [child, 1] } else { [1, child] };
            for pid in order {
                story.fault(pid, STACK, FaultKind::CowCopy, 1, 2);
                story.fault(pid, first, FaultKind::ShmFill, 0, 3);
                story.fault(pid, through, FaultKind::ShmFill, 0, 4);
            }
            let values = [
                ("child", u64::from(child)),
                ("first", first),
                ("through", through),
                ("child_first", u64::from(child_first)),
            ];
            story.mark(1, "forked", &values);
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let decided = |child_first: &[bool]| {
            let finding = judge(&story(child_first)).expect("decided");
            (finding.verdict, finding.figure)
        };
        let (verdict, figure) = decided(&[false, true, false, false]);
        assert_eq!(verdict, Verdict::Confirmed);
        assert_eq!(figure, "child first in 1 of 4");
        assert_eq!(decided(&[false; 4]).0, Verdict::Qualified);
        assert_eq!(decided(&[true; 4]).0, Verdict::Qualified);
    }

    #[test]
    fn a_fork_that_was_not_seen_leaves_it_open() {
        let mut seen = story(&[false, true]);
        seen.events.retain(|event| event.pid != 3);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
        let mut seen = story(&[false, true]);
        seen.marks.pop();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn the_program_must_agree() {
        let mut seen = story(&[false, true]);
        seen.marks[2].values.insert("child_first".to_owned(), 0);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
