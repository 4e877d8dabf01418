//! Forks of more memory than is surveyed in one go: what was left out, and what faults tell of it.

use memtrace_ebpf::{pte::PAGE_SIZE, syscall};

use super::story::{FIRST, Story, heap_page, heap_pages};
use crate::trace::event::{Address, NotSurveyed};

/// Pages of which a fork surveys only the first four.
const PAGES: u64 = 16;

/// 100 forks 200 with [`PAGES`].
fn forked() -> Story {
    let mut story = Story::of(100, 0xa);
    fork(&mut story, 100, (200, 0xb));
    story
}

/// A process forks another, of its own address space.
fn fork(story: &mut Story, parent: u32, (child, mm): (u32, u64)) {
    story.fork_as(parent, child, mm, &[heap_pages(0..PAGES)], |birth| {
        birth.unsurveyed = heap_page(4);
        birth.anonymous = PAGES;
    });
}

#[test]
fn what_is_left_out_is_told() {
    let mut story = forked();
    story.fork_as(100, 300, 0xc, &[heap_pages(0..8)], |birth| {
        birth.unsurveyed = heap_page(8);
    });
    let outcome = story.play();
    let told: Vec<_> = outcome
        .clones()
        .iter()
        .map(|clone| clone.copied.expect("a fork"))
        .map(|copied| (copied.pages, copied.not_surveyed))
        .collect();
    let from = |page, pages| {
        Some(NotSurveyed {
            from: Address(heap_page(page)),
            pages,
        })
    };
    assert_eq!(told, [(4, from(4, Some(12))), (8, from(8, None))]);
    let rests: Vec<_> = outcome.forks.iter().map(|fork| fork.not_surveyed).collect();
    assert_eq!(rests, [from(4, Some(12)), from(8, None)]);
}

#[test]
fn faults_tell_what_was_shared() {
    let mut story = forked();
    story.copies(200, 5, 2);
    story.copies(100, 6, 2);
    // Those two know of each other's pages now.
    story.takes_over(100, 5);
    story.takes_over(200, 6);
    story.copies(200, 0, 2);
    let outcome = story.play();
    outcome.copies_are([
        "200 5: fork 1 100>200, with [100] of 2",
        "100 6: fork 1 100>200, with [200] of 2",
        "200 0: fork 1 100>200, with [100] of 2",
    ]);
    outcome.accounts_are(["6: child 2 parent 1 shared 3; and 10"]);
}

#[test]
fn what_came_after_the_fork_was_not_shared_by_it() {
    let mut story = forked();
    story.fills(100, 8);
    story.fills(200, 9);
    story.fork_of(100, 300, 0xc, &[heap_pages(0..9)]);
    story.copies(300, 8, 2);
    story.takes_over(200, 9);
    let outcome = story.play();
    outcome.copies_are(["300 8: fork 2 100>300, with [100] of 2"]);
    outcome.accounts_are(["4: shared 4; and 12", "9: child 1 shared 8"]);
}

/// A page that a later fork is known to have shared says nothing of the fork before.
#[test]
fn the_latest_fork_is_to_blame() {
    let mut story = forked();
    story.fork_of(100, 300, 0xc, &[heap_pages(0..8)]);
    story.copies(100, 6, 3);
    story.copies(100, 9, 2);
    let outcome = story.play();
    outcome.copies_are([
        "100 6: fork 2 100>300, with [300] of 3",
        "100 9: fork 1 100>200, with [200] of 2",
    ]);
    outcome.accounts_are(["5: parent 1 shared 4; and 11", "8: parent 1 shared 7"]);
}

/// Who shares a page by one fork shares it by the others, too, that were not surveyed.
#[test]
fn all_who_share_a_page_are_known_by_one_fault() {
    let mut story = forked();
    fork(&mut story, 100, (300, 0xc));
    fork(&mut story, 200, (400, 0xd));
    story.copies(300, 10, 4);
    story.copies(400, 10, 3);
    story.takes_over(300, 10);
    story.ends(200);
    story.copies(100, 10, 1);
    let outcome = story.play();
    outcome.copies_are([
        "300 10: fork 2 100>300, with [100, 200, 400] of 4",
        "400 10: fork 3 200>400, with [100, 200] of 3",
        "100 10: reference 1 100>200, with [] of 1",
    ]);
    outcome.accounts_are([
        "5: parent 1 shared 4; and 11",
        "5: child 1 shared 4; and 11",
        "5: child 1 exit 4; and 11",
    ]);
}

#[test]
fn who_is_left_alone_takes_over() {
    let mut story = forked();
    story.ends(200);
    story.takes_over(100, 7);
    story.takes_over(100, 7);
    story.copies(100, 8, 1);
    let outcome = story.play();
    outcome.copies_are(["100 8: reference 1 100>200, with [] of 1"]);
    outcome.accounts_are(["6: parent 1 taken over 1 exit 4; and 10"]);
}

/// What is at an address since a call that gave up what was there says nothing of the fork.
#[test]
fn calls_change_what_is_there() {
    let mut story = forked();
    let bytes = |pages| pages * PAGE_SIZE;
    story.call(
        200,
        syscall::MUNMAP,
        [heap_page(5), bytes(2), 0, 0, 0, 0],
        0,
    );
    story.takes_over(200, 6);
    // Moved down by two pages, onto what there was.
    let new = heap_page(8);
    story.call(
        200,
        syscall::MREMAP,
        [heap_page(10), bytes(2), bytes(2), 3, new, 0],
        new.cast_signed(),
    );
    story.takes_over(200, 9);
    story.takes_over(200, 11);
    // The parent's are where they were.
    story.takes_over(100, 12);
    let outcome = story.play();
    outcome.accounts_are(["5: taken over 1 shared 4; and 11"]);
}

/// Advice may be on as many addresses as there are, whatever is mapped: holes are passed over. It is kept as what it is, not page
/// by page.
#[test]
fn advice_on_all_addresses_is_one_range() {
    const MADV_DONTNEED: u64 = 4;
    const ENOMEM: i64 = 12;
    let mut story = forked();
    story.copies(100, 8, 2);
    for start in [FIRST + 5, FIRST + 6, 0] {
        let all = [start * PAGE_SIZE, 1 << 63, MADV_DONTNEED, 0, 0, 0];
        story.call(200, syscall::MADVISE, all, -ENOMEM);
    }
    story.takes_over(100, 6);
    story.copies(200, 7, 2);
    let outcome = story.play();
    outcome.copies_are([
        "100 8: fork 1 100>200, with [200] of 2",
        "200 7: unknown, with [] of 2",
    ]);
    outcome.accounts_are(["5: parent 1 munmap 4; and 11"]);
}

/// When both are gone, nothing more is asked, and nothing is kept.
#[test]
fn what_is_left_out_is_forgotten_with_those_who_shared_it() {
    let mut story = forked();
    story.exec(200, 0xe, 0, super::regions::BOUNDS, &[]);
    story.copies(200, 5, 2);
    fork(&mut story, 100, (300, 0xb));
    story.ends(100);
    story.takes_over(300, 6);
    let outcome = story.play();
    outcome.copies_are(["200 5: unknown, with [] of 2"]);
    outcome.accounts_are([
        "4: exec 4, exec after 0; and 12",
        "5: taken over 1 exit 4; and 11",
    ]);
}

/// In the table of pages of the first address left out nothing is counted twice.
#[test]
fn the_pages_of_a_table_that_is_cut_are_not_counted() {
    let mut story = Story::of(100, 0xa);
    story.fork_as(100, 200, 0xb, &[heap_pages(0..PAGES)], |birth| {
        birth.unsurveyed = (FIRST + 1) * PAGE_SIZE;
        birth.anonymous = 3;
    });
    story.copies(200, 3, 2);
    story.play().accounts_are(["2: child 1 shared 1; and 1"]);
}
