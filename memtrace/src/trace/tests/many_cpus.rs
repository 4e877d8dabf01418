//! Records of very many CPUs: they come out in the order of their times, and what waits for that is bounded.

use std::{collections::VecDeque, convert::Infallible, mem};

use memtrace_ebpf::record::{Fault, Header, Record};

use super::random::Random;
use crate::trace::order::{Order, ROOM};

const CPUS: u32 = 64;
/// Nanoseconds between two ticks of a CPU, and between two reads.
const PERIOD: u64 = 10_000_000;
const PERIODS: u64 = 30;
/// Faults of a CPU in a period, at the most.
const FAULTS: u64 = 64;

fn fault(tid: u32, ts: u64) -> Record {
    Record::Fault(Fault {
        head: Header {
            ts,
            tid,
            ..Header::default()
        },
        ..Fault::default()
    })
}

/// A CPU whose thread faults: the record of a fault is written at its end, and has the time of its beginning.
#[derive(Default)]
struct Cpu {
    /// What it has written in this period, in that order.
    written: VecDeque<Record>,
    /// The fault that goes on beyond the period.
    open: Option<u64>,
    ticked: u64,
}

impl Cpu {
    /// What happens in the period from `start` on. A fault takes up to two periods.
    fn run(&mut self, tid: u32, start: u64, random: &mut Random) {
        if self.open.is_some() && random.below(2) == 0 {
            // It is in that fault all the time.
            return;
        }
        let begun = self.open.take();
        self.written.extend(begun.map(|ts| fault(tid, ts)));
        let count = random.below(FAULTS);
        let times =
            (0..count).map(|at| start + at * (PERIOD / FAULTS) + random.below(PERIOD / FAULTS));
        let mut times: Vec<u64> = times.collect();
        if random.below(8) == 0 {
            self.open = times.pop();
        }
        self.written
            .extend(times.into_iter().map(|ts| fault(tid, ts)));
    }

    /// All before this time has been written.
    fn tick(&mut self, now: u64) {
        self.ticked = self.open.map_or(now, |ts| ts - 1);
    }
}

/// What the CPUs have written, as it comes to lie in one buffer: that of each CPU in its order.
fn buffer(cpus: &mut [Cpu], random: &mut Random) -> Vec<Record> {
    let mut buffer = Vec::new();
    let mut left: Vec<&mut Cpu> = cpus.iter_mut().collect();
    while !left.is_empty() {
        let at = random.below(left.len() as u64) as usize;
        match left[at].written.pop_front() {
            Some(record) => buffer.push(record),
            None => _ = left.swap_remove(at),
        }
    }
    buffer
}

fn release(order: &mut Order, until: u64) -> Vec<u64> {
    let mut times = Vec::new();
    let Ok(()) = order.release(until, |record, _| {
        times.push(record.header().ts);
        Ok::<(), Infallible>(())
    });
    times
}

#[test]
fn what_64_cpus_write_comes_out_in_order_and_waits_for_the_slowest() {
    let mut random = Random(64);
    let mut cpus: Vec<Cpu> = (0..CPUS).map(|_| Cpu::default()).collect();
    let (mut order, mut truth, mut out) = (Order::default(), Vec::new(), Vec::new());
    let (mut until, mut late_by, mut most) = (0, 0, 0);
    for period in 1..=PERIODS {
        for (tid, cpu) in (1..).zip(&mut cpus) {
            cpu.run(tid, period * PERIOD, &mut random);
            cpu.tick((period + 1) * PERIOD);
        }
        let mut written = buffer(&mut cpus, &mut random);
        let times: Vec<u64> = written.iter().map(|record| record.header().ts).collect();
        late_by += times.windows(2).filter(|pair| pair[1] < pair[0]).count();
        truth.extend(times);
        order.push(&mut written);
        // The answer before the last counts, as for the live source.
        let ticked = cpus.iter().map(|cpu| cpu.ticked).min().expect("a CPU");
        out.extend(release(&mut order, mem::replace(&mut until, ticked)));
        most = most.max(order.places());
    }
    let before_end = out.len();
    order.let_go();
    out.extend(release(&mut order, u64::MAX));
    assert!(late_by > truth.len() / 4, "the CPUs are mixed: {late_by}");
    truth.sort_unstable();
    assert_eq!(out, truth);
    assert_eq!((order.late, order.places()), (0, 0));
    assert!(before_end > truth.len() / 2, "{before_end} before the end");
    // A fault holds the others up for as long as it takes.
    let a_period = u64::from(CPUS) * FAULTS;
    assert!(most as u64 <= 6 * a_period, "{most} waited");
}

/// A CPU that says nothing for long holds the others up only as far as there is room.
#[test]
fn what_waits_for_one_cpu_of_64_is_bounded() {
    let mut order = Order::default();
    let (mut now, mut out) = (0, 0);
    let batch = 1 << 14;
    for _ in 0..ROOM / batch + 6 {
        let times = now..now + batch as u64;
        order.push(&mut times.map(|ts| fault(ts as u32 % CPUS, ts)).collect());
        now += batch as u64;
        out += release(&mut order, 0).len();
        assert!(order.places() <= ROOM, "{} wait", order.places());
    }
    assert_eq!(out + order.places(), now as usize);
    assert!(out > 0 && order.late == 0);
}

/// A record with a time that is far ahead stays at the beginning, and those behind it leave empty places.
#[test]
fn empty_places_are_bounded() {
    let mut order = Order::default();
    order.push(&mut vec![fault(1, u64::MAX - 1)]);
    let batch = 1 << 14;
    let (mut now, mut most) = (0, 0);
    for _ in 0..3 * ROOM as u64 / batch {
        order.push(&mut (now..now + batch).map(|ts| fault(2, ts)).collect());
        now += batch;
        release(&mut order, now);
        most = most.max(order.places());
    }
    assert!(most > ROOM / 2 && most <= ROOM + batch as usize, "{most}");
}
