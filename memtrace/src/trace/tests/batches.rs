//! The same batches give the same output, byte for byte, and it doesn't matter how they were cut.

use std::mem;

use anyhow::Result;
use memtrace_ebpf::record::ABI;
use rustc_hash::FxHashSet as HashSet;

use super::{machine::Machine, random::Random, story::ZERO};
use crate::{
    filter::EventFilter,
    kernel::clock::Moment,
    output::{Format, Options, samples::Page, sink},
    session::Session,
    source::{Batch, Last, Losses, Metadata, Rare, Source},
};

const STEPS: usize = 400;
/// Nanoseconds between two batches: long enough for runs of faults to be ended in between.
const PERIOD: u64 = 90_000_000;

/// What was read of the machine, to be read again.
struct Stored {
    metadata: Metadata,
    batches: Vec<Batch>,
    next: usize,
}

/// A copy, as no one else needs one.
fn copy(batch: &Batch) -> Batch {
    Batch {
        records: batch.records.clone(),
        lost: batch.lost.clone(),
        rare: batch.rare.clone(),
        ..*batch
    }
}

impl Source for Stored {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next(&mut self, batch: &mut Batch, _: impl FnOnce() -> HashSet<u32>) -> Result<()> {
        *batch = copy(&self.batches[self.next]);
        self.next += 1;
        Ok(())
    }

    fn last(&mut self) -> Result<Last> {
        assert_eq!(self.next, self.batches.len());
        Ok(Last::default())
    }
}

/// Reads a machine from time to time, as the ring buffer is read. Sometimes records are lost.
fn batches(seed: u64) -> Vec<Batch> {
    let mut machine = Machine::new(seed);
    let mut batches: Vec<Batch> = Vec::new();
    let (mut ticked, mut now) = (0, 0);
    for _ in 0..STEPS {
        machine.step();
        if machine.random.below(8) == 0 {
            now += PERIOD;
            let complete = mem::replace(&mut ticked, machine.ticked());
            let lossy = machine.random.below(16) == 0;
            batches.push(Batch {
                records: mem::take(&mut machine.buffer),
                complete,
                lost: lossy.then(|| Losses {
                    by_kind: [("fault".into(), 3)].into(),
                    during: complete..=ticked,
                }),
                rare: (batches.len() % 4 == 3).then(Rare::default),
                shown: Some(now),
                more: false,
            });
        }
    }
    machine.settle();
    batches.push(Batch {
        records: mem::take(&mut machine.buffer),
        complete: Batch::ALL,
        rare: Some(Rare::default()),
        ..Batch::default()
    });
    batches
}

/// The same, each cut into parts at random: what is known after a batch is known after its last part.
fn cut(whole: &[Batch], random: &mut Random) -> Vec<Batch> {
    let (mut parts, mut complete, mut shown) = (Vec::new(), 0, None);
    for batch in whole {
        let mut last = copy(batch);
        while random.below(3) != 0 {
            let at = random.below(last.records.len() as u64 + 1) as usize;
            let rest = last.records.split_off(at);
            parts.push(Batch {
                records: mem::replace(&mut last.records, rest),
                complete,
                shown,
                ..Batch::default()
            });
        }
        (complete, shown) = (last.complete, last.shown);
        parts.push(last);
    }
    parts
}

/// What becomes of batches, and how many of them are read before the end.
fn output(batches: &[Batch], format: Format, before_end: usize) -> String {
    let source = Stored {
        metadata: Metadata {
            abi: ABI,
            kernel: "6.18".to_owned(),
            backend: "tracepoints".into(),
            zero_pfn: ZERO,
            summary: false,
        },
        batches: batches.iter().map(copy).collect(),
        next: 0,
    };
    let page = Page::default();
    let options = Options {
        fold: true,
        colour: false,
        summary_only: false,
    };
    let sink = sink(format, page.writer(), options);
    let mut session =
        Session::new(source, EventFilter::ALL, sink).expect("records of this version");
    let began = Moment { ts: 1, realtime: 2 };
    session.start(&["a".into()], &[], began).expect("room");
    for _ in 0..before_end.min(batches.len()) {
        session.pump().expect("room");
    }
    session.finish().expect("room");
    page.text()
}

#[test]
fn the_same_records_give_the_same_output_however_they_are_cut() {
    let (mut records, mut lost, mut runs) = (0, 0, 0);
    for seed in 1..=40 {
        let whole = batches(seed);
        records += whole.iter().map(|batch| batch.records.len()).sum::<usize>();
        let mut random = Random(seed);
        for format in [Format::Json, Format::Text] {
            let expected = output(&whole, format, 0);
            lost += expected.matches("\"type\":\"lost\"").count();
            runs += expected.matches(" pages ").count();
            for _ in 0..4 {
                let parts = cut(&whole, &mut random);
                let before_end = random.below(parts.len() as u64 + 1) as usize;
                assert!(
                    output(&parts, format, before_end) == expected,
                    "seed {seed}"
                );
            }
        }
    }
    assert!(records > 2000 && lost > 20, "{records} {lost} {runs}");
}

#[test]
fn records_of_another_version_are_refused() {
    let metadata = Metadata {
        abi: ABI + 1,
        kernel: String::new(),
        backend: "tracepoints".into(),
        zero_pfn: 0,
        summary: false,
    };
    let source = Stored {
        metadata,
        batches: Vec::<Batch>::new(),
        next: 0,
    };
    let sink = sink(
        Format::Json,
        Page::default().writer(),
        crate::output::samples::PLAIN,
    );
    let refused = Session::new(source, EventFilter::ALL, sink)
        .err()
        .expect("refused");
    assert!(refused.to_string().contains("can't read"), "{refused}");
}
