//! The accounts: what was seen beside what the kernel counted, each difference by its name.

use memtrace_ebpf::{
    fault::Kind,
    record::{Bounds, FAULT_MAJOR, Known, Seen, Tally},
    syscall,
};

use super::story::{Story, WRITE, anonymous, counters, flagged, minor, ro, rw, tallied};
use crate::trace::{
    account::{Book, Counts},
    record::Record,
};

const PAGE: u64 = 0x7b00_0000;

/// A process with three faults, two of them counted as minor, one as major.
fn three_faults(story: &mut Story, tid: u32) {
    story.vma(tid, Seen::Fault, anonymous(PAGE, PAGE + 0x10_0000));
    story.fault(tid, minor(WRITE, PAGE, 0, rw(1)));
    story.fault(tid, minor(WRITE, PAGE, ro(1), rw(2)));
    let read = minor(WRITE, PAGE + 0x1000, 0x1234 << 9, rw(3));
    story.fault(tid, flagged(read, FAULT_MAJOR));
}

#[test]
fn every_counted_fault_has_a_name() {
    let mut story = Story::of(100, 0xa);
    three_faults(&mut story, 100);
    story.unobserved(100, syscall::EXECVE, 3, 1);
    story.unobserved(100, syscall::EXECVE, 1, 0);
    story.unobserved(100, syscall::NONE, 0, 2);
    story.exit(100, 0);
    story.gone(100, counters(6, 4));
    let outcome = story.play();
    let row = outcome.row(100);
    assert_eq!(
        row.faults,
        tallied(&[("cow-copy", 1), ("swap-in", 1), ("zero-fill", 1)])
    );
    assert_eq!((row.min_flt, row.maj_flt, row.unobserved), (6, 4, 7));
    assert_eq!(row.unobserved_by["execve"], 5);
    assert_eq!(row.unobserved_by.len(), 2, "{:?}", row.unobserved_by);
    assert_eq!(
        row.unobserved_by.values().sum::<i64>(),
        7,
        "nothing is left"
    );
}

#[test]
fn what_no_record_explains_is_unexplained() {
    let mut story = Story::of(100, 0xa);
    three_faults(&mut story, 100);
    story.exit(100, 0);
    story.gone(100, counters(9, 1));
    let outcome = story.play();
    let row = outcome.row(100);
    assert_eq!(row.unobserved, 7);
    assert_eq!(row.unobserved_by.len(), 1);
    assert_eq!(row.unobserved_by["unexplained"], 7);
}

#[test]
fn faults_that_were_not_counted_explain_nothing() {
    let mut story = Story::of(100, 0xa);
    three_faults(&mut story, 100);
    story.fault(100, flagged(minor(WRITE, PAGE, rw(2), rw(2)), 0));
    story.exit(100, 0);
    story.gone(100, counters(2, 1));
    let outcome = story.play();
    let row = outcome.row(100);
    assert_eq!(row.faults["spurious"], 1);
    assert_eq!(row.unobserved, 0);
    assert!(row.unobserved_by.is_empty());
}

#[test]
fn memtraces_own_faults_are_told_apart() {
    let mut story = Story::of(100, 0xa);
    story.exec(100, 0xb, 0, Bounds::default(), &["prog"]);
    let execs = story.records.iter_mut().filter_map(|record| match record {
        Record::Exec(exec, _) => Some(exec),
        _ => None,
    });
    for exec in execs {
        (exec.hidden_minor, exec.hidden_major) = (20, 2);
    }
    story.exit(100, 0);
    story.gone(100, counters(20, 2));
    let outcome = story.play();
    let row = outcome.row(100);
    assert_eq!(row.unobserved_by, [("before exec", 22)].into());
}

#[test]
fn a_process_is_the_sum_of_its_threads_and_the_total_of_processes() {
    let mut story = Story::of(100, 0xa);
    story.thread(100, 101, 0);
    story.fork(100, 200, 0xb);
    for tid in [100, 101, 200] {
        three_faults(&mut story, tid);
    }
    for (tid, major) in [(101, 1), (200, 1), (100, 2)] {
        story.exit(tid, 0);
        story.gone(tid, counters(2, major));
    }
    let outcome = story.play();
    let counts = |row: &crate::trace::event::Account| (row.min_flt, row.maj_flt, row.unobserved);
    assert_eq!(counts(outcome.row(100)), (4, 3, 1));
    assert_eq!(counts(outcome.row(200)), (2, 1, 0));
    assert_eq!(counts(&outcome.total), (6, 4, 1));
    assert_eq!(
        outcome.total.faults,
        tallied(&[("cow-copy", 3), ("swap-in", 3), ("zero-fill", 3)])
    );
    let pids: Vec<u32> = outcome.rows.iter().map(|row| row.pid).collect();
    assert_eq!(pids, [100, 200], "in the order of births, not of ends");
}

#[test]
fn those_that_live_on_are_counted_so_far() {
    let mut story = Story::of(100, 0xa);
    story.thread(100, 101, 0);
    story.fork(100, 200, 0xb);
    three_faults(&mut story, 100);
    story.exit(101, 0);
    story.gone(101, counters(1, 0));
    story.exit(200, 0);
    story.gone(200, counters(4, 0));
    let known = |pid, tid, min_flt| Known {
        tally: counters(min_flt, 1),
        pid,
        tid,
    };
    let outcome = story.play_with(&[known(100, 100, 2), known(999, 999, 50)]);
    let row = outcome.row(100);
    assert!(row.alive);
    assert_eq!((row.min_flt, row.maj_flt, row.unobserved), (3, 1, 1));
    assert!(!outcome.row(200).alive);
    assert_eq!(outcome.rows.len(), 2, "a stranger has no row");
    assert_eq!(outcome.total.min_flt, 7);
}

#[test]
fn a_summary_is_what_the_hooks_counted() {
    let tally = |copies, reads| {
        let mut tally = Tally {
            counted: [copies, reads],
            ..counters(u64::from(copies) + 1, u64::from(reads))
        };
        tally.kinds[Kind::CowCopy as usize] = copies;
        tally.kinds[Kind::FileRead as usize] = reads;
        tally.kinds[Kind::Spurious as usize] = 1;
        tally
    };
    let mut story = Story::of(100, 0xa);
    story.thread(100, 101, 0);
    story.unobserved(101, syscall::EXECVE, 1, 0);
    story.exit(101, 0);
    story.gone(101, tally(10, 2));
    let living = Known {
        tally: tally(30, 1),
        pid: 100,
        tid: 100,
    };
    let outcome = story.play_with(&[living]);
    let row = outcome.row(100);
    assert_eq!(
        row.faults,
        tallied(&[("cow-copy", 40), ("file-read", 3), ("spurious", 2)])
    );
    assert_eq!((row.min_flt, row.maj_flt, row.unobserved), (42, 3, 2));
    assert_eq!(
        row.unobserved_by,
        [("execve", 1), ("unexplained", 1)].into()
    );
}

#[test]
fn further_processes_share_a_row() {
    const MORE: u64 = 25;
    const KEPT: u64 = 20_000;
    let (mut book, mut counts) = (Book::default(), Counts::default());
    counts.thread(&counters(3, 0));
    // They end in another order than they were born in.
    for birth in (1..=KEPT + MORE).rev() {
        book.close(birth, birth as u32, "worker".into(), &counts, false);
    }
    let (rows, total) = book.finish();
    assert_eq!(rows.len() as u64, KEPT + 1);
    assert!(rows[..KEPT as usize].is_sorted_by_key(|row| row.pid));
    let rest = rows.last().expect("rows");
    assert_eq!((rest.pid, &*rest.comm), (0, "(further processes)"));
    assert_eq!(rest.min_flt, 3 * MORE);
    assert_eq!(total.min_flt, 3 * (KEPT + MORE));
    let sum: u64 = rows.iter().map(|row| row.min_flt).sum();
    assert_eq!(sum, total.min_flt);
}
