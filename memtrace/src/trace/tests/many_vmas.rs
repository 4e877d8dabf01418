//! What very many VMAs, stacks and forks are to the model: it keeps what each thread was in last, not what there is.

use std::collections::BTreeMap;

use memtrace_ebpf::{fault::vm, record::Record};

use super::story::{READ, Story, WRITE, ZERO, anonymous, file, heap_pages, minor, ro, rw};
use crate::trace::{
    event::Region,
    files::KEPT,
    model::{Model, SURVEYS},
};

const VMAS: u64 = 10_000;
/// Without optimisation there's only time for some.
const FAULTS: u64 = if cfg!(debug_assertions) {
    50_000
} else {
    1_000_000
};

/// A story that goes on for so long that its events can't be kept.
struct Told {
    story: Story,
    model: Model,
}

impl Told {
    fn new(story: Story) -> Self {
        let model = Model::new(ZERO, false);
        Self { story, model }
    }

    /// Hands over what has been told so far: how many events that was.
    fn tell(&mut self) -> usize {
        let (mut events, mut count) = (Vec::new(), 0);
        for record in self.story.records.drain(..) {
            let ts = record.header().ts;
            self.model.take(record, ts, &mut events);
            count += events.drain(..).len();
        }
        count
    }

    fn footprint(&self) -> BTreeMap<&'static str, usize> {
        self.model.footprint().into_iter().collect()
    }
}

/// Every other VMA is of a file of its own, and no fault is in the VMA of the one before.
#[test]
fn a_million_faults_in_ten_thousand_vmas_leave_the_last_vma_and_the_paths() {
    let mut told = Told::new(Story::threaded());
    told.tell();
    let mut before = told.footprint();
    for at in 0..VMAS {
        if at % 2 == 1 {
            told.story.path(100, at, &format!("/srv/{at}"));
        }
    }
    let mut shown = 0;
    for fault in 0..FAULTS {
        let number = fault * 7919 % VMAS;
        let start = (0x1_0000 + 4 * number) << 12;
        let tid = 100 + (fault % 2) as u32;
        if number % 2 == 1 {
            let vma = file(start, start + 0x2000, vm::READ, number, 0);
            told.story
                .fault_in(tid, vma, minor(READ, start, 0, ro(0x99)));
        } else {
            let vma = anonymous(start, start + 0x2000);
            told.story
                .fault_in(tid, vma, minor(WRITE, start, 0, rw(0x98)));
        }
        if fault % 4096 == 0 {
            shown += told.tell();
        }
    }
    shown += told.tell();
    assert_eq!(shown as u64, FAULTS);
    before.insert("paths", VMAS as usize / 2);
    assert!(before["paths"] <= KEPT);
    assert_eq!(told.footprint(), before);
}

/// As a C library lays them out whose guard pages are no mappings: in one VMA, each next to the one before. The stacks are
/// counted once a thread, not once for each other.
#[test]
fn stacks_that_lie_together_are_one_to_each_thread() {
    const THREADS: u64 = 300;
    const STACK: u64 = 0x4000;
    let start = 0x7000_0000;
    let all = anonymous(start, start + (THREADS + 1) * STACK);
    let mut told = Told::new(Story::of(100, 0xa));
    for at in 0..THREADS {
        let stack = start + at * STACK;
        // The rest of its last page is the thread's, too.
        told.story
            .thread_on(100, 1000 + at as u32, stack..stack + STACK - 0x700);
    }
    for at in 0..THREADS {
        let fault = minor(WRITE, start + at * STACK, 0, rw(0x98));
        told.story.fault_in(1000 + at as u32, all, fault);
    }
    told.tell();
    let footprint = told.footprint();
    assert_eq!(footprint["stacks"] as u64, THREADS);
    assert_eq!(footprint["stacks in VMAs"] as u64, THREADS);
    // And each of their pages is a stack's, and the one behind them none.
    let mut story = told.story;
    story.fault_in(1000, all, minor(WRITE, start + 0x3000, 0, rw(1)));
    story.fault_in(1000, all, minor(WRITE, start + THREADS * STACK, 0, rw(2)));
    let mut events = Vec::new();
    for record in story.records.drain(..) {
        let ts = record.header().ts;
        told.model.take(record, ts, &mut events);
    }
    let regions = events.iter().map(|event| match &event.what {
        crate::trace::event::EventKind::Fault(fault) => fault.region,
        other => panic!("{other:?}"),
    });
    let regions: Vec<Region> = regions.collect();
    assert_eq!(regions, [Region::ThreadStack, Region::Anon]);
}

/// Births are lost, and the address spaces of their children are at ever other addresses.
#[test]
fn surveys_of_forks_whose_births_were_lost_are_bounded() {
    let mut told = Told::new(Story::of(100, 0xa));
    for at in 0..1000 {
        let (pid, mm) = (200 + at, 0x10_000 + u64::from(at));
        told.story.fork_of(100, pid, mm, &[heap_pages(0..8)]);
        let lost = told.story.records.pop();
        assert!(matches!(lost, Some(Record::Birth(_))));
        told.tell();
        let surveys = told.footprint()["surveys"];
        assert_eq!(surveys, SURVEYS.min(at as usize + 1));
    }
    // One whose birth isn't lost has its survey.
    told.story.fork_of(100, 5000, 0x20_000, &[heap_pages(0..8)]);
    told.tell();
    assert_eq!(told.footprint()["surveys"], SURVEYS - 1);
    let forks = told
        .model
        .finish(&[], &memtrace_ebpf::record::Tally::default())
        .forks;
    assert_eq!(forks.last().map(|fork| fork.pages), Some(8));
}
