//! Clones that return: how long the call took, who was first, and what let a vfork's parent go.

use super::story::{FORK, Outcome, PTHREAD, Story, VFORK, heap_pages};
use crate::trace::{event::EventKind, names::flag};

/// The returns: who made whom, and what is said of it.
fn returns(outcome: &Outcome) -> Vec<String> {
    let cloned = |event: &crate::trace::event::Event| {
        let EventKind::Cloned(cloned) = &event.what else {
            return None;
        };
        let mut words = vec![format!(
            "{}>{} dur {}",
            event.tid, cloned.child_tid, cloned.dur
        )];
        words.extend(cloned.first.map(|first| format!("first {first:?}")));
        words.extend(cloned.held.map(|held| format!("held {held}")));
        words.extend(cloned.let_go.map(|let_go| format!("until {let_go:?}")));
        words.extend(cloned.fork.map(|fork| format!("fork {fork}")));
        Some(words.join(" ").to_lowercase())
    };
    outcome.told(cloned)
}

/// Fails unless these are the returns of a story.
#[track_caller]
fn returns_are<const N: usize>(story: Story, expected: [&str; N]) {
    assert_eq!(returns(&story.play()), expected);
}

/// A clone of which the call began `before` nanoseconds before the birth: when that was.
fn clone(story: &mut Story, parent: u32, tid: u32, (flags, mm): (u64, u64), before: u64) -> u64 {
    for _ in 0..before / 10 {
        story.tick();
    }
    let mut began = 0;
    let pid = if flags & flag::THREAD != 0 {
        parent
    } else {
        tid
    };
    story.clone_as(parent, (pid, tid), (flags, mm), &[], |birth| {
        birth.began = birth.head.ts - before;
        began = birth.began;
    });
    began
}

/// A process 100 that has vforked 200, which is back in user mode; and when the call began.
fn vforked(before: u64) -> (Story, u64) {
    let mut story = Story::of(100, 0xa);
    let began = clone(&mut story, 100, 200, (VFORK, 0), before);
    story.returned_in_child(200);
    (story, began)
}

#[test]
fn a_call_takes_its_time_less_the_hooks() {
    let mut story = Story::of(100, 0xa);
    let began = clone(&mut story, 100, 200, (FORK, 0xb), 1000);
    story.returned(100, 200, began, 300);
    let began = clone(&mut story, 100, 101, (PTHREAD, 0), 50);
    story.returned(100, 101, began, 7000);
    let outcome = story.play();
    assert_eq!(
        returns(&outcome),
        [
            "100>200 dur 710 first parent fork 1",
            "100>101 dur 0 first parent",
        ],
        "never below nothing"
    );
    assert_eq!(outcome.forks[0].dur, Some(710));
}

#[test]
fn whoever_is_back_first_is_first() {
    let mut story = Story::of(100, 0xa);
    let began = clone(&mut story, 100, 200, (FORK, 0xb), 20);
    story.returned_in_child(200);
    story.returned(100, 200, began, 0);
    let began = clone(&mut story, 100, 300, (FORK, 0xc), 20);
    story.returned(100, 300, began, 0);
    story.returned_in_child(300);
    // A child of another's is none of these two.
    let first = clone(&mut story, 200, 400, (FORK, 0xd), 20);
    let second = clone(&mut story, 300, 500, (FORK, 0xe), 20);
    story.returned_in_child(500);
    story.returned(200, 400, first, 0);
    story.returned(300, 500, second, 0);
    returns_are(
        story,
        [
            "100>200 dur 40 first child fork 1",
            "100>300 dur 30 first parent fork 2",
            "200>400 dur 80 first parent fork 3",
            "300>500 dur 50 first child fork 4",
        ],
    );
}

#[test]
fn a_fork_that_has_not_returned_has_no_duration() {
    let mut story = Story::of(100, 0xa);
    clone(&mut story, 100, 200, (FORK, 0xb), 20);
    story.exit(100, 9);
    let outcome = story.play();
    assert!(returns(&outcome).is_empty());
    assert_eq!(outcome.forks[0].dur, None);
}

#[test]
fn who_is_first_is_not_known_of_one_that_is_not_followed() {
    let mut story = Story::of(100, 0xa);
    story.fork_as(100, 200, 0xb, &[], |birth| birth.followed = 0);
    let began = story.now();
    story.returned(100, 200, began, 0);
    story.clone_as(100, (300, 300), (VFORK, 0), &[], |birth| birth.followed = 0);
    let began = story.now();
    story.tick();
    story.returned(100, 300, began, 0);
    // What let the parent go isn't known, either.
    returns_are(story, ["100>200 dur 10 fork 1", "100>300 dur 20 held 20"]);
}

#[test]
fn a_vfork_holds_until_the_exec() {
    let (mut story, began) = vforked(100);
    story.tick();
    story.execs(200, 0xb);
    story.returned(100, 200, began, 0);
    returns_are(story, ["100>200 dur 140 first child held 40 until exec"]);
}

/// The kernel lets the parent go in the middle of the exec: its return may come before the exec is complete.
#[test]
fn a_return_before_the_exec_is_complete_waits_for_it() {
    let (mut story, began) = vforked(100);
    story.returned(100, 200, began, 0);
    let returned = story.now();
    story.tick();
    story.execs(200, 0xb);
    let outcome = story.play();
    assert_eq!(
        returns(&outcome),
        ["100>200 dur 120 first child held 20 until exec"]
    );
    let names: Vec<&str> = outcome
        .events
        .iter()
        .map(|event| event.what.name())
        .collect();
    let at = |name| names.iter().position(|of| *of == name).expect("an event");
    assert!(at("exec") < at("cloned"));
    assert!(outcome.events[at("cloned")].ts > returned);
}

#[test]
fn a_vfork_holds_until_the_exit() {
    let (mut story, began) = vforked(0);
    story.ends(200);
    story.returned(100, 200, began, 0);
    returns_are(story, ["100>200 dur 40 first child held 40 until exit"]);
}

/// Threads of the child end, and it forks: neither lets the parent go.
#[test]
fn only_the_child_itself_lets_go() {
    let mut story = Story::of(100, 0xa);
    let began = clone(&mut story, 100, 200, (VFORK, 0), 0);
    story.fork(200, 300, 0xb);
    story.execs(300, 0xc);
    story.ends(300);
    let born = story.now();
    story.tick();
    story.execs(200, 0xd);
    let held = story.now() - began + 10;
    story.returned(100, 200, began, 0);
    assert!(born > began);
    assert_eq!(
        returns(&story.play()),
        [format!(
            "100>200 dur {held} first parent held {held} until exec"
        )]
    );
}

/// What an earlier child of the same parent does is nothing to a later one.
#[test]
fn another_child_does_not_let_go() {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    let began = clone(&mut story, 100, 300, (VFORK, 0), 0);
    story.returned_in_child(200);
    story.execs(200, 0xc);
    story.ends(200);
    story.execs(300, 0xd);
    story.returned(100, 300, began, 0);
    returns_are(story, ["100>300 dur 60 first parent held 60 until exec"]);
}

/// A parent that vfork holds is killed: its call returns on the way to its end, if at all.
#[test]
fn a_held_parent_that_is_killed_was_let_go_by_that() {
    for returns_first in [true, false] {
        let (mut story, began) = vforked(0);
        story.tick();
        if returns_first {
            story.returned(100, 200, began, 0);
        } else {
            story.tick();
        }
        story.exit(100, 9);
        story.execs(200, 0xb);
        let lines = returns(&story.play());
        let held = if returns_first { 30 } else { 40 };
        assert_eq!(
            lines,
            [format!(
                "100>200 dur {held} first child held {held} until signal"
            )],
            "{returns_first}"
        );
    }
}

/// The parent goes on to its next clone while the exec that let it go is still to be completed. An end in that moment
/// may be another thread's doing, and then it is not known what let go.
#[test]
fn a_parent_may_be_quicker_than_the_exec() {
    let (mut story, began) = vforked(0);
    story.returned(100, 200, began, 0);
    let began = clone(&mut story, 100, 300, (FORK, 0xc), 0);
    story.returned(100, 300, began, 0);
    story.execs(200, 0xb);
    let began = clone(&mut story, 100, 400, (VFORK, 0), 0);
    story.returned_in_child(400);
    story.returned(100, 400, began, 0);
    story.exit(100, 0);
    story.execs(400, 0xd);
    returns_are(
        story,
        [
            "100>200 dur 20 first child held 20 until exec",
            "100>300 dur 10 first parent fork 1",
            "100>400 dur 20 first child held 20",
        ],
    );
}

/// `CLONE_VFORK` holds a parent of a child with its own memory, too, and one that makes a thread.
#[test]
fn each_clone_can_hold() {
    let mut story = Story::of(100, 0xa);
    let fork = FORK | flag::VFORK;
    let area = heap_pages(0..2);
    story.clone_as(100, (200, 200), (fork, 0xb), &[area], |_| ());
    let born = story.now();
    story.execs(200, 0xc);
    story.returned(100, 200, born, 0);
    let thread = PTHREAD | flag::VFORK;
    let began = clone(&mut story, 100, 101, (thread, 0), 0);
    story.ends(101);
    story.returned(100, 101, began, 0);
    let outcome = story.play();
    let lines = returns(&outcome);
    assert!(lines[0].ends_with("until exec fork 1"), "{lines:?}");
    assert!(lines[1].ends_with("until exit"), "{lines:?}");
}

/// A return whose birth was lost is of no clone that is known; nor is one of another child.
#[test]
fn a_return_without_its_birth_is_nothing() {
    let mut story = Story::of(100, 0xa);
    story.returned(100, 200, 0, 0);
    clone(&mut story, 100, 300, (FORK, 0xb), 0);
    story.returned(100, 200, 0, 0);
    story.returned_in_child(999);
    story.returned(999, 200, 0, 0);
    assert!(returns(&story.play()).is_empty());
}
