//! Records come out in the order of their times, however the CPUs mixed them, with the same events and accounts.

use memtrace_ebpf::record::Record;
use std::{collections::BTreeMap, convert::Infallible};

use memtrace_ebpf::record::Tally;

use super::{
    machine::{Machine, Statistics},
    story::{Outcome, ZERO, booked},
};
use crate::trace::{
    event::{Event, EventKind, Region},
    model::{Finished, Model},
    order::Order,
};

const STEPS: usize = 240;

/// What reaches the output before the end, as `Session` reads the buffer; and all of it.
fn read(machine: &mut Machine) -> (usize, Vec<Event>, Finished) {
    let (mut order, mut model) = (Order::default(), Model::new(ZERO, false));
    let mut events = Vec::new();
    let mut until = 0;
    let mut take = |order: &mut Order, until: u64| {
        let Ok(()) = order.release(until, |record, ts| {
            model.take(record, ts, &mut events);
            Ok::<(), Infallible>(())
        });
        events.len()
    };
    let mut early = 0;
    for _ in 0..STEPS {
        machine.step();
        if machine.random.below(8) == 0 {
            // As Session::pump does.
            let until = std::mem::replace(&mut until, machine.ticked());
            order.push(&mut machine.buffer);
            early = take(&mut order, until);
        }
    }
    machine.settle();
    order.push(&mut machine.buffer);
    order.let_go();
    take(&mut order, u64::MAX);
    assert_eq!(order.late, 0);
    (early, events, model.finish(&[], &Tally::default()))
}

/// The same from records that are in order.
fn plain(truth: &[Record]) -> (Vec<Event>, Finished) {
    let mut model = Model::new(ZERO, false);
    let mut events = Vec::new();
    for record in truth {
        model.take(record.clone(), record.header().ts, &mut events);
    }
    (events, model.finish(&[], &Tally::default()))
}

fn check(seed: u64) -> (usize, Statistics, Outcome) {
    let mut machine = Machine::new(seed);
    let (early, events, finished) = read(&mut machine);
    machine.truth.sort_by_key(|record| record.header().ts);
    let (expected, truth) = plain(&machine.truth);
    assert_eq!(events, expected, "seed {seed}");
    assert_eq!(finished, truth, "seed {seed}");
    let outcome = Outcome::new(events, finished);
    outcome.check(false);
    for fault in outcome.faults() {
        let before = "its VMA came before it";
        assert_eq!(fault.region, Region::Anon, "{before}: seed {seed}");
    }
    let forks = &machine.seen.forking;
    assert_eq!(outcome.forks.len(), forks.len(), "seed {seed}");
    let pages: u64 = outcome.forks.iter().map(|fork| fork.pages).sum();
    assert_eq!(pages, machine.seen.shared, "seed {seed}");
    // Nothing but forks shares pages, so each copy is due to one: also where that was not complete yet.
    let booked: u64 = outcome.forks.iter().map(booked).sum();
    let copies = outcome
        .kinds()
        .iter()
        .filter(|kind| **kind == "cow-copy")
        .count();
    assert_eq!(booked, copies as u64, "seed {seed}");
    for event in &outcome.events {
        let EventKind::Fault(fault) = &event.what else {
            continue;
        };
        if let Some(cause) = &fault.cause
            && cause.fork.is_none()
        {
            let under_way = forks.iter().any(|fork| fork.contains(&event.ts));
            assert!(under_way, "seed {seed}: {event:?}");
        }
    }
    (early, machine.seen, outcome)
}

#[test]
fn what_the_cpus_mix_comes_out_in_order() {
    let (mut early, mut all, mut held) = (0, 0, 0);
    let mut kinds = BTreeMap::new();
    let mut accounts = [0; 5];
    for seed in 1..=200 {
        let (so_far, seen, outcome) = check(seed);
        early += so_far;
        all += outcome.events.len();
        held += seen.held;
        for kind in outcome.kinds() {
            *kinds.entry(kind).or_insert(0) += 1;
        }
        for fork in &outcome.forks {
            accounts[0] += fork.by_child;
            accounts[1] += fork.by_parent;
            accounts[2] += fork.by_others;
            accounts[3] += fork.taken_over;
            accounts[4] += fork.given_up.munmap;
        }
    }
    assert!(
        early > all / 2,
        "most comes before the end: {early} of {all}"
    );
    assert!(held > 500, "{held}");
    assert!(
        kinds["cow-copy"] > 1000 && kinds["cow-reuse"] > 100,
        "{kinds:?}"
    );
    assert!(accounts.iter().all(|count| *count > 20), "{accounts:?}");
}
