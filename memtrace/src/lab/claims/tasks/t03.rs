//! T3: what it costs to make, end and switch processes and threads.

use std::fmt::Write as _;

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
        times::Times,
    },
    trace::event::{Event, EventKind, Events},
};

pub const CLAIM: Claim = Claim {
    id: "T3",
    short: "a process costs about 30 times what a thread does",
    book: "Processes are slow to create, to end and to switch, threads are fast. A process costs about 30 times what \
           a thread does.",
    experiment: "A process of 1 MiB makes a child that ends at once, and waits for it, seven times; then seven threads \
                 in the same way. Processes of 64 and of 512 MiB do the same. Last, two processes on one CPU hand a \
                 byte to and fro through pipes, and then two threads do, so that each time one has to be switched for \
                 the other.",
    expected: &[Verdict::Qualified],
    read: &[
        "kernel/fork.c: copy_process - makes both; what the flags of clone(2) ask for makes the difference",
        "kernel/fork.c: dup_mmap, mm/memory.c: copy_page_range - what only a process needs, page table by page table",
        "kernel/sched/core.c: context_switch - leaves the address space as it is if the next task has the same",
        "arch/x86/mm/tlb.c: switch_mm_irqs_off - what it does otherwise",
    ],
    method: Method::Experiment {
        program: "costs",
        judge,
    },
};

/// Sizes of the parent that the program tries.
const SIZES: usize = 3;
/// "About 30 times": from half to twice of it.
const ABOUT: std::ops::RangeInclusive<f64> = 15.0..=60.0;

/// A process's times and a thread's.
struct Pair {
    process: Times,
    thread: Times,
}

impl Pair {
    fn of(process: Vec<u64>, thread: Vec<u64>) -> Result<Self, Undecided> {
        match (Times::of(process), Times::of(thread)) {
            (Some(process), Some(thread)) if thread.median > 0 => Ok(Self { process, thread }),
            _ => Err(Undecided::because(
                "not all births of processes and threads were seen",
            )),
        }
    }

    /// How many times as long as with a thread it takes with a process.
    fn ratio(&self) -> f64 {
        self.process.median as f64 / self.thread.median as f64
    }

    fn words(&self) -> String {
        format!(
            "process {}, thread {}: {} times",
            shown(&self.process),
            shown(&self.thread),
            times(self.ratio())
        )
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let parents: Vec<_> = seen.marks("processes").collect();
    if parents.len() < SIZES || seen.marks("made").count() < SIZES {
        return Err(Undecided::because(
            "there was too little memory for parents of 1, 64 and 512 MiB",
        ));
    }
    let mut evidence = Evidence::default();
    evidence.say(
        "The times are medians, with the shortest and the longest. \"Created\" is from the system call to its return, \
         without what memtrace itself needed meanwhile. \"A round\" is from one birth to the next: created, ended, and \
         waited for; memtrace's own work is part of it.",
    );
    let mut created = Vec::new();
    let mut rounds = Vec::new();
    for &parent in &parents {
        let mib = parent.value("mib")?;
        let creation = Pair::of(
            creations(seen, parent, false),
            creations(seen, parent, true),
        )?;
        let round = Pair::of(
            self::rounds(seen, parent, false),
            self::rounds(seen, parent, true),
        )?;
        evidence.say(format!(
            "From {mib} MiB, created: {}. A round: {}.",
            creation.words(),
            round.words()
        ));
        created.push(creation.ratio());
        rounds.push(round.ratio());
    }
    for parent in [parents[0], parents[parents.len() - 1]] {
        evidence.say(format!(
            "The first calls that made a process and a thread, from {} MiB:",
            parent.value("mib")?
        ));
        for thread in [false, true] {
            if let Some(event) = made(seen, parent, thread).next() {
                evidence.event(event.0);
            }
        }
    }
    let switch = switches(seen)?;
    if let Some(switch) = &switch {
        evidence.say(format!(
            "From one's turn to the other's, with its two system calls, the switch, and memtrace's own work: {}.",
            switch.words()
        ));
    }

    let switched = switch.as_ref().map(Pair::ratio);
    let figure = format!(
        "{} to {} times{}",
        times(least(&created)),
        times(greatest(&created)),
        switched.map_or_else(String::new, |ratio| format!("; switch {}", times(ratio)))
    );
    let all = || created.iter().chain(&rounds).copied();
    if all().chain(switched).all(|ratio| ABOUT.contains(&ratio)) {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "A process cost between 15 and 60 times what a thread did, whatever the size of the parent.",
        )
    } else if all().all(|ratio| ratio < 1.0) {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "A process cost less than a thread, whatever the size of the parent.",
        )
    } else {
        let (small, large) = (created[0], created[created.len() - 1]);
        let mut why = format!(
            "It is not one number. To create a process took {} times what a thread took from a parent of 1 MiB, and {} \
             times from one of 512 MiB.",
            times(small),
            times(large),
        );
        if large > small {
            why += " fork copies the parent's page tables, so that it takes the longer the more memory the parent has; \
                    a thread is made without a look at the memory.";
        }
        if let Some(ratio) = switched {
            // Writing to a String doesn't fail.
            let _ = write!(
                why,
                " Switching is another matter: a turn took {} times as long between processes as between threads. What \
                 a switch between processes does in addition is to load another page table, for which the CPU has other \
                 translations of addresses to remember.",
                times(ratio)
            );
        }
        evidence.decide(Verdict::Qualified, figure, why)
    }
}

/// The returns of the calls by which a parent has made its processes, or its threads, with the times that they took.
fn made<'a>(
    seen: &'a Observed,
    parent: &Mark,
    threads: bool,
) -> impl Iterator<Item = (&'a Event, u64)> {
    let pid = parent.pid;
    seen.cloned()
        .filter(move |(event, cloned)| event.pid == pid && (cloned.child_pid == pid) == threads)
        .map(|(event, cloned)| (event, cloned.dur))
}

fn creations(seen: &Observed, parent: &Mark, threads: bool) -> Vec<u64> {
    made(seen, parent, threads).map(|(_, dur)| dur).collect()
}

/// From one birth to the next.
fn rounds(seen: &Observed, parent: &Mark, threads: bool) -> Vec<u64> {
    let births: Vec<_> = seen
        .clones()
        .filter(|(event, clone)| event.pid == parent.pid && clone.thread == threads)
        .map(|(event, _)| event.ts)
        .collect();
    births.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// The turns of the two processes and of the two threads. Nothing where it isn't seen who has a CPU.
fn switches(seen: &Observed) -> Result<Option<Pair>, Undecided> {
    let asks = seen.mark("two processes")?.pid;
    let other = |thread: bool| {
        seen.clones()
            .filter(|(event, clone)| event.pid == asks && clone.thread == thread)
            .last()
            .map(|(_, clone)| clone.child_tid)
            .ok_or_else(|| Undecided::because("the birth of the one who answers was not seen"))
    };
    let (processes, threads) = (
        turns(seen, asks, other(false)?),
        turns(seen, asks, other(true)?),
    );
    if processes.is_empty() || threads.is_empty() {
        return Ok(None);
    }
    Pair::of(processes, threads).map(Some)
}

/// The times from when one of two threads gets the CPU to when the other one does.
fn turns(seen: &Observed, one: u32, other: u32) -> Vec<u64> {
    let turns: Vec<_> = seen
        .events
        .iter()
        .filter(|event| {
            matches!(event.what, EventKind::SwitchIn(_)) && (event.tid == one || event.tid == other)
        })
        .map(|event| (event.tid, event.ts))
        .collect();
    turns
        .windows(2)
        .filter(|pair| pair[0].0 != pair[1].0)
        .map(|pair| pair[1].1 - pair[0].1)
        .collect()
}

fn least(ratios: &[f64]) -> f64 {
    ratios.iter().copied().fold(f64::INFINITY, f64::min)
}

fn greatest(ratios: &[f64]) -> f64 {
    ratios.iter().copied().fold(0.0, f64::max)
}

/// `1.4` or `250`.
fn times(ratio: f64) -> String {
    if ratio < 10.0 {
        format!("{ratio:.1}")
    } else {
        format!("{ratio:.0}")
    }
}

/// `12.5 us (9.1 to 40.2)`, or in milliseconds.
fn shown(times: &Times) -> String {
    let (unit, ns) = if times.median < 1_000_000 {
        ("us", 1e3)
    } else {
        ("ms", 1e6)
    };
    let number = |time: u64| time as f64 / ns;
    format!(
        "{:.1} {unit} ({:.1} to {:.1})",
        number(times.median),
        number(times.least),
        number(times.greatest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Address, Copied, SwitchIn},
    };

    fn runs(story: &mut Story, pid: u32, tid: u32, ts: u64) {
        let runs = SwitchIn {
            cpu: 0,
            task: None,
            kernel_stack: None,
            mm: None,
            tls: Address(0),
            policy: None,
            nice: None,
            rt_priority: 0,
        };
        story.thread_event(pid, tid, EventKind::SwitchIn(runs)).ts = ts;
    }

    /// The time for a process at each size, and for its turns; what a thread takes is 1000.
    fn story(process: [u64; 3], turn: Option<u64>) -> Observed {
        let mut story = Story::default();
        for (size, time) in process.into_iter().enumerate() {
            let parent = 100 * (size as u32 + 1);
            story.mark(parent, "processes", &[("mib", [1, 64, 512][size])]);
            let mut now = 0;
            for (thread, time) in [(false, time), (true, 1000)] {
                for round in 1..4 {
                    let copied = (!thread).then(Copied::default);
                    let clone = story.birth(parent, parent + round, copied);
                    if thread {
                        (clone.thread, clone.child_pid) = (true, parent);
                    }
                    now += time;
                    story.seen().events.last_mut().expect("one").ts = now;
                    let cloned = story.cloned(parent, parent + round, time);
                    if thread {
                        cloned.child_pid = parent;
                    }
                }
            }
            story.mark(parent, "made", &[]);
        }
        story.mark(1, "two processes", &[]);
        for (other, turn) in [(2, turn), (3, turn.map(|_| 1000))] {
            let clone = story.birth(1, other, None);
            if other == 3 {
                (clone.thread, clone.child_pid) = (true, 1);
            }
            for number in 1..9 {
                let Some(turn) = turn else { continue };
                let (pid, tid) = if number % 2 == 0 { (1, 1) } else { (2, other) };
                runs(
                    &mut story,
                    pid,
                    tid,
                    turn * number + 1_000_000 * u64::from(other),
                );
            }
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let finding = |process, turn| judge(&story(process, turn)).expect("decided");
        let today = finding([9000, 160_000, 400_000], Some(1300));
        assert_eq!(today.verdict, Verdict::Qualified);
        assert_eq!(today.figure, "9.0 to 400 times; switch 1.3");
        assert_eq!(
            finding([30_000, 31_000, 32_000], Some(28_000)).verdict,
            Verdict::Confirmed
        );
        assert_eq!(
            finding([30_000, 31_000, 32_000], Some(1300)).verdict,
            Verdict::Qualified
        );
        assert_eq!(
            finding([30_000, 31_000, 32_000], None).verdict,
            Verdict::Confirmed
        );
        assert_eq!(
            finding([900, 800, 700], Some(1000)).verdict,
            Verdict::Refuted
        );
        assert_eq!(
            finding([900, 800, 30_000], Some(1000)).verdict,
            Verdict::Qualified
        );
    }

    #[test]
    fn all_sizes_are_needed() {
        let mut seen = story([9000, 160_000, 400_000], None);
        seen.marks.retain(|mark| mark.pid < 300);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
        let mut seen = story([9000, 160_000, 400_000], None);
        seen.events
            .retain(|event| !matches!(event.what, EventKind::Cloned(_)));
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
