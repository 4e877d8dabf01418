//! Births, names, execs and ends; ids that come again.

use memtrace_ebpf::syscall;

use super::{
    regions::{BOUNDS, PROG, listed, program},
    story::{FORK, Outcome, Story, anonymous, counters, known},
};
use crate::trace::{
    event::{self, EventKind},
    names::flag,
};

fn clones(outcome: &Outcome) -> Vec<(&str, bool, u32, u32, Option<i32>)> {
    outcome.told(|event| match &event.what {
        EventKind::Clone(clone) => Some((
            &*clone.call,
            clone.thread,
            clone.child_pid,
            clone.child_tid,
            clone.exit_signal,
        )),
        _ => None,
    })
}

fn exits(outcome: &Outcome) -> Vec<(u32, u32, event::Exit)> {
    outcome.told(|event| match &event.what {
        EventKind::Exit(exit) => Some((event.pid, event.tid, exit.clone())),
        _ => None,
    })
}

fn exit(code: Option<u32>, signal: Option<u32>, thread: bool) -> event::Exit {
    event::Exit {
        code,
        signal,
        core: false,
        thread,
        by_exec: None,
    }
}

/// By the exec of that thread.
fn ended_by_exec(tid: u32) -> event::Exit {
    event::Exit {
        by_exec: Some(tid),
        ..exit(None, None, true)
    }
}

/// A life's number, its id and the one that it was born with, its parent's id, and the number of that one's life.
type Kin = (u32, u32, Option<u32>, Option<u32>, Option<u32>);

fn lives(outcome: &Outcome) -> Vec<Kin> {
    let kin = |life: &event::TaskLifetime| {
        let event::TaskLifetime {
            number,
            tid,
            born_tid,
            parent,
            parent_number,
            ..
        } = *life;
        (number, tid, born_tid, parent, parent_number)
    };
    outcome.tasks.iter().map(kin).collect()
}

#[test]
fn births_say_by_which_call_and_of_what() {
    let mut story = program(100, 0xa);
    story.fork(100, 200, 0xb);
    story.vfork(100, 300);
    story.thread(100, 101, 0x7000);
    let outcome = story.play();
    assert_eq!(
        clones(&outcome),
        [
            ("clone", false, 200, 200, Some(17)),
            ("vfork", false, 300, 300, Some(17)),
            ("clone3", true, 100, 101, None),
        ],
        "memtrace's own fork is none of them"
    );
    let shared: Vec<(u32, bool)> = outcome.told(|event| match &event.what {
        EventKind::Clone(clone) => Some((clone.child_tid, clone.shared.mm)),
        _ => None,
    });
    assert_eq!(shared, [(200, false), (300, true), (101, true)]);
}

#[test]
fn an_exec_has_its_file_and_arguments() {
    let mut story = program(100, 0xa);
    story.exec(100, 0xb, PROG, BOUNDS, &["a", "", "b c"]);
    story.exec(100, 0xc, 0x123, BOUNDS, &[]);
    let outcome = story.play();
    let execs: Vec<&event::Exec> = outcome.told(|event| match &event.what {
        EventKind::Exec(exec) => Some(exec),
        _ => None,
    });
    assert_eq!(execs.len(), 3);
    assert_eq!(execs[0].args, ["prog", "-v"]);
    assert_eq!(execs[1].args, ["a", "", "b c"]);
    assert!(execs[2].args.is_empty());
    assert_eq!(execs[1].file, "./prog");
    assert_eq!(execs[1].exe.as_deref(), Some("/usr/bin/prog"));
    assert_eq!(execs[2].exe.as_deref(), None, "never announced");
    assert!(execs.iter().all(|exec| exec.old_tid.is_none()));
}

#[test]
fn names_are_inherited_and_change() {
    let mut story = Story::of(100, 0xa);
    story.rename(100, "prog");
    story.thread(100, 101, 0);
    story.rename(101, "worker");
    story.fork(101, 200, 0xb);
    story.rename(200, "sixteen-letters");
    story.exit(200, 0);
    story.exit(101, 0);
    story.exit(100, 0);
    let outcome = story.play();
    let names: Vec<(u32, &str)> = outcome
        .events
        .iter()
        .filter(|event| matches!(event.what, EventKind::Clone(_) | EventKind::Exit(_)))
        .map(|event| (event.tid, &*event.comm))
        .collect();
    assert_eq!(
        names,
        [
            (100, "prog"),
            (101, "worker"),
            (200, "sixteen-letters"),
            (101, "worker"),
            (100, "prog"),
        ]
    );
    assert_eq!(
        &*outcome.row(100).comm,
        "prog",
        "the leader's, not a thread's"
    );
    assert_eq!(&*outcome.row(200).comm, "sixteen-letters");
}

#[test]
fn an_end_has_a_code_or_a_signal() {
    let mut story = Story::threaded();
    story.fork(100, 200, 0xb);
    story.exit(101, 0);
    story.exit(200, 11);
    story.exit(100, 42 << 8);
    assert_eq!(
        exits(&story.play()),
        [
            (100, 101, exit(Some(0), None, true)),
            (200, 200, exit(None, Some(11), false)),
            (100, 100, exit(Some(42), None, false)),
        ]
    );
}

#[test]
fn the_last_thread_is_told_even_if_an_exit_was_lost() {
    for lost in [true, false] {
        let mut story = Story::threaded();
        story.thread(100, 102, 0);
        if !lost {
            story.exit(101, 0);
        }
        story.gone(101, counters(0, 0));
        story.exit(102, 0);
        story.exit(100, 0);
        let outcome = story.play();
        let ends = exits(&outcome);
        let last: Vec<bool> = ends[ends.len() - 2..]
            .iter()
            .map(|end| end.2.thread)
            .collect();
        assert_eq!(last, [true, false], "lost: {lost}");
    }
}

#[test]
fn a_pid_comes_again() {
    let mut story = Story::of(100, 0xa);
    story.rename(100, "one");
    for (mm, name) in [(0xb, "two"), (0xc, "three")] {
        story.fork(100, 200, mm);
        story.rename(200, name);
        story.unobserved(200, syscall::EXECVE, 1, 0);
        story.ends_with(200, counters(mm, 0));
    }
    let outcome = story.play_with(&[known(100, 100, counters(0, 0))]);
    let rows: Vec<(u32, &str, u64, bool)> = outcome
        .rows
        .iter()
        .map(|row| (row.pid, &*row.comm, row.min_flt, row.alive))
        .collect();
    assert_eq!(
        rows,
        [
            (100, "one", 0, true),
            (200, "two", 0xb, false),
            (200, "three", 0xc, false),
        ]
    );
    for row in &outcome.rows[1..] {
        assert_eq!(row.unobserved_by["execve"], 1);
    }
}

/// A thread that isn't the leader execs: the others end, and it gets the leader's id. Whether the leader's last switch
/// is seen before or after is a matter of luck.
fn exec_by_a_thread(leader_first: bool) -> Outcome {
    let mut story = program(100, 0xa);
    story.thread(100, 101, 0);
    story.rename(101, "worker");
    story.exit_by(100, 0, 101);
    if leader_first {
        story.gone(100, counters(5, 0));
    }
    story.exec(101, 0xb, PROG, BOUNDS, &["again"]);
    listed(&mut story, 100);
    if !leader_first {
        story.gone(100, counters(5, 0));
    }
    story.touch(100, anonymous(0x40_4000, 0x40_6000), 0x40_4000);
    story.fork(100, 200, 0xc);
    story.ends_with(100, counters(7, 0));
    story.play()
}

#[test]
fn a_thread_that_execs_becomes_the_leader() {
    for leader_first in [true, false] {
        let outcome = exec_by_a_thread(leader_first);
        let exec = outcome
            .events
            .iter()
            .rev()
            .find(|event| matches!(event.what, EventKind::Exec(_)))
            .expect("an exec");
        assert_eq!((exec.pid, exec.tid, &*exec.comm), (100, 100, "worker"));
        let EventKind::Exec(exec) = &exec.what else {
            unreachable!()
        };
        assert_eq!(exec.old_tid, Some(101));
        assert_eq!(outcome.regions(), ["bss"], "leader first: {leader_first}");
        assert_eq!(
            exits(&outcome),
            [
                (100, 100, ended_by_exec(101)),
                (100, 100, exit(Some(0), None, false)),
            ]
        );
        assert_eq!(
            lives(&outcome),
            [
                (1, 100, None, None, None),
                (2, 100, Some(101), Some(100), Some(1)),
                (3, 200, None, Some(100), Some(2)),
            ]
        );
        let row = outcome.row(100);
        assert_eq!(
            (row.min_flt, row.alive),
            (12, false),
            "both threads' counts"
        );
        assert_eq!(&*row.comm, "worker");
    }
}

#[test]
fn ids_that_come_again_are_other_lives() {
    let mut story = Story::of(100, 0xa);
    for mm in [0xb, 0xc] {
        story.fork(100, 200, mm);
        story.fork(200, 300, mm + 0x10);
        story.ends(300);
        story.ends(200);
    }
    assert_eq!(
        lives(&story.play()),
        [
            (1, 100, None, None, None),
            (2, 200, None, Some(100), Some(1)),
            (3, 300, None, Some(200), Some(2)),
            (4, 200, None, Some(100), Some(1)),
            (5, 300, None, Some(200), Some(4)),
        ]
    );
}

/// With `CLONE_PARENT` a child is its maker's sibling; a thread is its maker's, whatever the kernel's pointer.
#[test]
fn the_parent_is_the_one_that_the_kernel_has() {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    let sibling = FORK | flag::PARENT;
    story.clone_as(200, (300, 300), (sibling, 0xc), &[], |_| ());
    story.thread(200, 201, 0);
    story.clone_as(201, (400, 400), (sibling, 0xd), &[], |_| ());
    // The first one's parent isn't traced.
    story.clone_as(100, (500, 500), (sibling, 0xe), &[], |_| ());
    let outcome = story.play();
    assert_eq!(
        lives(&outcome),
        [
            (1, 100, None, None, None),
            (2, 200, None, Some(100), Some(1)),
            (3, 300, None, Some(100), Some(1)),
            (4, 201, None, Some(200), Some(2)),
            (5, 400, None, Some(100), Some(1)),
            (6, 500, None, None, None),
        ]
    );
    let parents: Vec<_> = outcome.clones().iter().map(|clone| clone.ppid).collect();
    assert_eq!(parents, [Some(100), Some(100), None, Some(100), Some(0)]);
}

#[test]
fn what_is_not_followed_is_nothing() {
    let mut story = Story::of(100, 0xa);
    story.exit(555, 0);
    story.rename(555, "stranger");
    story.unobserved(555, syscall::EXECVE, 3, 0);
    story.call(555, syscall::BRK, [0; 6], 0);
    let outcome = story.play();
    assert!(outcome.events.is_empty());
    assert_eq!(outcome.rows.len(), 1);
    assert_eq!(outcome.total.min_flt, 0);
}
