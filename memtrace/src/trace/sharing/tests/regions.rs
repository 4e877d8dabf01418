//! The same numbers by region.

use std::ops::Range;

use super::{finish, fork, numbers, set};
use crate::trace::{
    event::{Area, Region},
    sharing::{ForkArea, Leave, Sharing},
};

fn area(pages: Range<u64>, region: Region, file: Option<&str>) -> ForkArea {
    ForkArea {
        pages,
        region,
        file: file.map(Into::into),
    }
}

/// Pages, copied, taken over, given up, still shared, unknown.
fn row(area: &Area) -> (Region, Option<&str>, [u64; 6]) {
    let numbers = [
        area.pages,
        area.copied,
        area.taken_over,
        area.given_up,
        area.still_shared,
        area.unknown,
    ];
    (area.region, area.file.as_deref(), numbers)
}

#[test]
fn an_account_is_split_by_what_the_memory_was_at_the_fork() {
    let areas = vec![
        area(0..10, Region::Data, None),
        area(10..100, Region::Heap, None),
        area(500..510, Region::Lib, Some("/lib/libc.so.6")),
        area(510..520, Region::Lib, Some("/lib/libm.so.6")),
        area(520..530, Region::Lib, Some("/lib/libc.so.6")),
        area(1 << 33..1 << 34, Region::Anon, None),
        area(1 << 35..(1 << 35) + 100, Region::Stack, None),
    ];
    let stack = 1 << 35;
    let shared = set((5..50).chain(505..525).chain(stack..stack + 3));
    let at_once = set([50, 51, stack + 3]);
    let mut sharing = Sharing::default();
    sharing.fork(fork(1, 1, 2), areas, &shared, &at_once);

    for page in [5, 6, 30, 505, 524, stack] {
        assert!(sharing.copied(2, page).is_some(), "{page}");
    }
    // What counts is where a page was.
    sharing.moved(2, &(40..50), 515);
    assert!(sharing.copied(2, 515).is_some());
    sharing.lost(1, 41);
    sharing.gave_up(1, &(7..9));
    assert_eq!(sharing.taken_over(2, 7), Some(1));
    sharing.moved(1, &(506..508), 600);
    assert!(sharing.copied(1, 600).is_some());
    sharing.gave_up(2, &(0..20));
    assert!(sharing.copied(1, 12).is_some_and(|blame| blame.reference));

    let [account] = finish(sharing).try_into().expect("one fork");
    let expected = [
        (Region::Data, None, [5, 2, 1, 2, 0, 0]),
        (Region::Heap, None, [42, 5, 0, 9, 27, 1]),
        (Region::Lib, Some("/lib/libc.so.6"), [10, 3, 0, 4, 3, 0]),
        (Region::Lib, Some("/lib/libm.so.6"), [10, 0, 0, 5, 5, 0]),
        (Region::Stack, None, [4, 2, 0, 0, 2, 0]),
    ];
    let rows: Vec<_> = account.areas.iter().map(row).collect();
    assert_eq!(rows, expected);
    assert_eq!(account.at_once, 3);
    assert_eq!(numbers(&account), [71, 7, 2, 0, 1, 0, 0, 20, 37, 1, 0]);
}

#[test]
fn what_was_given_up_is_split_too() {
    let areas = vec![
        area(0..10, Region::Data, None),
        area(10..100, Region::Heap, None),
    ];
    let mut sharing = Sharing::default();
    sharing.fork(fork(1, 1, 2), areas, &set(0..100), &set([]));
    sharing.left(2, Leave::Exec);
    assert_eq!(sharing.taken_over(1, 99), Some(1));
    let [account] = finish(sharing).try_into().expect("one fork");
    let rows: Vec<_> = account.areas.iter().map(row).collect();
    assert_eq!(rows[0], (Region::Data, None, [10, 0, 0, 10, 0, 0]));
    assert_eq!(rows[1], (Region::Heap, None, [90, 0, 1, 89, 0, 0]));
}
