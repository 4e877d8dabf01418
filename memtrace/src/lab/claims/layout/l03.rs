//! L3: what lies in the area of mappings.

use super::extent::Extent;
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{By, EventKind, Mmap, Region, Returned},
};

pub const CLAIM: Claim = Claim {
    id: "L3",
    short: "shared memory and libraries are among the mappings",
    book: "Shared memory and shared libraries lie in the area of mappings, which is between the heap and the stack.",
    experiment: "A program, to which the dynamic linker maps the C library, makes shared memory, and tells where that is, \
                 where a variable of the library is, and where its heap and stack are.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/mmap.c: do_mmap, get_unmapped_area - find a free place for a mapping",
        "arch/x86/kernel/sys_x86_64.c: arch_get_unmapped_area_topdown - from high to low, below the stack and its gap",
        "mm/shmem.c: shmem_zero_setup - the memory behind a shared mapping without a file",
        "man 8 ld.so",
    ],
    method: Method::Experiment {
        program: "regions",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("touched")?;
    let extent = |name| Extent::of(seen, mark.pid, mark.value(name)?, mark.ts);
    let (heap, stack) = (extent("heap")?, extent("stack")?);
    let (shared, library) = (extent("shared")?, extent("library")?);
    for (extent, region, what) in [
        (heap, Region::Heap, "the heap"),
        (stack, Region::Stack, "the stack"),
        (shared, Region::Shm, "the shared memory"),
        (library, Region::Lib, "the library"),
    ] {
        if extent.region != region {
            return Err(Undecided::because(format!(
                "{what} lies in {} by the trace",
                extent.region.name()
            )));
        }
    }
    let is_between = |extent: &Extent<'_>| heap.end <= extent.start && extent.end <= stack.start;
    let mut evidence = Evidence::default();
    evidence
        .say(format!(
            "The heap ends at {:#x}, the stack begins at {:#x}. The shared memory was mapped at:",
            heap.end, stack.start
        ))
        .event(shared.event);
    if let Some((event, _)) = seen.faults_at(mark.pid, shared.start).next() {
        evidence
            .say("A write to it took a fresh page of shared memory:")
            .event(event);
    }
    evidence
        .say("The dynamic linker has mapped the part of the C library that the variable is in:")
        .event(library.event);

    let calls: Vec<_> = seen
        .events
        .iter()
        .filter(|event| event.pid == mark.pid && event.ts <= mark.ts)
        .filter(|event| event.ts >= stack.event.ts)
        .filter_map(|event| match &event.what {
            EventKind::Mmap(Mmap {
                ret: Returned::Address(address),
                by: By::Call,
                len,
                ..
            }) => Some((address.0, address.0 + len)),
            _ => None,
        })
        .collect();
    let between = calls
        .iter()
        .filter(|(start, end)| heap.end <= *start && *end <= stack.start)
        .count();
    evidence.say(format!(
        "Of all {} mappings that the program and the dynamic linker made, {between} lie between heap and stack.",
        calls.len()
    ));
    let names = ["library", "shared"].map(|name| {
        let address = mark.values.get(name).copied().unwrap_or_default();
        mark.mapping(address)
            .map(|mapping| mapping.name.clone())
            .unwrap_or_default()
    });
    evidence.agree(
        names[0].contains(".so") && names[1].contains("/dev/zero"),
        format!(
            "/proc/PID/maps has a library at the variable's address ({}), and the file that stands for shared memory \
             at the other ({})",
            names[0], names[1]
        ),
    )?;

    let figure = format!("{between} of {} mappings between", calls.len());
    match (is_between(&shared), is_between(&library)) {
        (true, true) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "Both are mappings like any other: the kernel gives them a place in the area between heap and stack. Shared memory \
             that no file backs gets a file that has no name, which shows as /dev/zero (deleted).",
        ),
        (false, false) => evidence.decide(
            Verdict::Refuted,
            figure,
            "Neither of them lies between heap and stack. In the legacy layout, which the kernel takes where the size of the \
             stack has no limit, the area of mappings is below the program.",
        ),
        (shared, _) => evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "Only the {} lies between heap and stack.",
                if shared { "shared memory" } else { "library" }
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{claims::layout::extent::told, observed::Mapping, story::Story},
        trace::event::FaultKind,
    };

    const LIBRARY: &str = "/lib/libc.so.6";

    fn story(shared: u64, library: u64) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        told::mmap(
            &mut story,
            1,
            (library, library + 0x1000),
            "rw",
            None,
            Some(LIBRARY),
        );
        let fault = story.fault(1, library, FaultKind::FileCow, 0, 3);
        fault.file = Some(LIBRARY.into());
        fault.region = Region::Lib;
        let mmap = told::mmap(&mut story, 1, (shared, shared + 0x1000), "rw", None, None);
        mmap.flags = vec!["MAP_SHARED".into()];
        let values = [
            ("heap", 0x9100),
            ("stack", 0xf_0100),
            ("shared", shared),
            ("library", library),
        ];
        let line = |start, name: &str| Mapping {
            start,
            end: start + 0x1000,
            name: name.into(),
            ..Mapping::default()
        };
        story.mark(1, "touched", &values).maps =
            vec![line(library, LIBRARY), line(shared, "/dev/zero (deleted)")];
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |shared, library| judge(&story(shared, library)).expect("decided").verdict;
        let (inside, outside) = (0x5_0000, 0x20_0000);
        assert_eq!(verdict(inside, inside + 0x1000), Verdict::Confirmed);
        assert_eq!(verdict(inside, outside), Verdict::Qualified);
        assert_eq!(verdict(outside, inside), Verdict::Qualified);
        assert_eq!(verdict(outside, outside + 0x1000), Verdict::Refuted);
    }

    #[test]
    fn maps_must_agree() {
        let mut seen = story(0x5_0000, 0x6_0000);
        seen.marks[0].snapshot.maps[1].name.clear();
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
