//! L7: the heap and malloc.

use super::extent::{Extent, PAGE, size};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Brk, Event, EventKind, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L7",
    short: "the heap grows for malloc, freed blocks serve again",
    book: "malloc takes its blocks from the heap, which is grown for it. Blocks that were freed can be used again.",
    experiment: "A program asks malloc for 300 blocks of 1000 bytes and fills them; then for one of 1 MiB, and frees it; \
                 then it frees one of the small ones and asks for one of its size.",
    expected: &[Verdict::Qualified],
    read: &[
        "mm/mmap.c: SYSCALL_DEFINE1(brk) - moves the heap's end; nothing gets a frame yet",
        "man 3 malloc: Notes - from 128 KiB on glibc takes mmap instead of the heap",
        "man 3 mallopt: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD",
    ],
    method: Method::Experiment {
        program: "allocate",
        judge,
    },
};

/// The events of the program from one mark to another.
fn between<'a>(seen: &'a Observed, from: &Mark, to: &Mark) -> impl Iterator<Item = &'a Event> {
    let (pid, from, to) = (from.pid, from.ts, to.ts);
    seen.events
        .iter()
        .filter(move |event| event.pid == pid && (from..to).contains(&event.ts))
}

/// The heap as /proc/PID/maps has it.
fn in_heap_of_maps(mark: &Mark, key: &str) -> Result<bool, Undecided> {
    let mapping = mark.mapping(mark.value(key)?);
    Ok(mapping.is_some_and(|mapping| mapping.name == "[heap]"))
}

/// By how many bytes the heap was grown for the small blocks; nothing where they are not in it.
fn small_blocks(seen: &Observed, evidence: &mut Evidence) -> Result<Option<u64>, Undecided> {
    let (start, small) = (seen.mark("start")?, seen.mark("small blocks")?);
    let growth: Vec<_> = between(seen, start, small)
        .filter_map(|event| match &event.what {
            EventKind::Brk(Brk { old, new }) if new > old => Some((event, new.0 - old.0)),
            _ => None,
        })
        .collect();
    let grown: u64 = growth.iter().map(|(_, bytes)| bytes).sum();
    evidence.say(format!(
        "For the small blocks malloc moved the heap's end {} times, by {} in all. The first time:",
        growth.len(),
        size(grown)
    ));
    if let Some((event, _)) = growth.first() {
        evidence.event(event);
    }
    let touches: Vec<_> = between(seen, start, small)
        .filter(
            |event| matches!(&event.what, EventKind::Fault(fault) if fault.region == Region::Heap),
        )
        .collect();
    evidence.say(format!(
        "That alone took no memory. Its pages got their frames as they were touched, {} of them. The first:",
        touches.len()
    ));
    if let Some(event) = touches.first() {
        evidence.event(event);
    }
    let region = |key| Ok(Extent::of(seen, start.pid, small.value(key)?, small.ts)?.region);
    let in_heap = grown > 0 && region("first")? == Region::Heap && region("last")? == Region::Heap;
    let by_maps = in_heap_of_maps(small, "first")? && in_heap_of_maps(small, "last")?;
    evidence.agree(
        by_maps == in_heap,
        format!(
            "/proc/PID/maps and the trace have the small blocks {} the heap",
            if in_heap { "in" } else { "outside" }
        ),
    )?;
    Ok(in_heap.then_some(grown))
}

/// Whether the large block was in the heap.
fn large_block(seen: &Observed, evidence: &mut Evidence) -> Result<bool, Undecided> {
    let (large, returned) = (seen.mark("large block")?, seen.mark("large block freed")?);
    let block = large.value("large")?;
    let extent = Extent::of(seen, large.pid, block, large.ts)?;
    let in_heap = extent.region == Region::Heap;
    let from = if in_heap {
        "the heap"
    } else {
        "a mapping of its own"
    };
    evidence
        .say(format!(
            "The block of {} came from {from}:",
            size(large.value("size")?)
        ))
        .event(extent.event);
    let gone = between(seen, large, returned).find(|event| {
        matches!(&event.what, EventKind::Munmap(range)
            if range.ret == 0 && (range.addr.0..range.addr.0 + range.len).contains(&block))
    });
    if let Some(event) = gone {
        evidence
            .say("free gave it back to the kernel at once:")
            .event(event);
    }
    evidence.agree(
        in_heap_of_maps(large, "large")? == in_heap,
        format!("/proc/PID/maps and the trace have the large block in {from}"),
    )?;
    evidence.agree(
        returned.mapping(block).is_none() == gone.is_some(),
        format!(
            "after the free /proc/PID/maps has {} at {block:#x}",
            if gone.is_some() {
                "nothing"
            } else {
                "the block still"
            }
        ),
    )?;
    Ok(in_heap)
}

/// Whether the freed block was served again, and the faults that filling it took.
fn served_again(seen: &Observed, evidence: &mut Evidence) -> Result<(bool, usize), Undecided> {
    let (before, served) = (seen.mark("before the free")?, seen.mark("served again")?);
    let (old, again) = (before.value("old")?, served.value("again")?);
    let page = |address: u64| address / PAGE;
    let faults = between(seen, before, served)
        .filter(|event| {
            matches!(&event.what, EventKind::Fault(fault)
                if (page(again)..=page(again + 999)).contains(&page(fault.addr.0)))
        })
        .count();
    evidence.say(format!(
        "The small block that was freed was at {old:#x}, the next of its size came at {again:#x}; filling it took \
         {faults} faults."
    ));
    Ok((old == again, faults))
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let grown = small_blocks(seen, &mut evidence)?;
    let large_in_heap = large_block(seen, &mut evidence)?;
    let (again, faults) = served_again(seen, &mut evidence)?;
    match (grown.is_some() && again && faults == 0, large_in_heap) {
        (true, false) => evidence.decide(
            Verdict::Qualified,
            "small by brk, 1 MiB by mmap",
            "It is so for small blocks: the heap's end moves up, and a block that was freed is kept by malloc and served \
             again, without the kernel's doing. But a large block is not in the heap: it is a mapping of its own, and its \
             free is an munmap, so nothing of it is kept for later. Where the limit between the two lies is malloc's \
             choice (here that of the C library), not the kernel's, which knows only brk and mmap.",
        ),
        (true, true) => evidence.decide(
            Verdict::Confirmed,
            "all by brk, used again",
            "Small and large blocks alike came from the heap, which was grown for them, and a freed block was served again.",
        ),
        (false, _) => evidence.decide(
            Verdict::Refuted,
            format!("grown by {}, {faults} faults again", size(grown.unwrap_or_default())),
            "The small blocks did not come from a heap that was grown for them, or the freed one did not serve again. \
             It is malloc that decides so, not the kernel.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{claims::layout::extent::told, observed::Mapping, story::Story},
        trace::event::{Address, FaultKind, Range},
    };

    const MAPPED: u64 = 0x5_0000;

    struct Case {
        large: u64,
        again: u64,
        fault: bool,
    }

    fn story(case: &Case) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        story.mark(1, "start", &[("size", 1000)]);
        told::brk(&mut story, 1, 0xa000, 0x2_a000);
        story.fault(1, 0xa000, FaultKind::ZeroFill, 0, 1).region = Region::Heap;
        let heap = Mapping {
            start: 0x9000,
            end: 0x2_a000,
            name: "[heap]".into(),
            ..Mapping::default()
        };
        story
            .mark(1, "small blocks", &[("first", 0xa010), ("last", 0x2_9000)])
            .maps = vec![heap.clone()];
        if case.large == MAPPED {
            told::mmap(
                &mut story,
                1,
                (MAPPED, MAPPED + 0x10_1000),
                "rw",
                None,
                None,
            );
        }
        story
            .mark(
                1,
                "large block",
                &[("large", case.large), ("size", 1 << 20)],
            )
            .maps = vec![heap.clone()];
        if case.large == MAPPED {
            let range = Range {
                addr: Address(MAPPED),
                len: 0x10_1000,
                ret: 0,
            };
            story.event(1, EventKind::Munmap(range));
        }
        story.mark(1, "large block freed", &[]).maps = vec![heap];
        story.mark(1, "before the free", &[("old", 0xb000)]);
        if case.fault {
            story.fault(1, case.again, FaultKind::ZeroFill, 0, 1);
        }
        story.mark(1, "served again", &[("again", case.again)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |large, again, fault| {
            let case = Case {
                large,
                again,
                fault,
            };
            judge(&story(&case)).expect("decided").verdict
        };
        assert_eq!(verdict(MAPPED, 0xb000, false), Verdict::Qualified);
        assert_eq!(verdict(0xc000, 0xb000, false), Verdict::Confirmed);
        assert_eq!(verdict(MAPPED, 0xd000, false), Verdict::Refuted);
        assert_eq!(verdict(MAPPED, 0xb000, true), Verdict::Refuted);
    }

    #[test]
    fn maps_must_agree() {
        for mark in 1..4 {
            let mut seen = story(&Case {
                large: MAPPED,
                again: 0xb000,
                fault: false,
            });
            let map = Mapping {
                start: MAPPED,
                end: MAPPED + 0x1000,
                name: "[heap]".into(),
                ..Mapping::default()
            };
            seen.marks[mark].snapshot.maps = vec![map];
            assert!(
                matches!(judge(&seen), Err(Undecided::Contradiction(_))),
                "{mark}"
            );
        }
    }
}
