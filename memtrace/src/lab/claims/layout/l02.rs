//! L2: the order of the regions.

use super::extent::{Extent, size};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Events, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L2",
    short: "high to low: stack, mappings, heap, BSS, data, text",
    book: "From high to low addresses a process has its stack, the area of mappings, the heap, BSS (variables without a \
           first value), data (variables with one), and text (the code).",
    experiment: "A program writes to a local variable, to a fresh mapping, to a block from malloc, to a variable in BSS \
                 and to one in data, and tells where they and its main function are.",
    expected: &[Verdict::Confirmed],
    read: &[
        "fs/binfmt_elf.c: load_elf_binary - maps text and data, makes BSS, says where heap and stack begin",
        "include/linux/mm_types.h: struct mm_struct - start_code, end_code, start_data, end_data, start_brk, start_stack",
        "arch/x86/mm/mmap.c: arch_pick_mmap_layout - where the area of mappings is",
        "man 5 proc_pid_maps",
    ],
    method: Method::Experiment {
        program: "regions",
        judge,
    },
};

/// From high to low: what the program calls it, and what the trace has to.
const ORDER: [(&str, Region); 6] = [
    ("stack", Region::Stack),
    ("mapping", Region::Anon),
    ("heap", Region::Heap),
    ("bss", Region::Bss),
    ("data", Region::Data),
    ("text", Region::Text),
];

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("touched")?;
    let mut evidence = Evidence::default();
    let mut places = Vec::new();
    for (name, region) in ORDER {
        let address = mark.value(name)?;
        let extent = Extent::of(seen, mark.pid, address, mark.ts)?;
        if extent.region != region {
            return Err(Undecided::because(format!(
                "what the program calls {name} lies in {} by the trace",
                extent.region.name()
            )));
        }
        places.push((name, address, extent));
    }
    for &(name, address, extent) in &places {
        let Extent { start, end, .. } = extent;
        evidence.say(format!(
            "{name}: {start:#x} to {end:#x}, {}, and the program's at {address:#x}. The first fault there since the exec:",
            size(end - start)
        ));
        let first = seen.faults().find(|(event, fault)| {
            event.pid == mark.pid
                && event.ts >= extent.event.ts
                && (start..end).contains(&fault.addr.0)
        });
        if let Some((event, _)) = first {
            evidence.event(event);
        } else {
            evidence
                .say("none, as the kernel had put its pages there already; it was mapped by")
                .event(extent.event);
        }
    }
    for (address, wanted) in [("heap", "[heap]"), ("stack", "[stack]")] {
        let name = mark
            .mapping(mark.value(address)?)
            .map(|mapping| mapping.name.as_str());
        evidence.agree(
            name == Some(wanted),
            format!("/proc/PID/maps calls the place of the {address} {wanted}"),
        )?;
    }
    let in_maps = places
        .iter()
        .all(|(_, address, _)| mark.mapping(*address).is_some());
    evidence.agree(
        in_maps,
        "all six addresses lie in a mapping of /proc/PID/maps",
    )?;

    let falls = |places: &[u64]| places.windows(2).all(|two| two[0] > two[1]);
    let starts: Vec<_> = places.iter().map(|(_, _, extent)| extent.start).collect();
    let without_mappings: Vec<_> = [&starts[..1], &starts[2..]].concat();
    let mut names: Vec<_> = places
        .iter()
        .map(|(name, _, extent)| (extent.start, *name))
        .collect();
    names.sort_unstable();
    let names: Vec<_> = names.into_iter().rev().map(|(_, name)| name).collect();
    let figure = names.join(" > ");
    if falls(&starts) {
        return evidence.decide(
            Verdict::Confirmed,
            figure,
            "The addresses fall in just this order. Text, data and BSS lie close together, as the program's file has them; \
             before the heap, the mappings and the stack there are gaps, by default of a random size, so that nobody can \
             guess the addresses (ASLR).",
        );
    }
    let (verdict, why) = if falls(&without_mappings) {
        (
            Verdict::Qualified,
            "All but the area of mappings lie in this order. The area of mappings is elsewhere: so it is in the legacy \
             layout, which the kernel takes where the size of the stack has no limit.",
        )
    } else {
        (Verdict::Refuted, "The regions lie in another order.")
    };
    evidence.decide(verdict, figure, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{claims::layout::extent::told, observed::Mapping, story::Story},
        trace::event::EventKind,
    };

    /// A program whose mapping, heap and stack are at these addresses.
    fn story(mapping: u64, stack: u64) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        told::mmap(&mut story, 1, (mapping, mapping + 0x1000), "rw", None, None);
        let values = [
            ("stack", stack),
            ("mapping", mapping),
            ("heap", 0x9100),
            ("bss", 0x4100),
            ("data", 0x3100),
            ("text", 0x1100),
        ];
        let map = |(name, address): (&str, u64)| Mapping {
            start: address,
            end: address + 1,
            name: format!("[{name}]"),
            ..Mapping::default()
        };
        story.mark(1, "touched", &values).maps = values.into_iter().map(map).collect();
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |seen: &Observed| judge(seen).expect("decided").verdict;
        assert_eq!(verdict(&story(0x5_0000, 0xf_0100)), Verdict::Confirmed);
        assert_eq!(verdict(&story(0, 0xf_0100)), Verdict::Qualified);
        // The heap below the text.
        let mut seen = story(0x5_0000, 0xf_0100);
        for event in &mut seen.events {
            if let EventKind::Brk(brk) = &mut event.what {
                brk.old.0 = 0x100;
                brk.new.0 = 0x200;
            }
        }
        seen.marks[0].values.insert("heap".into(), 0x110);
        seen.marks[0].snapshot.maps[2].start = 0x110;
        seen.marks[0].snapshot.maps[2].end = 0x111;
        assert_eq!(verdict(&seen), Verdict::Refuted);
    }

    #[test]
    fn the_trace_and_maps_must_agree_on_what_is_where() {
        let mut seen = story(0x5_0000, 0xf_0100);
        seen.marks[0].snapshot.maps[0].name = "[heap]".into();
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        seen.marks[0].values.insert("heap".into(), 0x4000);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
