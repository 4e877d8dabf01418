//! Forks and what they leave shared: who copies it, and why; who takes it over.

use memtrace_ebpf::{
    record::{Birth, FAULT_MINOR, FAULT_MM_GONE, Frame, Tally, VmaReason},
    syscall,
};

use super::{
    regions::{BOUNDS, PROG, program},
    story::{
        Area, FIRST, FORK, READ, Story, WRITE, anonymous, file, flagged, heap, heap_page,
        heap_pages, minor, of_frame, ro,
    },
};
use crate::trace::event;

#[test]
fn a_clone_says_what_it_copied() {
    let mut story = Story::of(100, 0xa);
    let pinned = Area {
        pinned: vec![FIRST + 8, FIRST + 700],
        ..heap_pages(0..8)
    };
    story.fork_as(100, 200, 0xb, &[pinned], |birth| {
        birth.table_bytes = 12_288;
        birth.swapped = 3;
    });
    story.thread(100, 101, 0);
    story.vfork(100, 300);
    story.fork(101, 400, 0xc);
    let outcome = story.play();
    let said: Vec<_> = outcome
        .clones()
        .iter()
        .map(|clone| (clone.child_tid, clone.fork, clone.copied))
        .collect();
    let copied = event::Copied {
        pages: 10,
        at_once: 2,
        swapped: 3,
        table_bytes: 12_288,
        not_surveyed: None,
    };
    let nothing = Some(event::Copied::default());
    assert_eq!(
        said,
        [
            (200, Some(1), Some(copied)),
            (101, None, None),
            (300, None, None),
            (400, Some(2), nothing),
        ],
        "only what copies the address space is a fork"
    );
    outcome.accounts_are(["10: at once 2 shared 8", "0:"]);
    let fork = &outcome.forks[0];
    assert_eq!((fork.table_bytes, fork.swapped), (12_288, 3));
    assert_eq!((fork.parent, fork.child), (100, 200));
    assert_eq!((&*fork.parent_comm, &*fork.child_comm), ("first", "first"));
    let [second] = &outcome.forks[1..] else {
        panic!("two forks")
    };
    assert_eq!(
        (second.parent, second.child),
        (100, 400),
        "a thread's fork is its process's"
    );
}

#[test]
fn a_copy_names_its_fork_and_the_sharers() {
    let mut story = Story::forked(8);
    let forked = story.now();
    story.copies(200, 0, 2);
    let copied = story.now();
    story.copies(100, 1, 2);
    // What is left to one alone is taken over.
    story.takes_over(100, 0);
    // And is nobody else's after that.
    story.fork_of(200, 300, 0xc, &[heap_pages(0..8)]);
    story.copies(300, 0, 2);
    story.copies(300, 1, 2);
    story.copies(300, 2, 3);
    story.copies(200, 2, 2);
    story.copies(100, 3, 3);
    let outcome = story.play();
    outcome.copies_are([
        "200 0: fork 1 100>200, with [100] of 2",
        "100 1: fork 1 100>200, with [200] of 2",
        "300 0: fork 2 200>300, with [200] of 2",
        "300 1: fork 2 200>300, with [200] of 2",
        "300 2: fork 2 200>300, with [100, 200] of 3",
        "200 2: fork 1 100>200, with [100] of 2",
        "100 3: fork 1 100>200, with [200, 300] of 3",
    ]);
    outcome.accounts_are(["8: child 2 parent 2 shared 4", "8: child 3 shared 5"]);
    let faults = outcome.faults();
    let cause = faults[0].cause.as_deref().expect("a copy's cause");
    assert_eq!(cause.fork.expect("a fork").ago, copied - forked);
    assert_eq!((cause.sharer_count, cause.map_count), (1, Some(2)));
}

/// A grandchild goes on sharing with its grandparent when the one between is gone.
#[test]
fn a_grandchild_inherits_the_sharing() {
    let mut story = Story::forked(4);
    story.fork_of(200, 300, 0xc, &[heap_pages(0..4)]);
    story.ends(200);
    story.copies(300, 0, 2);
    story.copies(100, 1, 2);
    story.ends(300);
    story.takes_over(100, 2);
    let outcome = story.play();
    outcome.copies_are([
        "300 0: fork 1 100>200, with [100] of 2",
        "100 1: fork 1 100>200, with [300] of 2",
    ]);
    outcome.accounts_are(["4: parent 1 others 1 taken over 1 exit 1", "4: exit 4"]);
}

#[test]
fn many_sharers_are_counted_and_the_first_named() {
    let mut story = Story::of(100, 0xa);
    for child in 0..20 {
        story.fork_of(
            100,
            200 + child,
            0xb + u64::from(child),
            &[heap_pages(0..1)],
        );
    }
    // Threads of one process are one sharer.
    story.thread(200, 900, 0);
    story.copies(100, 0, 21);
    let outcome = story.play();
    let faults = outcome.faults();
    let cause = faults[0].cause.as_deref().expect("a copy's cause");
    assert_eq!(cause.sharers, (200..216).collect::<Vec<u32>>());
    assert_eq!((cause.sharer_count, cause.map_count), (20, Some(21)));
}

#[test]
fn each_cause_has_its_name() {
    let mut story = Story::forked(3);
    story.copies(200, 0, 2);
    // The kernel still holds the parent's page: it copies what nobody else maps.
    story.copies(100, 0, 1);
    story.copies_frame(200, 1, (Frame::Ksm, 9));
    story.copies_frame(100, 20, (Frame::PageCache, 4));
    // No fork was seen that shared these.
    story.copies(100, 21, 2);
    story.copies(100, 22, 1);
    story.copies_frame(100, 23, (Frame::Unknown, 7));
    let outcome = story.play();
    outcome.copies_are([
        "200 0: fork 1 100>200, with [100] of 2",
        "100 0: reference 1 100>200, with [] of 1",
        "200 1: ksm, with [100] of 9",
        "100 20: page-cache, with [] of 4",
        "100 21: unknown, with [] of 2",
        "100 22: reference, with [] of 1",
        "100 23: unknown, with [] of ?",
    ]);
    outcome.accounts_are(["3: child 1 shared 1 unknown 1, again 1"]);
}

/// One side gave the page up, but something in the kernel holds it still: the other's write copies it.
#[test]
fn a_reference_makes_a_copy_of_what_was_given_up() {
    let mut story = Story::forked(4);
    story.ends(200);
    story.copies(100, 0, 1);
    story.takes_over(100, 1);
    let outcome = story.play();
    outcome.copies_are(["100 0: reference 1 100>200, with [] of 1"]);
    outcome.accounts_are(["4: parent 1 taken over 1 exit 2"]);
}

#[test]
fn what_comes_anew_is_not_what_was_shared() {
    let mut story = Story::forked(4);
    // Something took the page away unseen.
    story.fills(200, 0);
    story.takes_over(100, 0);
    story.play().accounts_are(["4: shared 3 unknown 1"]);
}

#[test]
fn threads_write_for_their_process() {
    let mut story = Story::threaded();
    story.fork_of(101, 200, 0xb, &[heap_pages(0..8)]);
    story.thread(200, 201, 0);
    story.copies(100, 0, 2);
    story.copies(101, 1, 2);
    story.copies(201, 2, 2);
    story.takes_over(101, 2);
    // The process lives while a thread does.
    story.ends(101);
    story.ends(200);
    story.copies(201, 3, 2);
    story.ends(201);
    story.takes_over(100, 4);
    let outcome = story.play();
    outcome.copies_are([
        "100 0: fork 1 100>200, with [200] of 2",
        "101 1: fork 1 100>200, with [200] of 2",
        "201 2: fork 1 100>200, with [100] of 2",
        "201 3: fork 1 100>200, with [100] of 2",
    ]);
    outcome.accounts_are(["8: child 2 parent 2 taken over 1 exit 3"]);
}

/// While a fork goes on, a thread beside it may write a page that is shared already: that copy begins before the child is
/// complete, and is the fork's all the same.
#[test]
fn a_copy_during_the_fork_is_booked_on_it() {
    let mut story = Story::threaded();
    // Before the call; and during it, one of them of a page that the fork has not shared.
    story.copies(101, 0, 2);
    let began = story.tick();
    story.copies(101, 1, 2);
    story.copies(101, 30, 2);
    story.fork_as(100, 200, 0xb, &[heap_pages(0..4)], |birth| {
        birth.began = began;
    });
    story.takes_over(200, 1);
    let outcome = story.play();
    outcome.copies_are([
        "101 0: unknown, with [] of 2",
        "101 1: unknown, with [] of 2",
        "101 30: unknown, with [] of 2",
    ]);
    outcome.accounts_are(["4: parent 1 shared 3"]);
}

/// Two threads fork at the same time: each fork explains what it has shared.
#[test]
fn two_forks_may_be_under_way() {
    let mut story = Story::threaded();
    story.thread(100, 102, 0);
    let began = story.tick();
    story.copies(102, 1, 2);
    let areas = [heap_pages(4..6)];
    story.fork_as(100, 200, 0xb, &areas, |birth| birth.began = began);
    story.fork_as(101, 300, 0xc, &[heap_pages(0..6)], |birth| {
        birth.began = began;
    });
    let outcome = story.play();
    outcome.copies_are(["102 1: unknown, with [] of 2"]);
    outcome.accounts_are(["2: shared 2", "6: parent 1 shared 5"]);
}

/// A fault is written late, with the time at which it began: before the fork that comes first in the buffer.
#[test]
fn a_copy_that_is_told_late_is_in_its_place() {
    let mut story = Story::threaded();
    story.fork_of(100, 200, 0xb, &[heap_pages(0..4)]);
    story.copies(101, 3, 2);
    let then = story.tick();
    story.tick();
    story.fork_of(100, 300, 0xc, &[heap_pages(1..4)]);
    story.ends(200);
    story.at(then, |story| story.copies(101, 0, 2));
    let outcome = story.play();
    outcome.copies_are([
        "101 3: fork 1 100>200, with [200] of 2",
        "101 0: fork 1 100>200, with [200] of 2",
    ]);
    outcome.accounts_are(["4: parent 2 exit 2", "3: shared 3"]);
}

/// What nobody has watched isn't known.
#[test]
fn the_fork_of_a_child_that_is_not_followed_ends_unknown() {
    let mut story = Story::of(100, 0xa);
    let not_followed = |birth: &mut Birth| birth.followed = 0;
    let (flags, areas) = (FORK, [heap_pages(0..4)]);
    story.clone_as(100, (200, 200), (flags, 0xb), &areas, not_followed);
    story.copies(100, 0, 2);
    story.takes_over(100, 1);
    let unmapped = [heap_page(2), 0x1000, 0, 0, 0, 0];
    story.call(100, syscall::MUNMAP, unmapped, 0);
    let outcome = story.play();
    outcome.copies_are(["100 0: fork 1 100>200, with [] of 2"]);
    let account = &outcome.forks[0];
    outcome.accounts_are(["4: parent 1 unknown 3"]);
    assert_eq!(&*account.child_comm, "first", "the name it was born with");
    let [clone] = outcome.clones()[..] else {
        panic!("a clone")
    };
    assert!(!clone.followed);
    assert_eq!(outcome.tasks.len(), 1, "it has no row");
}

/// Areas are named as the parent has them; a library's data is shared, too.
#[test]
fn an_account_has_its_areas() {
    const LIBC: u64 = 0xe3;
    const LIB: u64 = 0x7f10_0000;
    let mut story = program(100, 0xa);
    story.path(100, LIBC, "/lib/libc.so");
    let code = file(LIB, LIB + 0x1000, 5, LIBC, 0);
    story.fault_in(100, code, minor(READ, LIB, 0, ro(5)));
    let library = Area {
        vma: file(LIB + 0x1000, LIB + 0x4000, 3, LIBC, 1),
        shared: vec![LIB / 4096 + 1, LIB / 4096 + 3],
        pinned: vec![LIB / 4096 + 2],
    };
    let bss = Area {
        vma: anonymous(0x40_4000, 0x40_6000),
        shared: vec![0x404, 0x405],
        pinned: vec![],
    };
    story.fork_of(100, 200, 0xb, &[bss, heap_pages(510..514), library]);
    story.copies(200, 511, 2);
    story.exec(200, 0xc, PROG, BOUNDS, &["again"]);
    story.takes_over(100, 512);
    let outcome = story.play();
    outcome.accounts_are(["9: child 1 at once 1 taken over 1 exec 6, exec after 1"]);
    let areas: Vec<String> = outcome.forks[0]
        .areas
        .iter()
        .map(|area| {
            format!(
                "{} {}: {} copied {} taken over {} given up {}",
                area.region.name(),
                area.file.as_deref().unwrap_or("-"),
                area.pages,
                area.copied,
                area.taken_over,
                area.given_up
            )
        })
        .collect();
    assert_eq!(
        areas,
        [
            "bss -: 2 copied 0 taken over 0 given up 2",
            "anon -: 4 copied 1 taken over 1 given up 2",
            "lib /lib/libc.so: 3 copied 1 taken over 0 given up 2",
        ]
    );
}

/// With `--summary` there are no records of VMAs, and no events of faults: the accounts are the same.
#[test]
fn a_summary_has_the_same_accounts() {
    let tell = |summary| {
        let mut story = Story::of(100, 0xa);
        story.summary = summary;
        story.fork_of(100, 200, 0xb, &[heap_pages(0..8)]);
        story.copies(200, 0, 2);
        story.takes_over(100, 0);
        story.copies(100, 1, 2);
        story.execs(200, 0xc);
        story.takes_over(100, 2);
        story.play()
    };
    let (all, summary) = (tell(false), tell(true));
    all.accounts_are(["8: child 1 parent 1 taken over 1 exec 5, exec after 2"]);
    assert_eq!(summary.accounts(), all.accounts());
    assert!(summary.faults().is_empty());
    assert_eq!(all.faults().len(), 4);
}

/// A page of 2 MiB is split by the fork or by the write; a reuse of it as a whole is of all its pages.
#[test]
fn a_huge_page_is_taken_over_as_a_whole() {
    let huge = 0x200;
    let mut story = Story::of(100, 0xa);
    let area = Area {
        vma: anonymous(huge << 12, (huge + 1024) << 12),
        shared: (huge..huge + 1024).collect(),
        pinned: vec![],
    };
    story.fork_of(100, 200, 0xb, std::slice::from_ref(&area));
    story.ends(200);
    story.vma(100, VmaReason::Fault, area.vma);
    let entry = ro(0x4_0000) | 1 << 7;
    story.fault_at(
        0x22,
        100,
        minor(WRITE, (huge + 9) << 12, entry, entry | 0x42),
    );
    let outcome = story.play();
    outcome.kinds_are(["cow-reuse"]);
    outcome.accounts_are(["1024: taken over 512 exit 512"]);
}

/// The kernel clears a word of each thread's at its end, which comes after that of the last is seen to begin; and when the
/// address space is gone by then, too, the entry before says that the page was copied.
#[test]
fn what_the_ends_of_threads_copy_is_in_the_account() {
    let mut story = Story::threaded();
    story.fork_of(100, 200, 0xb, &[heap_pages(0..4)]);
    let end = story.now() + 1000;
    story.at(end, |story| story.copies(101, 0, 2));
    let unseen = minor(WRITE, heap_page(1), ro(0x1001), 0);
    let unseen = of_frame(unseen, Frame::Anonymous, 2);
    let flags = FAULT_MM_GONE | FAULT_MINOR;
    story.at(end + 100, |story| {
        story.fault_in(101, heap(), flagged(unseen, flags));
    });
    story.exit(101, 0);
    story.exit(100, 0);
    story.at(end + 200, |story| story.gone(101, Tally::default()));
    story.at(end + 300, |story| story.gone(100, Tally::default()));
    story.at(end + 400, |story| story.takes_over(200, 2));
    let outcome = story.play();
    outcome.kinds_are(["cow-copy", "cow-copy", "cow-reuse"]);
    outcome.accounts_are(["4: parent 2 taken over 1 exit 1"]);
    let fault = outcome.faults()[1];
    assert_eq!((fault.pfn_before, fault.pfn_after), (Some(0x1001), None));
    assert!(fault.detail.is_some() && fault.cause.is_some());
}

#[test]
fn what_no_private_mapping_has_is_not_shared_by_a_fork() {
    let mut story = Story::forked(2);
    // The place has become shared memory, unseen: a write to it says nothing of the pages before.
    let shared = file(heap().start, heap().end, 0x8b, 0xf1, 0);
    story.fault_in(200, shared, minor(WRITE, heap_page(0), 0, ro(3)));
    story.play().accounts_are(["2: shared 2"]);
}
