//! L11: where initialised variables are.

use super::extent::{Extent, base, section};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Access, CowCause, FaultKind, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L11",
    short: "initialised statics and globals are in data",
    book: "Global and static variables that have a first value are in the data segment.",
    experiment: "A program has an initialised global variable and an initialised static one, of a page each. It maps the \
                 same pages of its own file a second time, reads both, then writes to the variables and looks at the file's \
                 pages again.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/memory.c: do_wp_page, wp_page_copy - a write to a page of the page cache in a private mapping copies it",
        "mm/memory.c: do_cow_fault - the same where the page was not mapped yet",
        "man 5 elf: .data",
    ],
    method: Method::Experiment {
        program: "initialised",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let read = seen.mark("read")?;
    let written = seen.mark("written")?;
    let base = base(seen, read.pid, read.ts)?;
    let mut evidence = Evidence::default();
    let (mut in_data, mut copied, mut unchanged) = (0, 0, 0);
    for (name, file, first) in [("global", "file1", "first1"), ("static", "file2", "first2")] {
        let address = read.value(name)?;
        let extent = Extent::of(seen, read.pid, address, read.ts)?;
        let of_file = read.frame(file)?;
        let write = seen.faults_at(read.pid, address).find(|(event, fault)| {
            (read.ts..written.ts).contains(&event.ts) && fault.access == Access::Write
        });
        let Some((event, fault)) = write else {
            return Err(Undecided::because(format!(
                "the write to the {name} variable made no fault"
            )));
        };
        if in_data == 0 && extent.region == Region::Data {
            evidence
                .say("The exec has mapped the data segment from the program's file:")
                .event(extent.event);
        }
        in_data += usize::from(extent.region == Region::Data);
        let from_cache = match fault.kind {
            FaultKind::CowCopy => {
                fault
                    .cause
                    .as_ref()
                    .is_some_and(|cause| cause.cause == CowCause::PageCache)
                    && fault.pfn_before == of_file
            }
            FaultKind::FileCow => true,
            _ => false,
        };
        copied += usize::from(from_cache && fault.pfn_after != of_file);
        evidence
            .say(format!(
                "The file's page with the {name} variable is in frame {}, by its other mapping. The write to the variable:",
                of_file.map_or("none".to_owned(), |frame| frame.to_string())
            ))
            .event(event);
        unchanged += usize::from(read.value(first)? == written.value(first)?);

        let section = section(seen, address.wrapping_sub(base));
        evidence.agree(
            section.starts_with(".data") == (extent.region == Region::Data),
            format!("the {name} variable is in the section {section} of the program's ELF file, and in {} by the trace", extent.region.name()),
        )?;
        evidence.agree(
            read.frame(name)? == fault.pfn_before && written.frame(name)? == fault.pfn_after,
            format!("/proc/PID/pagemap shows the same frames of the {name} variable before and after the write as the trace"),
        )?;
        evidence.agree(
            fault.kind != FaultKind::CowCopy || written.frame(file)? == of_file,
            format!("/proc/PID/pagemap shows the file's page with the {name} variable in the same frame after the write"),
        )?;
    }
    evidence.say(format!("Through its mappings of the file the program found {unchanged} of 2 pages unchanged after its writes."));

    let figure = format!("{in_data} of 2 in data, {copied} copied");
    match (in_data, copied.min(unchanged)) {
        (2, 2) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "Both lie in the data segment: a private mapping of the program's file, which brings their first values. Until \
             the first write their pages are those of the page cache, the same for all who run the program; the first \
             write to a page gives the process its own copy, and the file stays as it was.",
        ),
        (0, _) => evidence.decide(Verdict::Refuted, figure, "Neither of them lies in the data segment."),
        (2, _) => evidence.decide(
            Verdict::Qualified,
            figure,
            "Both lie in the data segment, but the writes did not make private copies of the file's pages.",
        ),
        _ => evidence.decide(Verdict::Qualified, figure, "Only one of them lies in the data segment."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{
            claims::layout::extent::told,
            elf::{Section, Segment},
            story::Story,
        },
        trace::event::Cause,
    };

    /// Variables at these addresses; the file's page changes with the write.
    fn story(variables: [u64; 2], changed: bool) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        told::mmap(
            &mut story,
            1,
            (0x7000, 0x8000),
            "rw",
            Some(Region::Data),
            None,
        );
        let values = |first| {
            [
                ("global", variables[0]),
                ("static", variables[1]),
                ("file1", 0x5_0000),
                ("file2", 0x6_0000),
                ("first1", first),
                ("first2", first),
            ]
        };
        story.mark(1, "read", &values(7));
        for (variable, frame) in variables.into_iter().zip([1, 2]) {
            story
                .fault(1, variable, FaultKind::CowCopy, frame, frame + 10)
                .cause = Some(Box::new(Cause {
                cause: CowCause::PageCache,
                fork: None,
                sharers: Vec::new(),
                sharer_count: 0,
                map_count: Some(2),
            }));
        }
        story.mark(1, "written", &values(if changed { 8 } else { 7 }));
        let seen = story.seen();
        for (mark, own) in [(0, 0), (1, 10)] {
            let frames = &mut seen.marks[mark].snapshot.frames;
            frames.extend([(0x5_0000, Some(1)), (0x6_0000, Some(2))]);
            frames.extend([(variables[0], Some(1 + own)), (variables[1], Some(2 + own))]);
        }
        seen.elf.segments.push(Segment {
            address: 0,
            ..Segment::default()
        });
        seen.elf.sections = [
            (".data", 0x2000, 0x1000),
            (".bss", 0x3000, 0x3000),
            (".data.b", 0x6000, 0x1000),
        ]
        .map(|(name, address, size)| Section {
            name: name.into(),
            address,
            size,
            ..Section::default()
        })
        .into();
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict =
            |variables, changed| judge(&story(variables, changed)).expect("decided").verdict;
        assert_eq!(verdict([0x3000, 0x7000], false), Verdict::Confirmed);
        assert_eq!(verdict([0x3000, 0x7000], true), Verdict::Qualified);
        assert_eq!(verdict([0x3000, 0x4000], false), Verdict::Qualified);
        assert_eq!(verdict([0x4000, 0x5000], false), Verdict::Refuted);
        let mut seen = story([0x3000, 0x7000], false);
        seen.events.pop();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn pagemap_and_the_elf_file_must_agree() {
        for (mark, address) in [(0, 0x3000), (1, 0x7000), (1, 0x5_0000)] {
            let mut seen = story([0x3000, 0x7000], false);
            seen.marks[mark].snapshot.frames.insert(address, Some(99));
            assert!(
                matches!(judge(&seen), Err(Undecided::Contradiction(_))),
                "{mark} {address:#x}"
            );
        }
        let mut seen = story([0x3000, 0x7000], false);
        seen.elf.sections.clear();
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
