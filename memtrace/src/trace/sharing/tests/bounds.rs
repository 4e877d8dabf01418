//! Memory is bounded by what lives, not by what has happened.

use super::{Story, finish, fork, numbers, one_area, set};
use crate::trace::sharing::{Fork, Leave, Sharing, ledgers::KEPT};

const FORKS: u32 = 100_000;

#[test]
fn forks_whose_children_are_gone_leave_only_numbers() {
    let mut sharing = Sharing::default();
    let (pages, none) = (set(0..4), set([]));
    for number in 1..=FORKS {
        let child = number + 1;
        sharing.fork(fork(number, 1, child), one_area(), &pages, &none);
        if number % 2 == 0 {
            assert!(sharing.copied(child, 0).is_some());
            sharing.execed(child, 1000 + child);
            sharing.left(child, Leave::Exec);
        } else {
            sharing.left(child, Leave::Exit);
        }
        sharing.returned(number, 10);
        if number % 1000 == 0 {
            let sizes = sharing.sizes();
            // The last fork's pages that its parent has for itself: since a copy, and since an exec.
            assert_eq!(sizes, [0, 2, 1]);
        }
    }

    // One more, to which everything happens that can.
    let last = Fork {
        swapped: 7,
        ..fork(FORKS + 1, 1, FORKS + 2)
    };
    let (child, grandchild) = (FORKS + 2, FORKS + 3);
    sharing.fork(last, one_area(), &set(0..20), &set([20]));
    let only = fork(FORKS + 2, child, grandchild);
    sharing.fork(only, one_area(), &set([0]), &none);
    assert!(sharing.copied(child, 0).is_some());
    assert!(sharing.copied(grandchild, 0).is_some());
    assert!(sharing.copied(1, 0).is_some());
    assert!(sharing.copied(1, 1).is_some());
    sharing.lost(1, 2);
    sharing.gave_up(1, &(3..6));
    assert!(sharing.taken_over(child, 3).is_some());

    let accounts = finish(sharing);
    assert_eq!(accounts.len(), KEPT + 1);
    assert_eq!(numbers(&accounts[0]), [4, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    assert_eq!(numbers(&accounts[1]), [4, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0]);
    assert_eq!(accounts[KEPT - 1].number as usize, KEPT);
    assert_eq!(accounts[KEPT - 1].dur, Some(10));
    let rest = &accounts[KEPT];
    let many = u64::from(FORKS) - KEPT as u64;
    let half = many / 2;
    assert_eq!(rest.number, 0);
    assert_eq!(
        numbers(rest),
        [
            4 * many + 22,
            half,
            2,
            1,
            1,
            3 * half,
            4 * half,
            2,
            14,
            1,
            1
        ]
    );
    assert_eq!((rest.at_once, rest.swapped), (1, 7));
    assert_eq!(rest.before_exec, half);
    assert_eq!(rest.dur, Some(10 * many));
    assert_eq!(rest.table_bytes, 4096 * (many + 2));
    assert_eq!(rest.areas.len(), 1);
}

/// Each process forks the next and exits: nobody is left but the last.
#[test]
fn a_long_line_of_descendants_leaves_nothing() {
    let mut story = Story::default();
    for parent in 1..=3000 {
        let fork = story.fork(parent, parent + 1, 0..20);
        story.copies(parent + 1, 0..2, fork);
        story.sharing.left(parent, Leave::Exit);
        let [edges, solos, forks] = story.sharing.sizes();
        assert!(edges == 0 && solos <= 2 && forks <= 2, "{solos} {forks}");
    }
    story.sharing.left(3001, Leave::Exit);
    assert_eq!(story.sharing.sizes(), [0, 0, 0]);
    assert_eq!(finish(story.sharing).len(), 3000);
}

/// Workers come and go while others stay.
#[test]
fn a_server_that_replaces_its_workers_keeps_only_those_that_live() {
    let mut story = Story::default();
    for worker in 2..2000 {
        story.fork(1, worker, 0..64);
        let page = u64::from(worker) % 64;
        assert!(story.sharing.copied(worker, page).is_some());
        assert!(story.sharing.copied(1, (page + 1) % 64).is_some());
        if worker > 8 {
            story.sharing.left(worker - 6, Leave::Exit);
        }
        let [edges, solos, forks] = story.sharing.sizes();
        assert!(edges <= 64 && solos <= 64 && forks <= 64);
    }
    let accounts = finish(story.sharing);
    assert_eq!(accounts.len(), 1998);
}

#[test]
fn a_child_that_is_not_new_is_not_taken() {
    let (mut story, first) = Story::forked(0..10);
    story.fork(2, 1, 0..10);
    story.fork(3, 2, 0..10);
    story.fork(4, 4, 0..10);
    assert_eq!(story.sharing.sharers(2, 5), [1]);
    story.copies(2, 0..10, first);
    story.ends_with([10, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// A part of what a fork's survey goes through, 1.5 GiB in one piece, of which pages here and there are written: a page takes a bit
/// in each of two sets, what the two share and what the parent has left for itself.
#[test]
fn a_page_takes_a_bit_for_each_set_that_it_may_be_in() {
    const PAGES: u64 = 768 * 512;
    let (mut story, fork) = Story::forked(0..PAGES);
    let whole = story.sharing.bytes();
    assert!(whole <= PAGES / 8 + 4096, "{whole} bytes");
    for page in (0..PAGES).step_by(8) {
        story.copies(2, page..page + 1, fork);
    }
    let spread = story.sharing.bytes();
    assert!(spread <= 2 * PAGES / 8 + 4096, "{spread} bytes");
    story.sharing.left(1, Leave::Exit);
    story.sharing.left(2, Leave::Exit);
    assert_eq!(story.sharing.bytes(), 0);
}

/// A parent's children are as many edges, of which each page has one; a fault goes through them all.
#[test]
fn a_parent_has_an_edge_for_each_child_that_lives() {
    const CHILDREN: u32 = 500;
    let mut story = Story::default();
    for child in 0..CHILDREN {
        story.fork(1, 2 + child, 0..512);
    }
    let of_parent = CHILDREN as usize;
    assert_eq!(story.sharing.sizes(), [of_parent, 0, of_parent]);
    // It leaves a page: those that go on sharing that are linked to each other, which is two sets for each at the most.
    assert!(story.sharing.copied(1, 7).is_some());
    let [edges, ..] = story.sharing.sizes();
    assert!(edges < 2 * of_parent, "{edges}");
    assert_eq!(story.sharing.sharers(2, 7).len(), of_parent - 1);
}
