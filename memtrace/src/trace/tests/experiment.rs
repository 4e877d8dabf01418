//! What only the lab gets.

use memtrace_ebpf::record::Tally;

use super::{
    regions::program,
    story::{Outcome, Story},
};
use crate::trace::event::{Address, BirthDetail, Both, EventKind, Return, SwitchIn};

/// Addresses of objects.
const TASKS: [u64; 3] = [
    0xffff_8881_0000_0000,
    0xffff_8881_0000_1000,
    0xffff_8881_0000_2000,
];
const STACKS: [u64; 3] = [
    0xffff_c900_0000_0000,
    0xffff_c900_0000_8000,
    0xffff_c900_0001_0000,
];

fn births(outcome: &Outcome) -> Vec<&BirthDetail> {
    let events = outcome.events.iter();
    events
        .filter_map(|event| match &event.what {
            EventKind::BirthDetail(born) => Some(born),
            _ => None,
        })
        .collect()
}

fn runs(outcome: &Outcome) -> Vec<(u32, &SwitchIn)> {
    let events = outcome.events.iter();
    events
        .filter_map(|event| match &event.what {
            EventKind::SwitchIn(runs) => Some((event.tid, runs)),
            _ => None,
        })
        .collect()
}

fn both(parent: u32, child: u32) -> Both {
    Both {
        parent: Some(parent),
        child: Some(child),
    }
}

fn forked() -> Story {
    let mut story = program(100, 0xa);
    story.fork(100, 200, 0xb);
    story
}

#[test]
fn a_child_has_its_own_task_and_stack_or_its_parents() {
    let mut story = forked();
    story.born(100, 200, [TASKS[0], TASKS[1]], [STACKS[0], STACKS[1]]);
    story.fork(100, 300, 0xc);
    story.born(100, 300, [TASKS[0], TASKS[0]], [STACKS[0], STACKS[1]]);
    let outcome = story.play();
    let births = births(&outcome);
    assert_eq!(
        (births[0].task, births[0].kernel_stack),
        (both(1, 2), both(1, 2))
    );
    let same = "its parent's task, its brother's stack";
    assert_eq!(
        (births[1].task, births[1].kernel_stack),
        (both(1, 1), both(1, 2)),
        "{same}"
    );
    let callers = [0xffff_ffff_8100_0010, 0xffff_ffff_8100_0020].map(Address);
    assert_eq!(births[0].callers, callers, "and no more than there are");
}

#[test]
fn what_lies_where_a_dead_task_had_it_is_another() {
    let mut story = forked();
    story.born(100, 200, [TASKS[0], TASKS[1]], [STACKS[0], STACKS[1]]);
    story.exit(200, 0);
    story.gone(200, Tally::default());
    story.fork(100, 300, 0xc);
    story.born(100, 300, [TASKS[0], TASKS[1]], [STACKS[0], STACKS[2]]);
    let outcome = story.play();
    assert_eq!(births(&outcome)[1].task, both(1, 3));
}

#[test]
fn what_the_kernel_does_not_tell_is_none() {
    let mut story = forked();
    story.born(100, 200, [TASKS[0], TASKS[1]], [0, 0]);
    story.runs(200, |runs| runs.mm = 0);
    let outcome = story.play();
    let none = Both {
        parent: None,
        child: None,
    };
    assert_eq!(births(&outcome)[0].kernel_stack, none);
    let (_, runs) = runs(&outcome)[0];
    assert_eq!((runs.task, runs.kernel_stack, runs.mm), (None, None, None));
    assert_eq!((&runs.policy, runs.nice), (&None, None));
}

#[test]
fn a_thread_that_gets_a_cpu_is_the_one_that_was_born() {
    let mut story = forked();
    story.born(100, 200, [TASKS[0], TASKS[1]], [STACKS[0], STACKS[1]]);
    story.runs(200, |runs| {
        (runs.task, runs.stack) = (TASKS[1], STACKS[1]);
        (runs.static_prio, runs.policy) = (125, 3);
        runs.thread_pointer = 0x7000;
    });
    story.rests(200, 0);
    story.runs(100, |runs| {
        (runs.task, runs.stack) = (TASKS[0], STACKS[0]);
        (runs.static_prio, runs.policy, runs.rt_priority) = (120, 1, 9);
    });
    story.rests(100, 1);
    let outcome = story.play();
    let runs = runs(&outcome);
    let child = SwitchIn {
        cpu: 1,
        task: Some(2),
        kernel_stack: Some(2),
        mm: Some(3),
        tls: Address(0x7000),
        policy: Some("SCHED_BATCH".into()),
        nice: Some(5),
        rt_priority: 0,
    };
    assert_eq!(runs[0], (200, &child));
    assert_eq!(
        (runs[1].0, runs[1].1.task, runs[1].1.mm),
        (100, Some(1), Some(2))
    );
    assert_eq!(
        (runs[1].1.policy.as_deref(), runs[1].1.rt_priority),
        (Some("SCHED_FIFO"), 9)
    );
    let events = outcome.events.iter();
    let rests: Vec<_> = events
        .filter_map(|event| match &event.what {
            EventKind::SwitchOut(rests) => Some((event.tid, rests.runnable)),
            _ => None,
        })
        .collect();
    assert_eq!(rests, [(200, false), (100, true)]);
}

#[test]
fn a_call_that_returns_twice_is_told_twice_but_only_to_the_lab() {
    let told = |ip| {
        let mut story = forked();
        story.returns(200, true, 0, ip);
        story.returns(100, false, 200, ip);
        let outcome = story.play();
        let events = outcome.events.into_iter();
        let returns = events.filter_map(|event| match event.what {
            EventKind::Return(returned) => Some((event.tid, returned)),
            _ => None,
        });
        returns.collect::<Vec<_>>()
    };
    let returned = |in_child, ret| Return {
        call: "fork".into(),
        in_child,
        ret,
        ip: Address(0x7f00),
    };
    assert_eq!(
        told(0x7f00),
        [(200, returned(true, 0)), (100, returned(false, 200))]
    );
    assert_eq!(told(0), []);
}
