//! The accounts: what was seen beside what the kernel counted, each difference by its name.

use memtrace_ebpf::record::Record;
use memtrace_ebpf::{
    fault::Kind,
    record::{Bounds, FAULT_MAJOR, Tally, VmaReason},
    syscall,
};

use super::story::{
    Outcome, Story, Task, WRITE, ZERO, anonymous, counters, flagged, heap_pages, known, minor, ro,
    rw, tallied,
};
use crate::trace::{
    account::{AccountBook, Process},
    event::Account,
    model::Model,
};

const PAGE: u64 = 0x7b00_0000;

/// A process with three faults, two of them counted as minor, one as major.
fn three_faults(story: &mut Story, tid: u32) {
    story.vma(tid, VmaReason::Fault, anonymous(PAGE, PAGE + 0x10_0000));
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
    story.ends_with(100, counters(6, 4));
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
    story.ends_with(100, counters(9, 1));
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
    story.ends_with(100, counters(2, 1));
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
        (exec.pre_exec_minor, exec.pre_exec_major) = (20, 2);
    }
    story.ends_with(100, counters(23, 2));
    let outcome = story.play();
    let row = outcome.row(100);
    assert_eq!((row.min_flt, row.maj_flt, row.before_exec), (3, 0, 22));
    assert_eq!(row.unobserved_by, [("unexplained".into(), 3)].into());
}

#[test]
fn an_account_of_a_fork_says_how_much_may_be_copied_unseen() {
    const POPULATES: u32 = syscall::MMAP;
    let shared = |story: &mut Story, ends: bool| {
        story.fork_of(100, 200, 0xb, &[heap_pages(0..6)]);
        story.copies(200, 0, 2);
        story.unobserved(100, POPULATES, 1, 1);
        story.unobserved(200, syscall::EXECVE, 9, 0);
        if ends {
            story.ends(200);
            // Nobody shares anything any more.
            story.unobserved(100, POPULATES, 3, 0);
        }
    };
    for ends in [false, true] {
        let mut story = Story::of(100, 0xa);
        shared(&mut story, ends);
        assert_eq!(story.play().forks[0].unseen, 2, "ends: {ends}");
    }
    // No more than are left.
    let mut story = Story::of(100, 0xa);
    shared(&mut story, false);
    story.unobserved(200, POPULATES, 90, 0);
    assert_eq!(story.play().forks[0].unseen, 5);
}

#[test]
fn a_process_is_the_sum_of_its_threads_and_the_total_of_processes() {
    let mut story = Story::threaded();
    story.fork(100, 200, 0xb);
    for tid in [100, 101, 200] {
        three_faults(&mut story, tid);
    }
    for (tid, major) in [(101, 1), (200, 1), (100, 2)] {
        story.ends_with(tid, counters(2, major));
    }
    let outcome = story.play();
    let counts = |row: &Account| (row.min_flt, row.maj_flt, row.unobserved);
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
    let mut story = Story::threaded();
    story.fork(100, 200, 0xb);
    three_faults(&mut story, 100);
    story.ends_with(101, counters(1, 0));
    story.ends_with(200, counters(4, 0));
    let outcome = story.play_with(&[known(100, 100, counters(2, 1))]);
    let row = outcome.row(100);
    assert!(row.alive);
    assert_eq!((row.min_flt, row.maj_flt, row.unobserved), (3, 1, 1));
    assert!(!outcome.row(200).alive);
    assert_eq!(outcome.rows.len(), 2);
    assert_eq!(outcome.total.min_flt, 7);
}

#[test]
fn one_whose_birth_was_lost_is_counted() {
    let mut story = Story::of(100, 0xa);
    story.ends_with(555, counters(9, 2));
    story.ends(100);
    let living = [666, 667].map(|tid| known(666, tid, counters(20, 0)));
    let outcome = story.play_with(&living);
    assert!(outcome.events.iter().all(|event| event.pid == 100));
    let row = |pid| {
        let row = outcome.row(pid);
        assert!(row.incomplete && &*row.comm == "known", "{row:?}");
        (row.min_flt, row.maj_flt, row.unobserved, row.alive)
    };
    assert_eq!(row(555), (9, 2, 11, false));
    assert_eq!(row(666), (40, 0, 40, true));
    assert!(!outcome.row(100).incomplete);
    assert_eq!((outcome.total.min_flt, outcome.total.maj_flt), (49, 2));
}

#[test]
fn one_whose_birth_was_lost_becomes_known_by_what_it_does() {
    let mut model = Model::new(ZERO, false);
    let mut events = Vec::new();
    let mut story = Story::default();
    let mut task = Task::default();
    task.pid = 550;
    story.tasks.insert(555, task);
    let mut tell = |model: &mut Model, tell: fn(&mut Story)| {
        tell(&mut story);
        for record in story.records.drain(..) {
            let ts = record.header().ts;
            model.take(record, ts, &mut events);
        }
        std::mem::take(&mut events)
    };
    let events = tell(&mut model, |story| three_faults(story, 555));
    assert!(events.is_empty());
    assert_eq!(model.strangers().count(), 0, "nothing was lost");
    model.lost(1..=2);
    tell(&mut model, |story| three_faults(story, 555));
    assert_eq!(model.strangers().collect::<Vec<_>>(), [555]);
    model.introduce(&known(550, 555, counters(3, 1)), 100);
    let events = tell(&mut model, |story| three_faults(story, 555));
    assert_eq!(events.len(), 3);
    assert!(
        events
            .iter()
            .all(|event| (event.pid, event.tid) == (550, 555))
    );
    assert_eq!(model.strangers().count(), 0);
    let finished = model.finish(&[known(550, 555, counters(6, 3))], &Tally::default());
    let [row] = &finished.processes[..] else {
        panic!("{finished:?}");
    };
    assert_eq!(
        (row.pid, &*row.comm, row.min_flt, row.incomplete),
        (550, "known", 6, true)
    );
    assert_eq!(row.faults["cow-copy"], 1);
    assert_eq!(finished.tasks.len(), 1);
}

#[test]
fn a_thread_whose_birth_was_lost_is_one_of_its_process() {
    let mut story = Story::threaded();
    story.records.pop();
    story.ends(101);
    story.gone(100, counters(1, 0));
    assert_eq!(story.play().rows.len(), 1);
}

#[test]
fn ends_that_were_lost_are_in_the_sum() {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    story.further = counters(30, 3);
    let outcome = story.play_with(&[known(100, 100, counters(5, 0))]);
    assert_eq!((outcome.total.min_flt, outcome.total.maj_flt), (35, 3));
    assert!(outcome.total.incomplete);
    assert!(outcome.row(100).alive);
    assert!(!outcome.row(200).alive, "it isn't among those that live");
    let further = outcome.row(0);
    assert_eq!(
        (&*further.comm, further.min_flt),
        ("(further processes)", 30)
    );
}

#[test]
fn an_id_that_comes_again_ends_who_had_it() {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    story.thread(200, 201, 0);
    story.fork(100, 200, 0xc);
    story.ends_with(200, counters(7, 0));
    let outcome = story.play();
    let rows: Vec<_> = outcome
        .rows
        .iter()
        .map(|row| (row.pid, row.min_flt))
        .collect();
    assert_eq!(rows, [(100, 0), (200, 0), (200, 7)]);
}

/// A process 200 with two threads, of whose births no record tells.
fn unborn() -> Story {
    let mut story = Story::of(100, 0xa);
    story.fork(100, 200, 0xb);
    story.records.pop();
    for tid in [201, 202] {
        story.thread(200, tid, 0);
        story.records.pop();
    }
    story
}

fn rows(outcome: &Outcome) -> Vec<(u32, u64, bool)> {
    let row = |row: &Account| (row.pid, row.min_flt, row.incomplete);
    outcome.rows.iter().map(row).collect()
}

#[test]
fn threads_whose_births_were_lost_share_a_row() {
    let mut story = unborn();
    // The leader may leave its CPU for the last time before the others do.
    for tid in [201, 200, 202] {
        story.gone(tid, counters(1, 0));
    }
    // Another process has the id.
    story.fork(100, 200, 0xc);
    story.ends_with(200, counters(7, 0));
    let outcome = story.play();
    assert_eq!(
        rows(&outcome),
        [(100, 0, false), (200, 3, true), (200, 7, false)]
    );
    assert!(outcome.rows.iter().all(|row| !row.alive));
    assert_eq!(outcome.total.min_flt, 10);
}

#[test]
fn a_thread_is_known_whose_process_is_not() {
    let mut story = unborn();
    story.thread(202, 203, 0);
    story.ends_with(203, counters(1, 0));
    for tid in [201, 202] {
        story.gone(tid, counters(1, 0));
    }
    let outcome = story.play_with(&[known(200, 200, counters(1, 0))]);
    assert_eq!(rows(&outcome), [(100, 0, false), (200, 4, true)]);
    assert!(outcome.row(200).alive);
}

/// An id may have come again when the kernel has gone round all of them, where a birth may have been lost since then.
#[test]
fn an_id_may_come_again_unseen() {
    const SECOND: u64 = 1_000_000_000;
    let played = |leader_gone: bool, lost| {
        let mut story = unborn();
        let threads = [200, 201].into_iter().skip(usize::from(!leader_gone));
        threads.for_each(|tid| story.gone(tid, counters(1, 0)));
        let other = if leader_gone { 202 } else { 200 };
        story.at(5 * SECOND, |story| story.gone(other, counters(4, 0)));
        story.losses.push(lost);
        rows(&story.play())[1..].to_vec()
    };
    let late = 3 * SECOND..=4 * SECOND;
    assert_eq!(played(true, late.clone()), [(200, 2, true), (200, 4, true)]);
    assert_eq!(played(true, 1..=100), [(200, 6, true)]);
    assert_eq!(played(false, late), [(200, 5, true)], "nobody else has it");
}

#[test]
fn an_exec_by_a_thread_that_was_lost_leaves_no_one_alive() {
    let mut story = Story::threaded();
    story.ends_with(100, counters(1, 0));
    // It has the leader's id now.
    story.gone(100, counters(2, 0));
    let last = story.now();
    let outcome = story.play();
    let row = outcome.row(100);
    assert_eq!((row.min_flt, row.alive), (3, false));
    assert_eq!(outcome.life(101).until, Some(last));
}

#[test]
fn what_was_under_way_when_records_were_lost_says_so() {
    let mut story = Story::of(100, 0xa);
    let shared = [heap_pages(0..2)];
    story.fork_of(100, 200, 0xb, &shared);
    story.ends(200);
    let lost = story.tick();
    story.tick();
    story.fork_of(100, 300, 0xc, &shared);
    story.ends(300);
    story.losses.push(lost - 1..=lost);
    let incomplete = |story: Story| {
        let outcome = story.play();
        let forks = outcome.forks.iter().map(|fork| fork.incomplete);
        let rows = outcome.rows.iter().map(|row| row.incomplete);
        (forks.collect::<Vec<_>>(), rows.collect::<Vec<_>>())
    };
    let all = (vec![true, false], vec![true, false, false]);
    // The parent may still write what the first child has left, and the account has that.
    assert_eq!(incomplete(story), all);
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
    let mut story = Story::threaded();
    story.unobserved(101, syscall::EXECVE, 1, 0);
    story.ends_with(101, tally(10, 2));
    let living = known(100, 100, tally(30, 1));
    let outcome = story.play_with(&[living]);
    let row = outcome.row(100);
    assert_eq!(
        row.faults,
        tallied(&[("cow-copy", 40), ("file-read", 3), ("spurious", 2)])
    );
    assert_eq!((row.min_flt, row.maj_flt, row.unobserved), (42, 3, 2));
    assert_eq!(
        row.unobserved_by,
        [("execve".into(), 1), ("unexplained".into(), 1)].into()
    );
}

#[test]
fn further_processes_share_a_row() {
    const MORE: u64 = 25;
    const KEPT: u64 = 20_000;
    let mut book = AccountBook::default();
    // They end in another order than they were born in.
    for birth in (1..=KEPT + MORE).rev() {
        let pid = birth as u32;
        let mut process = Process::new(birth, pid, "worker".into(), 0);
        process.counts.thread(&counters(3, 0));
        book.close(pid, process);
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
