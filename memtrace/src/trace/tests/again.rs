//! Addresses of address spaces, and ids of tasks, that come again.

use memtrace_ebpf::record::VmaReason;

use super::story::{Story, counters, heap, heap_pages};
use memtrace_ebpf::record::Record;

/// The memory of a process is freed as it exits; its last thread is gone later.
#[test]
fn the_next_fork_may_lie_where_an_exit_was() {
    let mut story = Story::forked(8);
    story.copies(200, 0, 2);
    story.exit(200, 0);
    story.fork_of(100, 300, 0xb, &[heap_pages(1..8)]);
    story.copies(300, 1, 2);
    story.gone(200, counters(0, 0));
    story.copies(300, 2, 2);
    story.copies(100, 3, 2);
    story.ends(300);
    let outcome = story.play();
    outcome.copies_are([
        "200 0: fork 1 100>200, with [100] of 2",
        "300 1: fork 2 100>300, with [100] of 2",
        "300 2: fork 2 100>300, with [100] of 2",
        "100 3: fork 2 100>300, with [300] of 2",
    ]);
    outcome.accounts_are(["8: child 1 exit 7", "7: child 2 parent 1 exit 4"]);
}

/// An exec frees the old memory long before it is complete.
#[test]
fn the_next_fork_may_lie_where_an_exec_was() {
    for fault_first in [true, false] {
        let mut story = Story::forked(8);
        story.copies(200, 0, 2);
        story.in_exec(200, 0xc);
        if fault_first {
            story.fills(200, 5);
        }
        story.fork_of(100, 300, 0xb, &[heap_pages(1..8)]);
        story.thread(300, 301, 0);
        story.execs(200, 0xc);
        // Whose memory it is now lives on as its threads do.
        story.ends(300);
        story.copies(301, 1, 2);
        story.ends(200);
        story.copies(100, 2, 2);
        story.ends(301);
        let outcome = story.play();
        assert_eq!(
            outcome.copies(),
            [
                "200 0: fork 1 100>200, with [100] of 2",
                "301 1: fork 2 100>300, with [100] of 2",
                "100 2: fork 2 100>300, with [300] of 2",
            ],
            "{fault_first}"
        );
        assert_eq!(
            outcome.accounts(),
            [
                "8: child 1 exec 7, exec after 1",
                "7: child 1 parent 1 exit 5"
            ],
            "{fault_first}"
        );
    }
}

/// The new memory of an exec may lie where another's was.
#[test]
fn the_next_exec_may_lie_where_an_exit_was() {
    let mut story = Story::forked(8);
    story.fork_of(100, 300, 0xc, &[heap_pages(0..8)]);
    story.exit(200, 0);
    story.in_exec(300, 0xb);
    story.fills(300, 1);
    story.execs(300, 0xb);
    story.vma(300, VmaReason::Exec, heap());
    story.fork_of(300, 400, 0xd, &[heap_pages(0..2)]);
    story.gone(200, counters(0, 0));
    story.copies(400, 0, 2);
    story.copies(300, 1, 2);
    let outcome = story.play();
    outcome.copies_are([
        "400 0: fork 3 300>400, with [300] of 2",
        "300 1: fork 3 300>400, with [400] of 2",
    ]);
    outcome.accounts_are([
        "8: exit 8",
        "8: exec 8, exec after 0",
        "2: child 1 parent 1",
    ]);
}

#[test]
fn ids_that_come_again_are_others() {
    let mut story = Story::of(100, 0xa);
    for mm in [0xb, 0xc, 0xb] {
        story.fork_of(100, 200, mm, &[heap_pages(0..4)]);
        story.thread(200, 201, 0);
        story.copies(201, 0, 2);
        story.ends(201);
        story.ends(200);
    }
    // A thread's id becomes a process's.
    story.fork_of(100, 201, 0xd, &[heap_pages(0..4)]);
    story.copies(201, 1, 2);
    let outcome = story.play();
    outcome.copies_are([
        "201 0: fork 1 100>200, with [100] of 2",
        "201 0: fork 2 100>200, with [100] of 2",
        "201 0: fork 3 100>200, with [100] of 2",
        "201 1: fork 4 100>201, with [100] of 2",
    ]);
    let over = "4: child 1 exit 3";
    outcome.accounts_are([over, over, over, "4: child 1 shared 3"]);
    let rows: Vec<u32> = outcome.rows.iter().map(|row| row.pid).collect();
    assert_eq!(rows, [100, 200, 200, 200, 201]);
}

/// What was told of a fork whose birth was lost is of no other.
#[test]
fn what_a_lost_birth_left_is_nobodys() {
    let mut story = Story::forked(100);
    let lost = story.records.pop();
    assert!(matches!(lost, Some(Record::Birth(_))));
    story.fork_of(100, 300, 0xb, &[heap_pages(0..4)]);
    story.fork_of(100, 400, 0xc, &[heap_pages(0..4)]);
    // Nothing was shared here.
    story.fork_of(100, 500, 0xd, &[heap_pages(0..100)]);
    story.records.pop();
    story.fork_of(100, 600, 0xd, &[]);
    let outcome = story.play();
    outcome.accounts_are(["4: shared 4", "4: shared 4", "0:"]);
}
