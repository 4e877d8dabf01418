//! The objects that tasks use: their numbers, who shares which with whom, and from when to when.

use memtrace_ebpf::syscall;

use super::story::{FORK, Outcome, Story, VFORK, counters, known};
use crate::trace::{
    event::{EventKind, ObjectKind, TaskLifetime},
    names::flag,
};

/// Begun and ended sharing, namespaces left aside.
fn shared(outcome: &Outcome) -> Vec<String> {
    outcome.shared(|kind| !kind.is_namespace())
}

/// The same of one kind.
fn shared_of(outcome: &Outcome, kind: ObjectKind) -> Vec<String> {
    outcome.shared(|of| of == kind)
}

/// What a task used of a kind: numbers, from when to when.
fn uses(life: &TaskLifetime, kind: ObjectKind) -> Vec<(u32, u64, Option<u64>)> {
    life.uses
        .iter()
        .filter(|used| used.kind == kind)
        .map(|used| (used.number, used.from, used.until))
        .collect()
}

/// The numbers of a kind that the children of the clones got.
fn numbers(outcome: &Outcome, kind: ObjectKind) -> Vec<Option<u32>> {
    let row = |clone: &&crate::trace::event::Clone| {
        let rows = &clone.objects.0;
        rows.iter().find(|(of, _)| *of == kind)?.1.child
    };
    outcome.clones().iter().map(row).collect()
}

#[test]
fn numbers_begin_at_one_and_never_come_again() {
    let mut story = Story::of(100, 0xa);
    for pid in 200..204 {
        story.fork(100, pid, 0xb);
        story.ends(pid);
    }
    story.vfork(100, 300);
    let outcome = story.play();
    assert_eq!(
        numbers(&outcome, ObjectKind::Mm),
        [Some(2), Some(3), Some(4), Some(5), Some(1)],
        "the address is the same each time"
    );
    assert_eq!(
        numbers(&outcome, ObjectKind::Files),
        [Some(2), Some(3), Some(4), Some(5), Some(6)]
    );
    assert_eq!(numbers(&outcome, ObjectKind::UserNs), [Some(1); 5]);
    assert_eq!(numbers(&outcome, ObjectKind::Io), [None; 5]);
}

/// The kernel gives an object's memory to the next one as soon as its last user has begun to exit.
#[test]
fn an_address_that_comes_again_is_another_object() {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    let old = story.parts(200);
    story.exit(200, 0);
    story.fork_as(100, 300, 0xc, &[], |birth| {
        birth.child.files = old.files;
        birth.child.sighand = old.sighand;
    });
    // Where an exit's record was lost, nobody is said to share with the dead.
    story.fork_as(100, 400, 0xd, &[], |birth| birth.child.files = old.files);
    let outcome = story.play();
    assert_eq!(
        numbers(&outcome, ObjectKind::Files),
        [Some(2), Some(3), Some(4)]
    );
    assert_eq!(
        numbers(&outcome, ObjectKind::Sighand),
        [Some(2), Some(3), Some(4)]
    );
    assert!(shared_of(&outcome, ObjectKind::Files).is_empty());
}

#[test]
fn what_is_lost_is_shared_with_nobody() {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    let old = story.parts(200);
    // Its exit is lost. Its files' memory becomes another's, and a third shares those.
    story.fork_as(100, 300, 0xc, &[], |birth| birth.child.files = old.files);
    story.clone_as(300, (400, 400), (FORK | flag::FILES, 0xd), &[], |_| ());
    story.fork(200, 500, 0xe);
    story.exit(200, 0);
    story.exit(400, 0);
    let outcome = story.play();
    assert_eq!(
        shared_of(&outcome, ObjectKind::Files),
        ["400 + clone: files#3 [300]", "400 - exit: files#3>- [300]"]
    );
}

/// The same where the one that is left over execs in a thread, and so changes its id.
#[test]
fn who_is_left_over_joins_nobody_by_an_exec() {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    story.thread(200, 201, 0);
    let old = story.parts(200);
    story.fork_as(100, 300, 0xc, &[], |birth| birth.child.fs = old.fs);
    story.execs(201, 0xd);
    story.clone_as(300, (400, 400), (FORK | flag::FS, 0xe), &[], |_| ());
    let outcome = story.play();
    let shares = shared_of(&outcome, ObjectKind::Fs);
    assert_eq!(shares.last().expect("some"), "400 + clone: fs#3 [300]");
}

#[test]
fn a_clone_shares() {
    let mut story = Story::threaded();
    story.fork(100, 200, 0xb);
    story.clone_as(101, (300, 300), (VFORK | flag::FS, 0), &[], |_| ());
    let outcome = story.play();
    assert_eq!(
        shared(&outcome),
        [
            "101 + clone: mm#1 [100] files#1 [100] fs#1 [100] sighand#1 [100] signal#1 [100] group#1 [100] cred#1 \
             [100] sysvsem#1 [100]",
            "300 + clone: mm#1 [100, 101] fs#1 [100, 101]",
        ]
    );
    let namespaces = outcome.shared(ObjectKind::is_namespace);
    assert_eq!(namespaces.len(), 3, "which a fork shares as well");
    assert!(namespaces[1].starts_with("200 + clone: nsproxy#1 [100, 101] mnt_ns#1 [100, 101]"));
    let clone_at = |at: usize| matches!(outcome.events[at].what, EventKind::Clone(_));
    let share_at = |at: usize| matches!(outcome.events[at].what, EventKind::Share(_));
    assert!(clone_at(0) && share_at(1), "the share follows its clone");
}

#[test]
fn an_exec_ends_sharing() {
    let mut story = Story::of(100, 0xa);
    story.clone_as(
        100,
        (200, 200),
        (VFORK | flag::FILES | flag::FS | flag::SIGHAND, 0),
        &[],
        |_| (),
    );
    story.execs(200, 0xb);
    story.execs(100, 0xc);
    let outcome = story.play();
    assert_eq!(
        shared(&outcome),
        [
            "200 + clone: mm#1 [100] files#1 [100] fs#1 [100] sighand#1 [100]",
            "200 - exec: mm#1>2 [100] files#1>2 [100] sighand#1>2 [100]",
        ],
        "the working directory stays shared, and nobody is left to share the rest with"
    );
}

/// A thread that isn't the first execs: it becomes the first, and the group is what it was.
#[test]
fn an_exec_by_a_thread_keeps_the_group() {
    for gone_first in [true, false] {
        let mut story = Story::threaded();
        story.exit(100, 0);
        if gone_first {
            story.gone(100, counters(0, 0));
        }
        story.execs(101, 0xb);
        if !gone_first {
            story.gone(100, counters(0, 0));
        }
        story.thread(100, 102, 0);
        let outcome = story.play_with(&[known(100, 100, counters(0, 0))]);
        assert_eq!(
            shared(&outcome),
            [
                "101 + clone: mm#1 [100] files#1 [100] fs#1 [100] sighand#1 [100] signal#1 [100] group#1 [100] \
                 cred#1 [100] sysvsem#1 [100]",
                "100 - exit: mm#1>- [101] files#1>- [101] fs#1>- [101] sighand#1>- [101] signal#1>- [101] group#1>- \
                 [101] cred#1>- [101] sysvsem#1>- [101]",
                "102 + clone: mm#2 [100] files#1 [100] fs#1 [100] sighand#1 [100] signal#1 [100] group#1 [100] \
                 cred#2 [100] sysvsem#1 [100]",
            ],
            "{gone_first}"
        );
        let [first, thread, other] = &outcome.tasks[..] else {
            panic!("three rows")
        };
        assert_eq!((first.tid, thread.tid, other.tid), (100, 100, 102));
        assert!(first.until.is_some() && thread.until.is_none());
        assert_eq!(uses(thread, ObjectKind::Group).len(), 1, "{gone_first}");
        assert_eq!(uses(thread, ObjectKind::Mm).len(), 2);
    }
}

#[test]
fn unshare_and_setns_change_what_is_used() {
    use ObjectKind as K;
    let mut story = Story::threaded();
    let home = story.parts(100);
    let [files, nsproxy, net, back, uts] = std::array::from_fn(|_| story.address());
    story.objects(101, syscall::UNSHARE, |parts| {
        parts.files = files;
        parts.nsproxy = nsproxy;
        parts.net_ns = net;
    });
    // Nothing has changed.
    story.objects(100, syscall::UNSHARE, |_| ());
    story.objects(100, syscall::UNSHARE, |parts| parts.uts_ns = uts);
    // Back to the network of the beginning, by a new set.
    story.objects(101, syscall::SETNS, |parts| {
        parts.nsproxy = back;
        parts.net_ns = home.net_ns;
    });
    let outcome = story.play();
    let changes = outcome.shared(|kind| [K::Files, K::Nsproxy, K::NetNs, K::UtsNs].contains(&kind));
    assert_eq!(
        changes[1..],
        [
            "101 - unshare: files#1>2 [100] nsproxy#1>2 [100] net_ns#1>2 [100]",
            "100 - unshare: uts_ns#1>2 [101]",
            "101 + setns: net_ns#1 [100]",
        ]
    );
    let life = outcome.life(101);
    let nets: Vec<u32> = uses(life, K::NetNs).iter().map(|used| used.0).collect();
    assert_eq!(nets, [1, 2, 1]);
    let sets: Vec<u32> = uses(life, K::Nsproxy).iter().map(|used| used.0).collect();
    assert_eq!(sets, [1, 2, 3]);
}

/// A namespace that nobody of the trace is in lives on, by a file that stands for it, or by others.
#[test]
fn who_comes_back_to_a_namespace_finds_its_number() {
    let mut story = Story::of(100, 0xa);
    let home = story.parts(100);
    let [away, set, next] = std::array::from_fn(|_| story.address());
    story.objects(100, syscall::UNSHARE, |parts| {
        parts.uts_ns = away;
        parts.nsproxy = set;
    });
    story.objects(100, syscall::SETNS, |parts| {
        parts.uts_ns = home.uts_ns;
        parts.nsproxy = home.nsproxy;
    });
    // Another takes the place of the one that was left.
    story.objects(100, syscall::UNSHARE, |parts| {
        parts.uts_ns = away;
        parts.nsproxy = next;
    });
    let outcome = story.play();
    let life = outcome.life(100);
    let numbers = |kind| -> Vec<u32> { uses(life, kind).iter().map(|used| used.0).collect() };
    assert_eq!(numbers(ObjectKind::UtsNs), [1, 2, 1, 3]);
    assert_eq!(
        numbers(ObjectKind::Nsproxy),
        [1, 2, 3, 4],
        "a set ends with its last user, and its address says nothing"
    );
}

#[test]
fn credentials_change_by_calls() {
    let mut story = Story::threaded();
    let cred = story.address();
    story.objects(101, syscall::SETUID, |parts| parts.cred = cred);
    let outcome = story.play();
    let changes = shared_of(&outcome, ObjectKind::Cred);
    assert_eq!(changes[1..], ["101 - setuid: cred#1>2 [100]"]);
}

#[test]
fn an_exit_leaves_what_others_use() {
    let mut story = Story::threaded();
    story.clone_as(100, (200, 200), (VFORK, 0), &[], |_| ());
    story.exit(101, 0);
    story.exit(200, 0);
    story.exit(100, 0);
    let outcome = story.play();
    assert_eq!(
        shared(&outcome)[2..],
        [
            "101 - exit: mm#1>- [100, 200] files#1>- [100] fs#1>- [100] sighand#1>- [100] signal#1>- [100] group#1>- \
             [100] cred#1>- [100] sysvsem#1>- [100]",
            "200 - exit: mm#1>- [100]",
        ]
    );
    let exits: Vec<u64> = outcome
        .events
        .iter()
        .filter(|event| matches!(event.what, EventKind::Unshare(_)))
        .map(|event| event.ts)
        .collect();
    assert_eq!(exits.len(), 2, "the last one leaves nobody");
}

#[test]
fn many_users_are_counted_and_the_first_named() {
    let mut story = Story::of(100, 0xa);
    for tid in 101..140 {
        story.thread(100, tid, 0);
    }
    story.exit(105, 0);
    let outcome = story.play();
    let changes = shared_of(&outcome, ObjectKind::Mm);
    let named = |tids: std::ops::RangeInclusive<u32>| tids.collect::<Vec<u32>>();
    assert_eq!(
        changes[15],
        format!("116 + clone: mm#1 {:?}", named(100..=115))
    );
    assert_eq!(
        changes[16],
        format!("117 + clone: mm#1 {:?}+1", named(100..=115))
    );
    let rest: Vec<u32> = named(100..=104).into_iter().chain(106..=116).collect();
    assert_eq!(changes[39], format!("105 - exit: mm#1>- {rest:?}+23"));
}

#[test]
fn lives_tell_what_was_used_from_when_to_when() {
    let mut story = Story::of(100, 0xa);
    let born = story.now();
    story.fork(100, 200, 0xb);
    let forked = story.now();
    story.execs(200, 0xc);
    let execed = story.now();
    story.rename(200, "other");
    story.exit(200, 0);
    let ended = story.now();
    let outcome = story.play_with(&[known(100, 100, counters(0, 0))]);
    let [first, child] = &outcome.tasks[..] else {
        panic!("two rows")
    };
    assert_eq!((first.parent, child.parent), (None, Some(100)));
    assert_eq!((first.from, first.until), (born, None));
    assert_eq!((child.from, child.until), (forked, Some(ended)));
    assert_eq!((&*first.comm, &*child.comm), ("first", "other"));
    assert_eq!(
        uses(child, ObjectKind::Mm),
        [(2, forked, Some(execed)), (3, execed, Some(ended))]
    );
    assert_eq!(
        uses(child, ObjectKind::Files),
        [(2, forked, Some(ended))],
        "an exec doesn't replace what is nobody else's"
    );
    assert_eq!(uses(first, ObjectKind::Mm), [(1, born, None)]);
    assert!(uses(first, ObjectKind::Io).is_empty());
    assert!(outcome.tasks.iter().all(|life| life.global.is_none()));
}

/// The kernel makes some objects without a call that is looked at: they are seen at the next clone.
#[test]
fn what_a_parent_has_come_by_is_seen_at_its_clone() {
    let mut story = Story::of(100, 0xa);
    let io = story.address();
    story.tasks.get_mut(&100).expect("the first").parts.io = io;
    story.clone_as(100, (200, 200), (FORK | flag::IO, 0xb), &[], |_| ());
    let seen = story.now();
    story.fork(100, 300, 0xc);
    let outcome = story.play_with(&[known(100, 100, counters(0, 0))]);
    assert_eq!(
        shared(&outcome),
        ["200 + clone: io#1 [100]"],
        "and nobody else has it"
    );
    assert_eq!(uses(outcome.life(100), ObjectKind::Io), [(1, seen, None)]);
    assert_eq!(numbers(&outcome, ObjectKind::Io), [Some(1), None]);
}

/// memtrace's own objects are none of the trace's.
#[test]
fn the_first_process_shares_nothing() {
    let outcome = Story::of(100, 0xa).play();
    assert!(outcome.events.is_empty());
    let [first] = &outcome.tasks[..] else {
        panic!("a row")
    };
    assert_eq!(first.parent, None);
    assert!(first.uses.iter().all(|used| used.number == 1));
}

/// A task's row is of no other that comes to have its id.
#[test]
fn an_id_that_comes_again_has_a_row_of_its_own() {
    let mut story = Story::of(100, 0xa);
    for (mm, flags) in [(0xb, FORK), (0xb, FORK), (0xc, FORK | flag::FILES)] {
        story.clone_as(100, (200, 200), (flags, mm), &[], |_| ());
        story.ends(200);
    }
    let outcome = story.play();
    let rows: Vec<_> = outcome.tasks[1..]
        .iter()
        .map(|life| {
            let until = life.until.expect("it ended");
            assert!(life.uses.iter().all(|used| used.until == Some(until)));
            (life.tid, uses(life, ObjectKind::Files)[0].0)
        })
        .collect();
    assert_eq!(rows, [(200, 2), (200, 3), (200, 1)]);
}
