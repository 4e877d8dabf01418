//! mremap and munmap, and page numbers that come again.

use super::{Story, numbers};
use crate::trace::sharing::Leave;

#[test]
fn a_range_is_moved_in_the_child_and_written_on_both_sides() {
    let (mut story, fork) = Story::forked(0..100);
    story.sharing.moved(2, &(20..40), 200);
    assert_eq!(story.sharing.sharers(2, 217), [1]);
    assert_eq!(story.sharing.sharers(1, 37), [2]);
    story.knows_nothing(2, 20..40);

    story.copies(2, 200..210, fork);
    story.takes_over(1, 20..30, fork);
    story.copies(1, 30..35, fork);
    story.takes_over(2, 210..215, fork);
    story.sharing.left(2, Leave::Exit);
    story.takes_over(1, 35..38, fork);

    story.ends_with([100, 10, 5, 0, 3, 0, 82, 0, 0, 0, 0]);
}

/// The pages are at 0 in 1, at 200 in 2 and at 500 in 3; then the one in the middle goes.
#[test]
fn shifts_add_up_where_edges_pass_on() {
    let (mut story, first) = Story::forked(0..100);
    story.sharing.moved(2, &(0..100), 200);
    let second = story.fork(2, 3, 200..300);
    story.sharing.moved(3, &(250..300), 500);
    assert_eq!(story.sharing.sharers(3, 500), [1, 2]);
    assert_eq!(story.sharing.sharers(1, 50), [2, 3]);

    story.copies(2, 250..252, second);
    assert_eq!(story.sharing.sharers(3, 500), [1]);
    story.sharing.left(2, Leave::Exit);
    assert_eq!(story.sharing.sharers(3, 510), [1]);
    assert_eq!(story.sharing.sharers(1, 60), [3]);
    assert_eq!(story.sharing.sharers(3, 210), [1]);
    story.copies(3, 500..505, first);
    story.copies(1, 10..20, first);
    story.takes_over(3, 210..220, first);
    story.copies_alone(1, 50..51, first);

    let [one, two] = story.finish();
    assert_eq!(numbers(&one), [100, 0, 10, 5, 0, 0, 0, 0, 85, 0, 1]);
    assert_eq!(numbers(&two), [100, 0, 2, 0, 0, 0, 98, 0, 0, 0, 0]);
}

#[test]
fn what_was_where_a_range_is_moved_to_is_given_up() {
    let (mut story, fork) = Story::forked(0..100);
    story.sharing.moved(1, &(0..30), 60);
    assert_eq!(story.sharing.sharers(2, 10), [1]);
    assert_eq!(story.sharing.sharers(2, 70), [0_u32; 0]);
    story.copies(1, 60..70, fork);
    story.copies_alone(2, 60..65, fork);
    story.takes_over(2, 65..90, fork);
    story.ends_with([100, 5, 10, 0, 25, 0, 0, 0, 60, 0, 0]);
}

#[test]
fn there_and_back_is_as_before() {
    let (mut story, fork) = Story::forked(0..100);
    story.sharing.moved(2, &(10..20), 1000);
    story.sharing.moved(2, &(1000..1010), 2000);
    story.sharing.check((100, 0));
    assert_eq!(story.sharing.sizes(), [2, 0, 1]);
    story.sharing.moved(2, &(2000..2010), 10);
    assert_eq!(story.sharing.sizes(), [1, 0, 1]);
    story.copies(2, 0..100, fork);
    story.ends_with([100, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn pages_that_are_alone_move_too() {
    let (mut story, fork) = Story::forked(0..100);
    story.copies(2, 0..10, fork);
    story.sharing.left(2, Leave::Exit);
    story.sharing.moved(1, &(5..50), 1005);
    story.knows_nothing(1, 5..50);
    story.copies_alone(1, 1005..1010, fork);
    story.takes_over(1, 1010..1020, fork);
    story.takes_over(1, 0..5, fork);
    story.takes_over(1, 50..60, fork);
    story.ends_with([100, 10, 0, 0, 20, 0, 70, 0, 0, 0, 5]);
}

#[test]
fn half_is_unmapped() {
    let (mut story, fork) = Story::forked(0..100);
    story.sharing.gave_up(2, &(50..100));
    story.sharing.gave_up(2, &(50..100));
    assert_eq!(story.sharing.sharers(1, 49), [2]);
    assert_eq!(story.sharing.sharers(1, 50), [0_u32; 0]);
    story.takes_over(1, 50..60, fork);
    story.copies(1, 0..10, fork);
    story.sharing.gave_up(1, &(0..100));
    story.knows_nothing(1, 0..100);
    story.takes_over(2, 10..12, fork);
    story.ends_with([100, 0, 10, 0, 12, 0, 0, 78, 0, 0, 0]);
}

/// Large parts are taken out of a set in another way than small ones.
#[test]
fn half_of_much_is_unmapped() {
    let (mut story, fork) = Story::forked(0..30_000);
    story.sharing.gave_up(2, &(10_000..20_000));
    story.sharing.gave_up(2, &(25_000..25_010));
    assert_eq!(story.sharing.sharers(1, 9_999), [2]);
    assert!(story.sharing.sharers(1, 10_000).is_empty());
    assert!(story.sharing.sharers(1, 19_999).is_empty());
    assert_eq!(story.sharing.sharers(1, 20_000), [2]);
    assert!(story.sharing.sharers(1, 25_009).is_empty());
    assert_eq!(story.sharing.sharers(1, 25_010), [2]);
    story.takes_over(1, 19_999..20_000, fork);
    story.ends_with([30_000, 0, 0, 0, 1, 0, 0, 10_009, 19_990, 0, 0]);
}

/// The same page numbers are other pages after a munmap and a new mapping.
#[test]
fn page_numbers_come_again() {
    let (mut story, first) = Story::forked(0..100);
    story.sharing.gave_up(1, &(0..50));
    let second = story.fork(1, 3, 0..100);
    assert_eq!(story.sharing.sharers(1, 10), [3]);
    assert_eq!(story.sharing.sharers(2, 10), [0_u32; 0]);
    assert_eq!(story.sharing.sharers(2, 60), [1, 3]);
    story.copies(1, 0..100, second);
    assert_eq!(story.sharing.sharers(2, 60), [3]);
    story.copies(3, 60..70, first);
    story.takes_over(2, 0..5, first);
    story.takes_over(3, 0..5, second);
    let [one, two] = story.finish();
    assert_eq!(numbers(&one), [100, 0, 0, 10, 5, 0, 0, 45, 40, 0, 0]);
    assert_eq!(numbers(&two), [100, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_names_no_pages_changes_nothing() {
    let (mut story, fork) = Story::forked(0..10);
    story.sharing.moved(2, &(5..5), 0);
    story.sharing.moved(2, &(3..8), 3);
    story.sharing.gave_up(2, &(10..u64::MAX));
    story.sharing.gave_up(2, &(7..7));
    story.sharing.gave_up(3, &(0..10));
    story.sharing.left(3, Leave::Exit);
    story.copies(2, 0..10, fork);
    story.ends_with([10, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}
