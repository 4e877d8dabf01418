//! L14: the sizes of the segments.

use std::collections::BTreeSet;

use super::extent::{Extent, PAGE, base, cleared, of_exec, size};
use crate::{
    lab::{
        claim::{Claim, Method},
        elf::{Counted, Section},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::Region,
};

pub const CLAIM: Claim = Claim {
    id: "L14",
    short: "size a.out shows the sizes of the segments",
    book: "The command \"size a.out\" shows the sizes of a program's segments: text, data, bss.",
    experiment: "A program with two pages of initialised data and 16 of uninitialised data runs. The sections of its ELF \
                 file are added up as size(1) does it, and compared with what the exec maps.",
    expected: &[Verdict::Confirmed],
    read: &[
        "man 1 size: the Berkeley format - text is all that is loaded and not written, constants too",
        "man 1 readelf: -S for the sections, -l for the segments that they make",
        "fs/binfmt_elf.c: elf_map, set_brk - map the segments in whole pages",
    ],
    method: Method::Experiment {
        program: "regions",
        judge,
    },
};

/// The columns of size(1), and the regions that they are in memory.
const COLUMNS: [(&str, Counted, &[Region]); 3] = [
    ("text", Counted::Text, &[Region::Text, Region::Rodata]),
    ("data", Counted::Data, &[Region::Data]),
    ("bss", Counted::Bss, &[Region::Bss]),
];

fn pages(start: u64, end: u64) -> impl Iterator<Item = u64> {
    start / PAGE..end.div_ceil(PAGE)
}

/// What the exec has mapped of the program, where data and BSS are in one mapping in two parts.
fn program(seen: &Observed, pid: u32, at: u64) -> Vec<Extent<'_>> {
    let mut places = Vec::new();
    let ours = [Region::Text, Region::Rodata, Region::Data, Region::Bss];
    for extent in of_exec(seen, pid, at) {
        if !ours.contains(&extent.region) {
            continue;
        }
        let bss = cleared(seen, extent).filter(|_| extent.region == Region::Data);
        let end = bss.map_or(extent.end, |(_, bss)| bss);
        places.push(Extent { end, ..extent });
        if end < extent.end {
            places.push(Extent {
                region: Region::Bss,
                start: end,
                ..extent
            });
        }
    }
    places
}

/// A column of size(1), held against the mappings.
struct Compared<'a> {
    /// What size(1) shows.
    bytes: u64,
    /// Sections that lie elsewhere.
    outside: Vec<&'a str>,
    /// Whether just those pages are mapped that the sections need.
    exact: bool,
}

fn compare<'a>(
    seen: &'a Observed,
    base: u64,
    places: &[Extent<'_>],
    (name, counted, regions): (&str, Counted, &[Region]),
    evidence: &mut Evidence,
) -> Compared<'a> {
    let sections: Vec<&Section> = seen
        .elf
        .sections
        .iter()
        .filter(|section| section.counted == Some(counted) && section.size > 0)
        .collect();
    let mapped: Vec<_> = places
        .iter()
        .filter(|extent| regions.contains(&extent.region))
        .collect();
    let got: BTreeSet<u64> = mapped
        .iter()
        .flat_map(|extent| pages(extent.start, extent.end))
        .collect();
    let (mut needed, mut outside) = (BTreeSet::new(), Vec::new());
    for section in sections.iter().filter(|section| !section.of_threads) {
        let start = section.address.wrapping_add(base);
        let end = start + section.size;
        // BSS may be in two mappings, one after the other.
        let begins = mapped
            .iter()
            .any(|extent| (extent.start..extent.end).contains(&start));
        let ends = mapped
            .iter()
            .any(|extent| (extent.start..extent.end).contains(&(end - 1)));
        if !(begins && ends && pages(start, end).all(|page| got.contains(&page))) {
            outside.push(section.name.as_str());
        }
        needed.extend(pages(start, end));
    }
    let bytes = sections.iter().map(|section| section.size).sum();
    evidence.say(format!(
        "{name}: {bytes} bytes in {} sections, which lie in {} pages; the exec has mapped {} pages ({}):",
        sections.len(),
        needed.len(),
        got.len(),
        size(got.len() as u64 * PAGE)
    ));
    for extent in &mapped {
        evidence.event(extent.event);
    }
    Compared {
        bytes,
        outside,
        exact: needed == got,
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("touched")?;
    let base = base(seen, mark.pid, mark.ts)?;
    let places = program(seen, mark.pid, mark.ts);
    let mut evidence = Evidence::default();
    let (mut sizes, mut outside, mut exact) = (Vec::new(), Vec::new(), true);
    for column in COLUMNS {
        let found = compare(seen, base, &places, column, &mut evidence);
        sizes.push(format!("{} {}", column.0, found.bytes));
        outside.extend(found.outside);
        exact &= found.exact;
    }
    let (Some(low), Some(high)) = (
        places.iter().map(|extent| extent.start).min(),
        places.iter().map(|extent| extent.end).max(),
    ) else {
        return Err(Undecided::because("it was not seen what the exec mapped"));
    };
    let mapped: u64 = places.iter().map(|extent| extent.end - extent.start).sum();
    let by_maps: u64 = mark
        .snapshot
        .maps
        .iter()
        .filter(|mapping| low <= mapping.start && mapping.end <= high)
        .map(|mapping| mapping.end - mapping.start)
        .sum();
    evidence.agree(
        by_maps == mapped,
        format!(
            "/proc/PID/maps has {} mapped from {low:#x} to {high:#x}, as the trace",
            size(by_maps)
        ),
    )?;

    let figure = sizes.join(", ");
    if !outside.is_empty() {
        return evidence.decide(
            Verdict::Refuted,
            figure,
            format!("Not where size(1) counts them are: {}.", outside.join(", ")),
        );
    }
    if exact {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "Each section that size(1) counts lies in the region of its column, and each page that the exec has mapped for a \
             region has something of it. Memory comes in whole pages, so in memory each is a bit larger than size(1) says, \
             and data and BSS can meet in one page. What it calls text has the constants, too. The heap and the stack it \
             can't show: they are not in the file, and their sizes change.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "Each section lies in the region of its column, but the exec has mapped other pages, too, than those that the \
             sections need.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{claims::layout::extent::told, elf::Segment, observed::Mapping, story::Story};

    /// The sections: text, constants, data, BSS.
    fn story(sections: [(u64, u64, Counted); 4]) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        story.mark(1, "touched", &[]).maps = vec![Mapping {
            start: 0x1000,
            end: 0x6000,
            ..Mapping::default()
        }];
        let elf = &mut story.seen().elf;
        elf.segments.push(Segment {
            address: 0,
            ..Segment::default()
        });
        elf.sections = sections
            .map(|(address, size, counted)| Section {
                name: format!("at {address:#x}"),
                address,
                size,
                counted: Some(counted),
                of_threads: false,
            })
            .into();
        story.observed()
    }

    const RIGHT: [(u64, u64, Counted); 4] = [
        (0x10, 0x900, Counted::Text),
        (0x1000, 0x100, Counted::Text),
        (0x2000, 0x800, Counted::Data),
        (0x2820, 0x2000, Counted::Bss),
    ];

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let found = judge(&story(RIGHT)).expect("decided");
        assert_eq!(found.verdict, Verdict::Confirmed);
        assert_eq!(found.figure, "text 2560, data 2048, bss 8192");
        let mut less = RIGHT;
        less[3].1 = 0x20;
        assert_eq!(
            judge(&story(less)).expect("decided").verdict,
            Verdict::Qualified
        );
        let mut outside = RIGHT;
        outside[2].1 = 0x900;
        let found = judge(&story(outside)).expect("decided");
        assert_eq!(found.verdict, Verdict::Refuted);
        assert!(found.why.contains("at 0x2000"));
    }

    #[test]
    fn maps_must_agree() {
        let mut seen = story(RIGHT);
        seen.marks[0].snapshot.maps[0].start += PAGE;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
