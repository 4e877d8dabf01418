//! L12: how many copies of a program's code there are in memory.

use std::collections::BTreeMap;

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Event, Events, Fault, FaultKind, Part, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L12",
    short: "a program can have several copies in memory",
    book: "The text segment is a mapping of the program's code. One program can have several copies in memory.",
    experiment: "A program starts itself a second time (fork, and exec of /proc/self/exe), while its first process still runs.",
    expected: &[Verdict::Refuted],
    read: &[
        "mm/filemap.c: filemap_fault, filemap_map_pages - map the page cache's pages, the one at the address and those around it",
        "fs/binfmt_elf.c: elf_load - maps the segments, private, from the file",
        "man 5 proc_pid_smaps: Pss - what is shared, divided by those who share it",
    ],
    method: Method::Experiment {
        program: "twice",
        judge,
    },
};

/// By file and offset: the fault that mapped a page of code.
type Pages<'a> = BTreeMap<(&'a str, u64), (&'a Event, &'a Fault)>;

/// The pages of code that faults of a process mapped after its last exec before a time.
fn code(seen: &Observed, pid: u32, until: u64) -> Pages<'_> {
    let exec = seen
        .execs()
        .filter(|(event, _)| event.pid == pid && event.ts <= until)
        .map(|(event, _)| event.ts)
        .last();
    seen.faults()
        .filter(|(event, fault)| {
            event.pid == pid
                && Some(event.ts) >= exec
                && matches!(fault.kind, FaultKind::FileMap | FaultKind::FileRead)
                && (fault.region == Region::Text
                    || fault.region == Region::Lib && fault.part == Some(Part::Text))
        })
        .filter_map(|(event, fault)| {
            Some(((fault.file.as_deref()?, fault.offset?), (event, fault)))
        })
        .collect()
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let first = seen.mark("first still runs")?;
    let second = seen.mark("second")?;
    let (one, other) = (
        code(seen, first.pid, second.ts),
        code(seen, second.pid, second.ts),
    );
    let common: Vec<_> = one
        .iter()
        .filter_map(|(page, one)| Some((page, *one, *other.get(page)?)))
        .collect();
    let program = common
        .iter()
        .find(|(_, (_, fault), _)| fault.region == Region::Text);
    let Some(((_, offset), (event, fault), (event2, fault2))) = program else {
        return Err(Undecided::because(
            "no page of the program's text that both processes faulted in was seen",
        ));
    };
    let same = common
        .iter()
        .filter(|(_, (_, one), (_, other))| one.pfn_after == other.pfn_after)
        .count();
    let mut evidence = Evidence::default();
    evidence
        .say(format!(
            "Both processes run the same file. The page of its code at offset {offset:#x} is at {} in the first process:",
            fault.addr
        ))
        .event(event)
        .say(format!("and at {} in the second:", fault2.addr))
        .event(event2)
        .say(if fault.pfn_after == fault2.pfn_after {
            "Other addresses, but one frame."
        } else {
            "Each has a frame of its own."
        })
        .say(format!(
            "In all there were {} pages of code, of the program and its libraries, that both took a fault for; {same} of \
             them have one frame in both.",
            common.len()
        ));
    // pagemap looks at the page of main, whichever fault has mapped it.
    let of_main = (first.frame("text")?, second.frame("text")?);
    let (Some(frame), Some(frame2)) = of_main else {
        return Err(Undecided::because(
            "/proc/PID/pagemap shows no frame for the program's main function",
        ));
    };
    evidence.agree(
        (frame == frame2) == (fault.pfn_after == fault2.pfn_after),
        format!("/proc/PID/pagemap has the page of main in frame {frame} in the first process and in {frame2} in the second"),
    )?;
    let figure = format!("{same} of {} pages: the same frame", common.len());
    if same == common.len() {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "The text is a mapping of the file, as the notes say, but a mapping of one copy: the kernel has read the file into \
             its page cache once, and every process that runs it maps these very frames, each where it likes. A program \
             that runs a hundred times has its code in memory once.",
        )
    } else if same == 0 {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "Each process has its own copy of the code in memory.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "Some pages of the code are in memory once, others once for each process.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{claims::layout::extent::told, story::Story};

    /// The frames of two pages of code in both processes; the first is that of main.
    fn story(one: [u64; 2], other: [u64; 2]) -> Observed {
        let mut story = Story::default();
        for (pid, frames) in [(1, one), (2, other)] {
            // Not of this program: what the fork had left.
            code_fault(&mut story, pid, 0, 99);
            told::exec(&mut story, pid);
            for (page, frame) in frames.into_iter().enumerate() {
                code_fault(&mut story, pid, page as u64 * 0x1000, frame);
            }
        }
        story
            .mark(2, "second", &[("text", 0x2_0000)])
            .frames(&other[..1]);
        story
            .mark(1, "first still runs", &[("text", 0x1_0000)])
            .frames(&one[..1]);
        story.observed()
    }

    fn code_fault(story: &mut Story, pid: u32, offset: u64, frame: u64) {
        let address = u64::from(pid) * 0x1_0000 + offset;
        let fault = story.fault(pid, address, FaultKind::FileMap, 0, frame);
        fault.region = Region::Text;
        fault.file = Some(told::PROGRAM.into());
        fault.offset = Some(offset);
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |one, other| judge(&story(one, other)).expect("decided").verdict;
        assert_eq!(verdict([7, 8], [7, 8]), Verdict::Refuted);
        assert_eq!(verdict([7, 8], [17, 18]), Verdict::Confirmed);
        assert_eq!(verdict([7, 8], [7, 18]), Verdict::Qualified);
    }

    #[test]
    fn pagemap_must_agree() {
        let mut seen = story([7, 8], [7, 8]);
        seen.marks[0].snapshot.frames.insert(0x2_0000, Some(17));
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        seen.marks[0].snapshot.frames.clear();
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}
