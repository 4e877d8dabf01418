//! L10: why uninitialised variables are 0.

use super::extent::{Extent, base};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Fault, FaultKind, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L10",
    short: "BSS is cleared: so uninitialised globals are 0",
    book: "Global and static variables without a first value are in BSS, which is cleared before the program runs. That is \
           why they are 0.",
    experiment: "A program has three pages of uninitialised data. It reads all of the first and of the second; then it \
                 writes to the first and the third.",
    expected: &[Verdict::Confirmed],
    read: &[
        "fs/binfmt_elf.c: load_elf_binary - maps BSS as anonymous memory, and clears the rest of the last page of the file",
        "mm/memory.c: do_anonymous_page - the zero page for a read, a zeroed frame for a write",
        "man 5 elf: SHT_NOBITS, p_filesz, p_memsz",
    ],
    method: Method::Experiment {
        program: "zeroed",
        judge,
    },
};

/// The ELF file must have bytes for these pages just if it is where their contents come from.
fn file_agrees(
    seen: &Observed,
    start: &Mark,
    pages: [u64; 3],
    by_file: bool,
    evidence: &mut Evidence,
) -> Result<(), Undecided> {
    let base = base(seen, start.pid, start.ts)?;
    let in_file = |page: u64| {
        let address = page.wrapping_sub(base);
        seen.elf.segments.iter().any(|segment| {
            (segment.address..segment.address + segment.file_size).contains(&address)
        })
    };
    evidence.agree(
        pages.into_iter().any(in_file) == by_file,
        format!(
            "the program's ELF file has {} for these pages, and in the trace their contents {} from it",
            if by_file { "bytes" } else { "no bytes" },
            if by_file { "come" } else { "do not come" }
        ),
    )?;
    Ok(())
}

/// The three pages, which must lie in BSS.
fn in_bss(seen: &Observed, start: &Mark) -> Result<[u64; 3], Undecided> {
    let pages = [
        start.value("first")?,
        start.value("second")?,
        start.value("third")?,
    ];
    for page in pages {
        let region = Extent::of(seen, start.pid, page, start.ts)?.region;
        if region != Region::Bss {
            return Err(Undecided::because(format!(
                "the variable at {page:#x} lies in {} by the trace",
                region.name()
            )));
        }
    }
    Ok(pages)
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let start = seen.mark("start")?;
    let read = seen.mark("read")?;
    let written = seen.mark("written")?;
    let pages = in_bss(seen, start)?;
    let fault = |page: u64, from: &Mark, to: &Mark| -> Option<(&Event, &Fault)> {
        seen.faults_at(start.pid, page).find(|(event, fault)| {
            (from.ts..to.ts).contains(&event.ts) && fault.kind != FaultKind::Spurious
        })
    };
    let mut evidence = Evidence::default();
    let reads = [fault(pages[0], start, read), fault(pages[1], start, read)];
    let writes = [
        fault(pages[0], read, written),
        fault(pages[2], read, written),
    ];
    let [Some(one), Some(other)] = reads else {
        return Err(Undecided::because("the faults of the reads were not seen"));
    };
    evidence
        .say("The first reads of two of the pages:")
        .event(one.0)
        .event(other.0);
    let zero_page = reads
        .iter()
        .flatten()
        .all(|(_, fault)| fault.kind == FaultKind::ZeroRead)
        && one.1.pfn_after == other.1.pfn_after;
    if zero_page {
        evidence.say(
            "Both pages show one and the same frame: the zero page, which the kernel has for all that was never written.",
        );
    }
    if let Some((event, _)) = writes[0] {
        evidence
            .say("The first write to a page that was read:")
            .event(event);
    }
    if let Some((event, _)) = writes[1] {
        evidence
            .say("The first write to a page that was not touched before:")
            .event(event);
    }
    let before = read.value("set1")? + read.value("set2")?;
    let after = [
        written.value("set1")?,
        written.value("set2")?,
        written.value("set3")?,
    ];
    evidence.say(format!(
        "What the program found: {before} bytes of the two pages that were not 0 before its writes; after them {} in the \
         first page and {} in the third, where it had written one each.",
        after[0], after[2]
    ));

    let by_file = reads.iter().chain(&writes).flatten().any(|(_, fault)| {
        fault.file.is_some()
            || matches!(
                fault.kind,
                FaultKind::FileMap | FaultKind::FileRead | FaultKind::FileCow
            )
    });
    file_agrees(seen, start, pages, by_file, &mut evidence)?;
    evidence.agree(
        read.frame("first")? == one.1.pfn_after && read.frame("second")? == other.1.pfn_after,
        "/proc/PID/pagemap shows the same frames after the reads as the trace",
    )?;
    for (key, write) in [("first", writes[0]), ("third", writes[1])] {
        let Some((_, fault)) = write else { continue };
        evidence.agree(
            written.frame(key)? == fault.pfn_after,
            format!("/proc/PID/pagemap shows the same frame for the {key} page after its write as the trace"),
        )?;
    }

    let zero = before == 0 && after == [1, 0, 1];
    let figure = match (zero, zero_page) {
        (true, true) => "reads: the zero page",
        (true, false) => "zeroed frames",
        (false, _) => "not all bytes are 0",
    };
    match (zero, by_file) {
        (true, false) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "The file has only BSS's size. Its pages are like all fresh memory: whoever reads them sees the zero page or a \
             page of zeros, whoever writes them gets a frame of zeros of their own. So nothing is cleared ahead of time: the \
             kernel clears a frame when it is needed. Only the rest of the last page that the file fills is cleared in the exec.",
        ),
        (true, true) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The variables are 0, but because the file has zeros for them.",
        ),
        (false, _) => evidence.decide(Verdict::Refuted, figure, "Uninitialised variables were not all 0."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{claims::layout::extent::told, elf::Segment, story::Story};

    const PAGES: [(&str, u64); 3] = [("first", 0x4000), ("second", 0x5000), ("third", 0x6000)];

    /// The first two pages are read, this many of their bytes are set; by the file, if it has so many bytes.
    fn story(set: u64, file_size: u64) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        told::mmap(
            &mut story,
            1,
            (0x6000, 0x7000),
            "rw",
            Some(Region::Bss),
            None,
        );
        story.mark(1, "start", &PAGES);
        for page in [0x4000, 0x5000] {
            let fault = story.fault(1, page, FaultKind::ZeroRead, 0, 1);
            if file_size > 0x3000 {
                fault.file = Some(told::PROGRAM.into());
            }
        }
        let with = |more: &[(&'static str, u64)]| [&PAGES[..], more].concat();
        story.mark(1, "read", &with(&[("set1", set), ("set2", 0)]));
        story.fault(1, 0x4000, FaultKind::CowZero, 1, 2);
        story.fault(1, 0x6000, FaultKind::ZeroFill, 0, 3);
        let values = with(&[("set1", 1 + set), ("set2", 0), ("set3", 1)]);
        story.mark(1, "written", &values);
        let seen = story.seen();
        seen.elf.segments = vec![Segment {
            address: 0,
            size: 0x6000,
            file_size,
        }];
        for (mark, frames) in [(1, [1, 1, 0]), (2, [2, 1, 3])] {
            for ((_, page), frame) in PAGES.into_iter().zip(frames) {
                seen.marks[mark].snapshot.frames.insert(page, Some(frame));
            }
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |set, file_size| judge(&story(set, file_size)).expect("decided").verdict;
        assert_eq!(verdict(0, 0x2800), Verdict::Confirmed);
        assert_eq!(verdict(0, 0x6000), Verdict::Qualified);
        assert_eq!(verdict(3, 0x2800), Verdict::Refuted);
    }

    #[test]
    fn pagemap_and_the_elf_file_must_agree() {
        for mark in [1, 2] {
            let mut seen = story(0, 0x2800);
            seen.marks[mark].snapshot.frames.insert(0x4000, Some(9));
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
        let mut seen = story(0, 0x2800);
        seen.elf.segments[0].file_size = 0x6000;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
