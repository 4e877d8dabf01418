//! Tasks that run already when memtrace attaches to them: the snapshot, and what follows it.

use memtrace_ebpf::{
    fault::vm,
    record::{Bounds, FAULT_MAJOR, Parts, VmaReason},
    syscall,
};

use super::{
    regions::{BOUNDS, PROG},
    story::{
        Area, FIRST, Outcome, READ, Story, WRITE, anonymous, counters, file, flagged, heap,
        heap_page, heap_pages, known, minor, ro, rw, tallied,
    },
};
use crate::trace::event::{By, EventKind, ObjectKind, Region};

/// The pages of `heap`, all of which may be written as they are.
fn owned(pages: std::ops::Range<u64>) -> Area {
    Area {
        shared: Vec::new(),
        pinned: pages.map(|page| FIRST + page).collect(),
        ..heap_pages(0..0)
    }
}

/// A process with two threads, which memtrace finds.
fn found() -> Story {
    let mut story = Story::default();
    let parts = story.all_parts();
    story.found(500, 500, parts, |_| ());
    story.found(500, 501, parts, |_| ());
    story
}

/// The same once it has been surveyed: 8 private pages, two of them shared with somebody.
fn surveyed() -> Story {
    let mut story = found();
    let area = Area {
        shared: vec![FIRST + 8, FIRST + 9],
        ..owned(0..8)
    };
    story.survey(500, &[(area, 12)]);
    story.surveyed(500, PROG, BOUNDS);
    story
}

/// The tasks that were told of: who, and what is resident and private.
fn tasks(outcome: &Outcome) -> Vec<(u32, Option<u64>, Option<u64>)> {
    outcome.told(|event| match &event.what {
        EventKind::ExistingTask(task) => Some((event.tid, task.resident, task.private)),
        _ => None,
    })
}

/// Fails unless they are these.
#[track_caller]
fn tasks_are<const N: usize>(outcome: &Outcome, expected: [(u32, Option<u64>, Option<u64>); N]) {
    assert_eq!(tasks(outcome), expected);
}

/// The mappings that were told of.
fn mappings(outcome: &Outcome) -> Vec<String> {
    outcome.told(|event| match &event.what {
        EventKind::Mmap(mmap) => {
            assert_eq!(mmap.by, By::Attach);
            Some(format!(
                "{} {} {:#x} {} {} resident {} private {}",
                event.tid,
                mmap.addr,
                mmap.len,
                mmap.region.map_or("-", |region| region.name()),
                mmap.file.as_deref().unwrap_or("-"),
                mmap.resident.expect("counted"),
                mmap.private.expect("counted"),
            ))
        }
        _ => None,
    })
}

#[test]
fn what_is_found_is_told() {
    const LIBC: u64 = 0xe3;
    let mut story = found();
    let area = |vma, pages: &[u64]| Area {
        vma,
        shared: Vec::new(),
        pinned: pages.to_vec(),
    };
    // Paths are announced with the first record that has them.
    story.path(500, PROG, "/usr/bin/server");
    story.path(500, LIBC, "/lib/libc.so");
    story.survey(
        500,
        &[
            (area(file(0x40_1000, 0x40_2000, 5, PROG, 1), &[]), 1),
            (area(file(0x40_2000, 0x40_4000, 3, PROG, 2), &[0x402]), 2),
            (area(anonymous(0x50_0000, 0x50_4000), &[0x500, 0x502]), 3),
            (area(file(0x7f00_0000, 0x7f00_9000, 5, LIBC, 0), &[]), 9),
        ],
    );
    let bounds = Bounds {
        brk: 0x50_4000,
        ..BOUNDS
    };
    story.surveyed(500, PROG, bounds);
    let surveyed = story.now();
    let living = [500, 501].map(|tid| known(500, tid, counters(0, 0)));
    let outcome = story.play_with(&living);
    tasks_are(&outcome, [(501, None, None), (500, Some(15), Some(3))]);
    let first = outcome
        .events
        .iter()
        .find(|event| event.tid == 500)
        .expect("its event");
    assert_eq!((first.ts, &*first.comm), (surveyed, "server"));
    let EventKind::ExistingTask(task) = &first.what else {
        panic!("a task")
    };
    assert_eq!(task.ppid, 1);
    assert_eq!(task.objects.0.len(), ObjectKind::COUNT);
    assert!(task.objects.0.iter().all(|(_, number)| *number == 1));
    assert_eq!(
        mappings(&outcome),
        [
            "500 0x401000 0x1000 text /usr/bin/server resident 1 private 0",
            "500 0x402000 0x2000 data /usr/bin/server resident 2 private 1",
            "500 0x500000 0x4000 heap - resident 3 private 2",
            "500 0x7f000000 0x9000 lib /lib/libc.so resident 9 private 0",
        ]
    );
    let lives: Vec<_> = outcome
        .tasks
        .iter()
        .map(|life| (life.tid, life.parent, life.until))
        .collect();
    assert_eq!(lives, [(500, None, None), (501, None, None)]);
}

/// A program has mapped its own file below and above what was loaded of it, and memory right behind that.
#[test]
fn what_was_loaded_of_the_programs_file_is_told_from_the_rest() {
    let mut story = found();
    let vmas = [
        file(0x3f_c000, 0x40_0000, 1, PROG, 0),
        file(0x40_0000, 0x40_1000, 1, PROG, 0),
        file(0x40_1000, 0x40_2000, 5, PROG, 1),
        file(0x40_2000, 0x40_4000, 3, PROG, 2),
        anonymous(0x40_4000, 0x40_6000),
        file(0x7f00_0000, 0x7f00_4000, 3, PROG, 0),
        anonymous(0x7f00_4000, 0x7f00_5000),
    ];
    let area = |vma| Area {
        vma,
        ..heap_pages(0..0)
    };
    story.survey(500, &vmas.map(|vma| (area(vma), 0)));
    story.surveyed(500, PROG, BOUNDS);
    let outcome = story.play();
    let regions = outcome.told(|event| match &event.what {
        EventKind::Mmap(mmap) => mmap.region.map(Region::name),
        _ => None,
    });
    assert_eq!(
        regions,
        ["file", "rodata", "text", "data", "bss", "file", "anon"]
    );
}

/// What comes while the survey goes on is an event, and not in the snapshot: also where its page came before the pages there
/// were counted.
#[test]
fn the_snapshot_and_the_first_events_agree() {
    let mut story = found();
    story.fills(500, 3);
    story.fills(501, 30);
    let began = story.survey(500, &[(owned(0..8), 12)]);
    story.fills(500, 40);
    // Not new: the page was there, and is counted.
    story.takes_over(501, 2);
    story.surveyed(500, PROG, BOUNDS);
    story.fills(500, 41);
    // It began before, and its end was seen after.
    story.at(began + 5, |story| story.fills(501, 42));
    let outcome = story.play();
    let pages: Vec<u64> = outcome.faults().iter().map(|fault| fault.addr.0).collect();
    assert_eq!(pages, [3, 30, 42, 40, 2, 41].map(heap_page));
    tasks_are(&outcome, [(501, None, None), (500, Some(11), Some(7))]);
    assert_eq!(
        mappings(&outcome),
        ["500 0x7b000000 0x1000000 anon - resident 11 private 7"]
    );
}

/// A survey comes in parts, each at its time; a VMA may be in two of them, and pages come again where a part had to be begun
/// anew.
#[test]
fn the_parts_of_a_survey_are_one() {
    let mut story = found();
    story.survey(500, &[(owned(0..4), 6)]);
    story.fills(501, 5);
    story.fills(501, 9);
    let library = file(0x7f00_0000, 0x7f00_9000, 5, 0xe3, 0);
    let no_page = Area {
        vma: library,
        ..owned(0..0)
    };
    story.survey(500, &[(owned(4..8), 5), (no_page, 3)]);
    story.surveyed(500, PROG, BOUNDS);
    let outcome = story.play();
    tasks_are(&outcome, [(501, None, None), (500, Some(13), Some(7))]);
    let told: Vec<_> = mappings(&outcome)
        .iter()
        .map(|line| {
            line.split_once(" resident ")
                .map(|(_, rest)| rest.to_owned())
        })
        .collect();
    assert_eq!(
        told,
        [
            Some("10 private 7".to_owned()),
            Some("3 private 0".to_owned()),
        ]
    );
}

/// What a fork shares while its parent is being surveyed, and who copies it then, is on the fork's account all the same.
#[test]
fn copies_during_the_survey_are_the_forks() {
    let mut story = found();
    story.survey(500, &[(owned(0..8), 9)]);
    story.fork_of(500, 700, 0xb, &[heap_pages(0..4)]);
    story.copies(500, 0, 2);
    story.surveyed(500, PROG, BOUNDS);
    story.takes_over(700, 0);
    story.play().accounts_are(["4: parent 1 shared 3"]);
}

#[test]
fn counters_begin_with_what_they_are() {
    let mut story = Story::default();
    let parts = story.all_parts();
    for (tid, counted) in [(500, (1000, 10)), (501, (50, 5))] {
        story.found(500, tid, parts, |task| {
            (task.min_flt, task.maj_flt) = counted;
        });
    }
    // Before the snapshot; one of them counted as major.
    story.fills(500, 0);
    let read = minor(WRITE, heap_page(1), 0, rw(0x21));
    story.fault_in(500, heap(), flagged(read, FAULT_MAJOR));
    story.survey(500, &[(owned(0..2), 2)]);
    story.surveyed(500, PROG, BOUNDS);
    story.fills(501, 2);
    story.fills(501, 3);
    story.unobserved(501, syscall::NONE, 1, 0);
    story.ends_with(501, counters(53, 5));
    let living = known(500, 500, counters(1001, 11));
    let outcome = story.play_with(&[living]);
    let row = outcome.row(500);
    assert_eq!((row.min_flt, row.maj_flt), (4, 1));
    assert_eq!(row.faults, tallied(&[("zero-fill", 4)]));
    assert_eq!(row.unobserved, 1);
    assert!(row.alive);
}

#[test]
fn threads_share_since_before() {
    let outcome = surveyed().play();
    assert_eq!(
        outcome.shared(|kind| kind == ObjectKind::Mm),
        ["500 + attach: mm#1 [501]", "501 + attach: mm#1 [500]"]
    );
}

/// Two processes that share their memory are surveyed once.
#[test]
fn who_shares_the_memory_is_told_of_as_well() {
    let mut story = Story::default();
    let parts = story.all_parts();
    let other = Parts {
        mm: parts.mm,
        files: parts.files,
        ..story.all_parts()
    };
    story.found(500, 500, parts, |_| ());
    story.found(600, 600, other, |_| ());
    let areas = [(owned(0..4), 5)];
    story.survey(500, &areas);
    story.surveyed(500, PROG, BOUNDS);
    story.survey(600, &areas);
    story.surveyed(600, PROG, BOUNDS);
    // Both leave it.
    story.fork_of(500, 700, 0xb, &[heap_pages(0..4)]);
    story.ends(600);
    story.copies(500, 0, 2);
    story.ends(500);
    story.takes_over(700, 1);
    let outcome = story.play();
    assert_eq!(
        tasks(&outcome),
        [(600, None, None), (500, Some(5), Some(4))],
        "each once"
    );
    assert_eq!(mappings(&outcome).len(), 1);
    let shares = outcome.shared(|kind| [ObjectKind::Mm, ObjectKind::Files].contains(&kind));
    assert_eq!(
        shares,
        [
            "500 + attach: mm#1 [600] files#1 [600]",
            "600 + attach: mm#1 [500] files#1 [500]",
            "600 - exit: mm#1>- [500] files#1>- [500]",
        ]
    );
    outcome.accounts_are(["4: parent 1 taken over 1 exit 2"]);
}

/// Who shares a page since before the trace isn't known, but that somebody does.
#[test]
fn copies_are_blamed_on_forks_before() {
    let mut story = surveyed();
    story.copies(500, 8, 2);
    story.takes_over(500, 9);
    story.copies(501, 3, 1);
    // A fork that is seen is to blame from then on; its child has the rest of the old sharing, too.
    story.fork_of(501, 700, 0xb, &[heap_pages(0..8)]);
    story.copies(700, 0, 2);
    story.copies(700, 20, 2);
    story.copies(500, 1, 2);
    story.copies(500, 21, 5);
    // After an exec there is no before.
    story.execs(700, 0xc);
    story.copies(700, 22, 2);
    let outcome = story.play();
    outcome.copies_are([
        "500 8: fork-before, with [] of 2",
        "501 3: reference, with [] of 1",
        "700 0: fork 1 500>700, with [500] of 2",
        "700 20: fork-before, with [] of 2",
        "500 1: fork 1 500>700, with [700] of 2",
        "500 21: fork-before, with [] of 5",
        "700 22: unknown, with [] of 2",
    ]);
    outcome.accounts_are(["8: child 1 parent 1 exec 6, exec after 2"]);
}

/// Of those who share a page since a fork that was seen nobody is left; but somebody who is not traced still maps it.
#[test]
fn who_is_not_traced_shares_since_before() {
    let mut story = surveyed();
    story.fork_of(500, 700, 0xb, &[heap_pages(8..10)]);
    story.ends(700);
    story.copies(500, 8, 2);
    story.copies(500, 9, 1);
    let outcome = story.play();
    outcome.copies_are([
        "500 8: fork-before, with [] of 2",
        "500 9: reference 1 500>700, with [] of 1",
    ]);
    outcome.accounts_are(["2: parent 1 exit 1"]);
}

/// A thread beside a fork copies a page that is shared already: of an attached process, too.
#[test]
fn a_copy_during_a_fork_is_not_of_one_before() {
    let mut story = surveyed();
    let began = story.tick();
    story.copies(501, 1, 2);
    story.fork_as(500, 700, 0xb, &[heap_pages(0..4)], |birth| {
        birth.began = began;
    });
    story.takes_over(700, 1);
    story.play().accounts_are(["4: parent 1 shared 3"]);
}

/// A process forks while it is surveyed: what the fork left shared, and what was found, are two things.
#[test]
fn a_fork_during_the_survey_is_its_own() {
    let mut story = found();
    story.survey(500, &[(owned(0..8), 9)]);
    story.fork_of(500, 700, 0xb, &[heap_pages(0..2)]);
    story.surveyed(500, PROG, BOUNDS);
    story.copies(700, 0, 2);
    let outcome = story.play();
    tasks_are(&outcome, [(501, None, None), (500, Some(9), Some(8))]);
    assert_eq!(mappings(&outcome).len(), 1);
    outcome.accounts_are(["2: child 1 shared 1"]);
}

/// An exec, or the end, comes before the survey: the task is told of all the same.
#[test]
fn who_changes_before_the_survey_is_told_of() {
    let mut story = Story::default();
    for (pid, mm) in [(500, 0x51), (600, 0x61)] {
        let parts = Parts {
            mm,
            ..story.all_parts()
        };
        story.found(pid, pid, parts, |_| ());
    }
    story.exec(500, 0x52, PROG, BOUNDS, &[]);
    story.survey(500, &[(owned(0..2), 2)]);
    story.surveyed(500, PROG, BOUNDS);
    story.fills(500, 0);
    story.ends(600);
    let outcome = story.play();
    let told: Vec<u32> = tasks(&outcome).iter().map(|task| task.0).collect();
    assert_eq!(told, [500, 600]);
    assert_eq!(outcome.kinds(), ["zero-fill"], "and is traced from then on");
    let names: Vec<_> = outcome
        .events
        .iter()
        .filter(|event| event.tid == 500 && !matches!(event.what, EventKind::Share(_)))
        .map(|event| event.what.name())
        .collect();
    assert_eq!(names, ["task", "exec", "fault"]);
}

/// The first thread of a process may have ended long ago.
#[test]
fn a_process_may_have_lost_its_first_thread() {
    let mut story = Story::default();
    let parts = story.all_parts();
    story.found(500, 501, parts, |_| ());
    story.found(500, 502, parts, |_| ());
    story.survey(501, &[(owned(0..2), 2)]);
    story.surveyed(501, PROG, BOUNDS);
    story.fills(502, 7);
    let outcome = story.play();
    tasks_are(&outcome, [(502, None, None), (501, Some(2), Some(2))]);
    outcome.kinds_are(["zero-fill"]);
    assert_eq!(outcome.row(500).faults["zero-fill"], 1);
}

/// Nothing is known of a VMA before the survey but what faults tell.
#[test]
fn regions_are_known_once_it_is_surveyed() {
    let mut story = found();
    let bss = anonymous(0x40_4000, 0x40_6000);
    let area = |vma| {
        let nothing = owned(0..0);
        (Area { vma, ..nothing }, 0)
    };
    let data = file(0x40_2000, 0x40_4000, vm::READ | vm::WRITE, PROG, 2);
    story.survey(500, &[area(data), area(bss)]);
    story.surveyed(500, PROG, BOUNDS);
    story.vma(501, VmaReason::Fault, bss);
    story.fault(501, minor(READ, 0x40_4000, 0, ro(5)));
    story.play().regions_are(["bss"]);
}
