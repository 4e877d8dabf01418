//! Forks, writes, execs and exits, as programs make them.

use super::{Story, numbers};
use crate::trace::sharing::{Blame, Leave, Origin};

/// 1 forks 2, that forks 3, that forks 4; each has 100 pages and writes some of them.
#[test]
fn fork_of_fork_of_fork() {
    let (mut story, first) = Story::forked(0..100);
    story.copies(2, 0..10, first);

    let second = story.fork(2, 3, 0..100);
    story.copies(3, 0..5, second);
    story.copies(3, 20..30, second);
    story.copies(2, 20..25, first);

    let third = story.fork(3, 4, 0..100);
    story.copies(4, 0..2, third);
    story.copies(1, 30..40, first);
    assert_eq!(story.sharing.sharers(1, 50), [2, 3, 4]);
    assert_eq!(story.sharing.sharers(3, 35), [2, 4]);

    // The one in the middle leaves: the grandchild shares with the grandparents.
    story.copies(3, 50..60, third);
    assert_eq!(story.sharing.sharers(4, 50), [1, 2]);
    story.copies(4, 50..55, second);

    story.sharing.left(2, Leave::Exit);
    assert_eq!(story.sharing.sharers(1, 70), [3, 4]);
    assert_eq!(story.sharing.sharers(1, 57), [4]);
    assert_eq!(story.sharing.sharers(1, 52), [0_u32; 0]);
    story.takes_over(1, 25..30, first);
    story.copies(4, 70..75, third);
    story.copies(3, 70..75, first);
    story.copies_alone(1, 70..72, first);

    story.sharing.execed(3, 1000 + 3);
    story.sharing.left(3, Leave::Exec);
    assert_eq!(story.sharing.sharers(1, 70), [0_u32; 0]);
    assert_eq!(story.sharing.sharers(1, 80), [4]);
    story.takes_over(4, 2..10, third);
    story.copies_alone(4, 20..22, third);

    let [first, second, third] = story.finish();
    assert_eq!(numbers(&first), [100, 15, 10, 5, 5, 0, 5, 0, 60, 0, 2]);
    assert_eq!(numbers(&second), [100, 15, 0, 5, 0, 0, 80, 0, 0, 0, 0]);
    assert_eq!(numbers(&third), [100, 9, 10, 0, 8, 73, 0, 0, 0, 0, 0]);
    assert_eq!((second.before_exec, second.execed), (20, true));
    assert_eq!((third.before_exec, third.execed), (0, false));
}

#[test]
fn fork_and_exec() {
    let (mut story, fork) = Story::forked(0..300);
    story.copies(2, 0..12, fork);
    story.copies(1, 290..295, fork);
    story.takes_over(1, 0..2, fork);
    story.sharing.execed(2, 1000 + 2);
    story.sharing.left(2, Leave::Exec);
    // Nobody else has it any more: taken over, but for one page that the kernel still holds.
    story.takes_over(1, 100..180, fork);
    story.copies_alone(1, 180..181, fork);
    story.sharing.returned(fork, 70_000);
    story.sharing.named(fork, "ls".into());

    let [account] = story.finish();
    assert_eq!(numbers(&account), [300, 12, 6, 0, 80, 202, 0, 0, 0, 0, 0]);
    assert_eq!((account.before_exec, account.execed), (17, true));
    assert_eq!((account.number, account.ts), (1, 1000));
    assert_eq!((account.parent, account.child), (1001, 1002));
    assert_eq!(&*account.parent_comm, "parent");
    assert_eq!(&*account.child_comm, "ls");
    assert_eq!(account.dur, Some(70_000));
    assert_eq!(account.table_bytes, 4096);
}

#[test]
fn the_child_exits_and_the_parent_takes_over() {
    let (mut story, fork) = Story::forked(0..50);
    story.sharing.left(2, Leave::Exit);
    assert_eq!(story.sharing.sharers(1, 0), [0_u32; 0]);
    story.takes_over(1, 0..20, fork);
    story.knows_nothing(1, 0..20);
    story.ends_with([50, 0, 0, 0, 20, 0, 30, 0, 0, 0, 0]);
}

#[test]
fn the_parent_exits_and_its_children_share() {
    let (mut story, first) = Story::forked(0..50);
    let second = story.fork(1, 3, 0..50);
    story.sharing.left(1, Leave::Exit);
    assert_eq!(story.sharing.sharers(2, 7), [3]);
    // Their sharing is due to the first fork now; the third process is neither side of that.
    story.copies(3, 0..10, first);
    story.copies(2, 10..30, first);
    story.takes_over(2, 0..10, first);
    story.sharing.left(3, Leave::Exit);
    story.takes_over(2, 30..31, first);

    let [one, two] = story.finish();
    assert_eq!(numbers(&one), [50, 20, 0, 10, 1, 0, 19, 0, 0, 0, 0]);
    assert_eq!(numbers(&two), [50, 0, 0, 0, 0, 0, 50, 0, 0, 0, 0]);
    assert_eq!((first, second), (1, 2));
}

#[test]
fn a_server_with_four_workers() {
    let mut story = Story::default();
    let forks = [2, 3, 4, 5].map(|worker| story.fork(1, worker, 0..1000));
    assert_eq!(story.sharing.sharers(3, 700), [1, 2, 4, 5]);
    for (worker, fork) in (2..).zip(forks) {
        story.copies(worker, 0..5, fork);
    }
    // The last copy left the server alone with them: it was only the last that it can be traced to.
    story.takes_over(1, 0..5, forks[3]);

    story.copies(1, 500..600, forks[3]);
    assert_eq!(story.sharing.sharers(5, 500), [2, 3, 4]);
    story.copies(4, 500..510, forks[2]);
    assert_eq!(story.sharing.sharers(5, 500), [2, 3]);
    story.copies(2, 500..510, forks[0]);
    story.copies(3, 500..510, forks[1]);
    story.takes_over(5, 500..505, forks[1]);
    story.copies_alone(5, 505..510, forks[1]);

    for worker in [2, 3, 4, 5] {
        story.sharing.left(worker, Leave::Exit);
    }
    story.takes_over(1, 5..500, forks[3]);
    story.takes_over(1, 600..1000, forks[3]);
    story.knows_nothing(1, 0..1000);
    assert_eq!(story.sharing.sizes(), [0, 0, 0]);

    let [one, two, three, four] = story.finish();
    assert_eq!(numbers(&one), [1000, 15, 0, 0, 0, 0, 985, 0, 0, 0, 0]);
    assert_eq!(numbers(&two), [1000, 15, 0, 0, 0, 0, 985, 0, 0, 0, 5]);
    assert_eq!(numbers(&three), [1000, 15, 0, 0, 0, 0, 985, 0, 0, 0, 0]);
    assert_eq!(numbers(&four), [1000, 5, 100, 0, 895, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn one_snapshot_after_the_other() {
    let (mut story, first) = Story::forked(0..1000);
    story.copies(1, 0..200, first);
    story.sharing.left(2, Leave::Exit);
    story.takes_over(1, 200..300, first);

    // All is shared anew, and no longer the first one's matter.
    let second = story.fork(1, 3, 0..1000);
    story.copies(1, 100..400, second);
    story.sharing.left(3, Leave::Exit);
    story.takes_over(1, 400..450, second);

    let [one, two] = story.finish();
    assert_eq!(numbers(&one), [1000, 0, 200, 0, 100, 0, 700, 0, 0, 0, 0]);
    assert_eq!(numbers(&two), [1000, 0, 300, 0, 50, 0, 650, 0, 0, 0, 0]);
}

#[test]
fn a_stray_reference_makes_the_last_one_copy() {
    let (mut story, first) = Story::forked(0..10);
    let second = story.fork(2, 3, 0..10);
    // 1 is left alone by a copy, 3 by two exits.
    story.copies(2, 0..4, second);
    story.copies(3, 0..4, first);
    story.copies_alone(1, 0..4, first);
    story.knows_nothing(1, 0..4);
    story.sharing.left(1, Leave::Exit);
    story.sharing.left(2, Leave::Exit);
    story.copies_alone(3, 4..6, second);
    story.knows_nothing(3, 4..6);

    let [one, two] = story.finish();
    assert_eq!(numbers(&one), [10, 0, 0, 4, 0, 0, 6, 0, 0, 0, 4]);
    assert_eq!(numbers(&two), [10, 2, 4, 0, 0, 0, 4, 0, 0, 0, 0]);
}

#[test]
fn a_reference_after_the_only_other_sharer_is_gone_counts_for_the_one_who_copies() {
    let (mut story, first) = Story::forked(0..10);
    let second = story.fork(2, 3, 0..10);
    story.sharing.left(2, Leave::Exec);
    assert_eq!(story.sharing.sharers(1, 0), [3]);
    story.sharing.left(1, Leave::Exit);
    // 3 is no side of the first fork.
    story.copies_alone(3, 0..3, first);
    let [one, two] = story.finish();
    assert_eq!(numbers(&one), [10, 0, 0, 3, 0, 0, 7, 0, 0, 0, 0]);
    assert_eq!(numbers(&two), [10, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0]);
    assert_eq!(second, 2);
}

#[test]
fn a_page_may_be_taken_over_before_word_comes_that_others_gave_it_up() {
    let (mut story, fork) = Story::forked(0..10);
    story.takes_over(1, 0..4, fork);
    story.sharing.left(2, Leave::Exit);
    story.knows_nothing(1, 0..4);
    story.ends_with([10, 0, 0, 0, 4, 0, 6, 0, 0, 0, 0]);
}

/// Two write the same page at the same moment: the one whose fault began first comes second, and takes over.
#[test]
fn who_takes_a_page_over_may_have_begun_before_the_other_copied_it() {
    let (mut story, fork) = Story::forked(0..10);
    story.takes_over(1, 0..4, fork);
    story.copies(2, 0..3, fork);
    story.knows_nothing(2, 0..3);
    story.knows_nothing(1, 0..4);
    story.ends_with([10, 3, 0, 0, 1, 0, 0, 0, 6, 0, 0]);
}

#[test]
fn what_was_not_seen_is_unknown() {
    let (mut story, fork) = Story::forked(0..10);
    for page in 0..3 {
        story.sharing.lost(1, page);
    }
    story.knows_nothing(1, 0..3);
    story.knows_nothing(2, 0..3);
    story.sharing.left(2, Leave::Exit);
    // It was alone with this one; that is not known any more, and the page's end stays what it was.
    story.sharing.lost(1, 3);
    story.knows_nothing(1, 3..4);
    story.takes_over(1, 4..5, fork);
    story.ends_with([10, 0, 0, 0, 1, 0, 6, 0, 0, 3, 0]);
}

#[test]
fn a_blame_names_the_fork_also_with_its_last_page() {
    let (mut story, _) = Story::forked(0..1);
    let fork = Origin {
        number: 1,
        ts: 1000,
        parent_pid: 1001,
        child_pid: 1002,
    };
    let reference = false;
    assert_eq!(story.sharing.copied(2, 0), Some(Blame { fork, reference }));
    story.ends_with([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}
