//! L13: where the variables of the notes' example are.

use super::extent::{Extent, base, cleared, of_exec, section, size};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::Region,
};

pub const CLAIM: Claim = Claim {
    id: "L13",
    short: "the example: which variable is in which region",
    book: "Of the example program \"int a = 0\" and \"static int c = 0\" are in data, \"char *p1\" is in BSS; b, s[], p2 and \
           p3 are on the stack; \"123456\" is in the literal area; what malloc(10) and malloc(20) give is in the heap. The \
           two literals \"123456\" may be one.",
    experiment: "The example program itself, as the notes have it. At its end it names the literal once more, and tells \
                 the addresses.",
    expected: &[Verdict::Qualified],
    read: &[
        "man 1 gcc: -fno-zero-initialized-in-bss, -fmerge-constants",
        "man 1 nm: B, b for BSS, D, d for data, R, r for read-only data",
        "fs/binfmt_elf.c: padzero - clears what follows the data in its last page",
    ],
    method: Method::Experiment {
        program: "example",
        judge,
    },
};

/// What the program calls it, the notes' words, and the region that the notes say.
const NOTES: [(&str, &str, Region); 10] = [
    ("a", "int a = 0", Region::Data),
    ("p1", "char *p1", Region::Bss),
    ("b", "int b", Region::Stack),
    ("s", "char s[]", Region::Stack),
    ("p2", "char *p2", Region::Stack),
    ("p3", "char *p3", Region::Stack),
    ("literal", "\"123456\"", Region::Rodata),
    ("c", "static int c = 0", Region::Data),
    ("block1", "malloc(10)", Region::Heap),
    ("block2", "malloc(20)", Region::Heap),
];

/// Where the exec has put things, and where BSS begins.
fn show_exec(seen: &Observed, mark: &Mark, evidence: &mut Evidence) {
    evidence.say("The exec has mapped the program, and made its stack:");
    let ours = [
        Region::Rodata,
        Region::Text,
        Region::Data,
        Region::Bss,
        Region::Stack,
    ];
    let mut places = of_exec(seen, mark.pid, mark.ts);
    places.retain(|extent| ours.contains(&extent.region));
    for extent in &places {
        evidence.event(extent.event);
    }
    for &extent in places.iter().filter(|extent| extent.region == Region::Data) {
        if let Some((event, bss)) = cleared(seen, extent) {
            evidence
                .say(format!(
                    "Of the {} of data the file supplies what is below {bss:#x}. There BSS begins: in the exec the kernel \
                     cleared the rest of that page, which was this fault:",
                    size(extent.end - extent.start)
                ))
                .event(event);
        }
    }
}

/// The independent source that has something in another region than the trace.
fn contradicts(
    seen: &Observed,
    mark: &Mark,
    base: u64,
    (name, address, region): (&str, u64, Region),
) -> Option<&'static str> {
    let in_maps = mark.mapping(address).map_or("", |mapping| &mapping.name);
    let (agrees, source) = match region {
        Region::Stack => (in_maps == "[stack]", "/proc/PID/maps"),
        Region::Heap => (in_maps == "[heap]", "/proc/PID/maps"),
        _ => {
            let section = section(seen, address.wrapping_sub(base));
            let wanted = match region {
                Region::Data => ".data",
                Region::Bss => ".bss",
                _ => ".rodata",
            };
            let symbol = seen.elf.symbols.get(name);
            let is_there = symbol.is_none_or(|&symbol| symbol.wrapping_add(base) == address);
            (section == wanted && is_there, "the ELF file")
        }
    };
    (!agrees).then_some(source)
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("end")?;
    let mut evidence = Evidence::default();
    show_exec(seen, mark, &mut evidence);
    let base = base(seen, mark.pid, mark.ts)?;
    let mut otherwise = Vec::new();
    let mut heap = None;
    for (name, words, by_notes) in NOTES {
        let address = mark.value(name)?;
        let extent = Extent::of(seen, mark.pid, address, mark.ts)?;
        let region = extent.region;
        let note = if region == by_notes {
            "as the notes say".to_owned()
        } else {
            otherwise.push(words);
            format!("the notes say {}", by_notes.name())
        };
        if region == Region::Heap && heap.is_none() {
            heap = Some(extent.event);
            evidence
                .say("The heap, which malloc has made:")
                .event(extent.event);
        }
        evidence.say(format!("{words}: {address:#x}, {}; {note}", region.name()));
        if let Some(source) = contradicts(seen, mark, base, (name, address, region)) {
            evidence.agree(
                false,
                format!("{source} has {words} in {}, as the trace", region.name()),
            )?;
        }
    }
    evidence.say(
        "Checked: /proc/PID/maps has the same on the stack and in the heap, and the sections and symbols of the ELF file are \
         the same for all else",
    );
    let merged = mark.value("literal")? == mark.value("again")?;
    evidence.say(format!(
        "The literal \"123456\" stands in the program more than once. Two of these have the addresses {:#x} and {:#x}: {}.",
        mark.value("literal")?,
        mark.value("again")?,
        if merged { "it is one" } else { "they are two" }
    ));

    let right = NOTES.len() - otherwise.len();
    let figure = format!(
        "{right} of {} right, literals {}",
        NOTES.len(),
        if merged { "merged" } else { "apart" }
    );
    let literals = if merged {
        "The compiler has in fact made one of the two literals."
    } else {
        "The compiler has not made one of the two literals, which it may."
    };
    if otherwise.is_empty() {
        return evidence.decide(
            Verdict::Confirmed,
            figure,
            format!("All of them are where the notes say. {literals}"),
        );
    }
    let list = otherwise.join(", ");
    if right == 0 {
        return evidence.decide(
            Verdict::Refuted,
            figure,
            "None of them is where the notes say.",
        );
    }
    let zeros = otherwise == ["int a = 0", "static int c = 0"];
    let zeros = if zeros {
        "To be initialised by 0 is the same as not to be initialised: the compiler puts such a variable into BSS, where it \
         takes no room in the file. Data is for first values other than 0. "
    } else {
        ""
    };
    evidence.decide(
        Verdict::Qualified,
        figure,
        format!("Most are where the notes say, but not {list}. {zeros}{literals}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{
        claims::layout::extent::told,
        elf::{Section, Segment},
        observed::Mapping,
        story::Story,
    };

    /// `a` and `c` are at this address and after, all else as the notes say.
    fn story(zeros: u64) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        let values = [
            ("a", zeros),
            ("p1", 0x3900),
            ("b", 0xf_0010),
            ("s", 0xf_0020),
            ("p2", 0xf_0030),
            ("p3", 0xf_0040),
            ("literal", 0x2010),
            ("again", 0x2010),
            ("c", zeros + 8),
            ("block1", 0x9010),
            ("block2", 0x9030),
        ];
        let map = |start, name: &str| Mapping {
            start,
            end: start + 0x1000,
            name: name.into(),
            ..Mapping::default()
        };
        story.mark(1, "end", &values).maps = vec![map(0xf_0000, "[stack]"), map(0x9000, "[heap]")];
        let elf = &mut story.seen().elf;
        elf.segments.push(Segment {
            address: 0,
            ..Segment::default()
        });
        elf.sections = [
            (".rodata", 0x1000, 0x1000),
            (".data", 0x2000, 0x800),
            (".bss", 0x2800, 0x1800),
        ]
        .map(|(name, address, size)| Section {
            name: name.into(),
            address,
            size,
            ..Section::default()
        })
        .into();
        elf.symbols.insert("a".into(), zeros - 0x1000);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let found = |zeros| judge(&story(zeros)).expect("decided");
        assert_eq!(found(0x3100).verdict, Verdict::Confirmed);
        let zeros = found(0x4000);
        assert_eq!(zeros.verdict, Verdict::Qualified);
        assert_eq!(zeros.figure, "8 of 10 right, literals merged");
        assert!(zeros.why.contains("int a = 0, static int c = 0"));

        // Nothing is where it should be.
        let mut seen = story(0x4000);
        let mark = &mut seen.marks[0];
        for (name, address) in &mut mark.values {
            *address = match name.as_str() {
                "b" | "s" | "p2" | "p3" => 0x9010,
                "a" | "c" => 0x4000,
                "p1" => 0x3100,
                _ => 0xf_0010,
            };
        }
        seen.elf.symbols.clear();
        let refuted = judge(&seen).expect("decided");
        assert_eq!(
            (refuted.verdict, refuted.figure.as_str()),
            (Verdict::Refuted, "0 of 10 right, literals merged")
        );
        seen.marks[0].values.insert("again".into(), 0xf_0020);
        assert!(judge(&seen).expect("decided").figure.ends_with("apart"));
    }

    #[test]
    fn maps_and_the_elf_file_must_agree() {
        let mut cases = [story(0x4000), story(0x4000), story(0x4000)];
        cases[0].elf.symbols.insert("a".into(), 0x100);
        cases[1].elf.sections[2].name = ".data".into();
        cases[2].marks[0].snapshot.maps.clear();
        for seen in &cases {
            assert!(matches!(judge(seen), Err(Undecided::Contradiction(_))));
        }
    }
}
