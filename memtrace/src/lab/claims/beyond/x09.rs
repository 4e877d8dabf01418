//! X9: a thread's stack is 8 MiB of addresses, and as much memory as it touches.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Address, By, Event, EventKind, Events, Fault, FaultKind, Mmap, Returned},
};

pub const CLAIM: Claim = Claim {
    id: "X9",
    short: "each thread's stack takes 8 MiB of memory",
    book: "Each thread needs a stack of its own, and its default size is 8 MiB. So a program with a \
           thousand threads takes about 8 GB of memory for their stacks alone.",
    experiment: "A program starts eight threads with the default size of the stack. Seven of them call a \
                 function that uses 4 KiB of it; one calls it 100 levels deep. Then, in a child process, \
                 a thread with a stack of 1 MiB calls it without end.",
    expected: &[Verdict::Refuted],
    read: &[
        "glibc, nptl/allocatestack.c: allocate_stack - mmap of the whole, and a guard page at its end",
        "mm/memory.c: do_anonymous_page - gives a page of it at the first touch",
        "man 3 pthread_attr_setstacksize, pthread_attr_setguardsize",
    ],
    method: Method::Experiment {
        program: "stacks",
        judge,
    },
};

/// A thread's stack: the mapping that it lies in.
struct Stack<'a> {
    event: &'a Event,
    start: u64,
    len: u64,
    /// How deep its thread goes, in pages.
    levels: u64,
}

impl Stack<'_> {
    const fn contains(&self, address: u64) -> bool {
        self.start <= address && address - self.start < self.len
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let alone = seen.mark("alone")?;
    let together = seen.mark("together")?;
    let mut evidence = Evidence::default();

    let faults_in = |stack: &Stack| -> Vec<&Fault> {
        seen.faults()
            .filter(|(event, fault)| {
                event.pid == alone.pid
                    && (alone.ts..together.ts).contains(&event.ts)
                    && stack.contains(fault.addr.0)
            })
            .map(|(_, fault)| fault)
            .collect()
    };
    let threads = alone.value("threads")?;
    let mut stacks = Vec::new();
    for mark in seen.marks("thread") {
        let stack = stack(seen, mark)?;
        let faults = faults_in(&stack);
        let used: u64 = faults
            .iter()
            .filter(|fault| fault.pfn_before.is_none() && fault.pfn_after.is_some())
            .map(|fault| fault.page_size)
            .sum();
        stacks.push((stack, faults.len() as u64, used));
    }
    if stacks.len() as u64 != threads || threads == 0 {
        return Err(Undecided::because(format!(
            "the stacks of {} of {threads} threads were seen",
            stacks.len()
        )));
    }
    stacks.sort_by_key(|(stack, ..)| stack.levels);
    for (which, one) in [
        ("a thread that uses little", stacks.first()),
        ("the one that goes deep", stacks.last()),
    ] {
        if let Some((stack, _, used)) = one {
            show(seen, stack, *used, which, &mut evidence);
        }
    }
    guard(seen, &mut evidence)?;

    let mapped: u64 = stacks.iter().map(|(stack, ..)| stack.len).sum();
    let faults: u64 = stacks.iter().map(|(_, faults, _)| faults).sum();
    let used: u64 = stacks.iter().map(|(.., used)| used).sum();
    cross_check(alone, together, mapped, faults, &mut evidence)?;

    let full = stacks
        .iter()
        .filter(|(stack, _, used)| used * 2 >= stack.len)
        .count();
    let figure = format!("{} MiB mapped, {} KiB used", mapped >> 20, used / 1024);
    if full == stacks.len() {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "Each thread's stack was filled with memory, whether the thread used it or not.",
        )
    } else if full == 0 {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "The size of a stack is that of a mapping: addresses that the thread may use. Memory comes \
             page by page as the thread gets there, and never for what lies below. A thousand threads \
             need about 8 GB of addresses, of which a 64-bit process has plenty, but only the memory \
             that they touch.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "The stacks of {full} of {threads} threads were filled with memory, the others not."
            ),
        )
    }
}

/// Tells how a stack was mapped, and how much of it was touched.
fn show(seen: &Observed, stack: &Stack, used: u64, which: &str, evidence: &mut Evidence) {
    evidence
        .say(format!(
            "The stack of {which} ({} times 4 KiB): a mapping of {} KiB, of which {} KiB were touched.",
            stack.levels,
            stack.len / 1024,
            used / 1024
        ))
        .event(stack.event);
    let opened = seen.events.iter().find(|event| {
        event.ts > stack.event.ts
            && matches!(
                &event.what,
                EventKind::Mprotect(mprotect)
                    if stack.contains(mprotect.addr.0) && mprotect.addr.0 > stack.start
            )
    });
    if let Some(event) = opened {
        evidence
            .say("All but its lowest part, the guard, is then opened:")
            .event(event);
    }
}

/// What /proc says of the stacks.
fn cross_check(
    alone: &Mark,
    together: &Mark,
    mapped: u64,
    faults: u64,
    evidence: &mut Evidence,
) -> Result<(), Undecided> {
    let size = |mark: &Mark| mark.snapshot.status.get("VmSize").copied();
    let (Some(before), Some(after)) = (size(alone), size(together)) else {
        return Err(Undecided::because("/proc/PID/status has no VmSize"));
    };
    let grown = after.saturating_sub(before) * 1024;
    evidence.agree(
        grown >= mapped,
        format!(
            "by VmSize in /proc/PID/status the address space grew by {} KiB meanwhile; the stacks that were \
             mapped have {}",
            grown / 1024,
            mapped / 1024
        ),
    )?;
    let counted = together
        .snapshot
        .faults
        .0
        .saturating_sub(alone.snapshot.faults.0);
    evidence.agree(
        counted >= faults,
        format!(
            "/proc/PID/stat counts {counted} minor faults of the process in this time, {faults} of which the \
             trace has in the stacks"
        ),
    )?;
    Ok(())
}

/// The mapping that a thread's stack lies in: the last that was made there before the thread spoke.
fn stack<'a>(seen: &'a Observed, mark: &Mark) -> Result<Stack<'a>, Undecided> {
    let (here, levels) = (mark.value("here")?, mark.value("levels")?);
    let covers = |mmap: &Mmap| match mmap.ret {
        Returned::Address(Address(start)) => {
            (mmap.by == By::Call && (start..start + mmap.len).contains(&here)).then_some(start)
        }
        Returned::Error(_) => None,
    };
    seen.events
        .iter()
        .rev()
        .filter(|event| event.ts < mark.ts)
        .find_map(|event| match &event.what {
            EventKind::Mmap(mmap) => covers(mmap).map(|start| Stack {
                event,
                start,
                len: mmap.len,
                levels,
            }),
            _ => None,
        })
        .ok_or_else(|| Undecided::because("no mmap of a thread's stack was seen"))
}

/// The thread without end must have been stopped by the end of its stack.
fn guard(seen: &Observed, evidence: &mut Evidence) -> Result<(), Undecided> {
    let runaway = seen.mark("runaway")?;
    let stack = stack(seen, runaway)?;
    let fatal = seen
        .faults()
        .filter(|(event, _)| event.pid == runaway.pid && event.ts > runaway.ts)
        .find(|(_, fault)| fault.kind == FaultKind::Invalid && stack.contains(fault.addr.0));
    let Some((event, fault)) = fatal else {
        return Err(Undecided::because(
            "the thread without end was not stopped at the end of its stack",
        ));
    };
    evidence
        .say(format!(
            "The thread without end filled its stack, a mapping of {} KiB, until it came to the guard, {} \
             bytes above the lowest address. The signal ended its whole process:",
            stack.len / 1024,
            fault.addr.0 - stack.start
        ))
        .event(event);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::story::Story;

    const STACK: u64 = 8 << 20;

    fn mmap(story: &mut Story, start: u64) {
        let mmap = Mmap {
            addr: Address(start),
            len: STACK,
            prot: Vec::new(),
            flags: Vec::new(),
            file: None,
            offset: None,
            ret: Returned::Address(Address(start)),
            by: By::Call,
            region: None,
            resident: None,
            private: None,
        };
        story.event(1, EventKind::Mmap(mmap));
    }

    /// Two threads touch so many pages each; the third runs away.
    fn story(pages: [u64; 2]) -> Observed {
        let mut story = Story::default();
        let start = |thread: u64| 0x1000_0000 * (thread + 1);
        let snapshot = story.mark(1, "alone", &[("threads", 2)]);
        snapshot.status.insert("VmSize".to_owned(), 100);
        for (thread, pages) in (0..).zip(pages) {
            mmap(&mut story, start(thread));
            for page in 0..pages {
                let at = start(thread) + STACK - 4096 * (page + 1);
                story.fault(1, at, FaultKind::ZeroFill, 0, 7).pfn_before = None;
            }
            let here = [("here", start(thread) + STACK - 8), ("levels", pages)];
            story.mark(1, "thread", &here);
        }
        let snapshot = story.mark(1, "together", &[]);
        snapshot
            .status
            .insert("VmSize".to_owned(), 100 + 2 * STACK / 1024);
        snapshot.faults.0 = pages.iter().sum();
        let here = [("here", start(0) + STACK - 8), ("levels", 1 << 20)];
        story.mark(2, "runaway", &here);
        let fault = story.fault(2, start(0) + 4000, FaultKind::Invalid, 0, 0);
        fault.signal = Some(11);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let finding = |pages| judge(&story(pages)).expect("decided");
        assert_eq!(finding([1, 100]).verdict, Verdict::Refuted);
        assert_eq!(finding([1, 100]).figure, "16 MiB mapped, 404 KiB used");
        assert_eq!(finding([2048, 2048]).verdict, Verdict::Confirmed);
        assert_eq!(finding([1, 2048]).verdict, Verdict::Qualified);
    }

    #[test]
    fn the_guard_must_be_seen() {
        let mut seen = story([1, 100]);
        seen.events.pop();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn status_must_agree() {
        let mut seen = story([1, 100]);
        for mark in &mut seen.marks {
            mark.snapshot.status.insert("VmSize".to_owned(), 100);
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        let mut seen = story([1, 100]);
        for mark in &mut seen.marks {
            mark.snapshot.faults.0 = 0;
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
