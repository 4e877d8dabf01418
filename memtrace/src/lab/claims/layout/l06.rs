//! L6: where constants are.

use super::extent::{Extent, base, section};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::{Access, EventKind, Events, FaultKind, Mmap, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L6",
    short: "constants are in a literal area, on the stack",
    book: "There is an area for constants, which string literals are put in. And this area belongs to the stack.",
    experiment: "A program has a string literal, and an array on its stack that is initialised by another. A child writes \
                 to the array, then to the literal.",
    expected: &[Verdict::Qualified],
    read: &[
        "arch/x86/mm/fault.c: access_error - a write where the VMA does not allow it is an error",
        "man 5 elf: .rodata - the section of read-only data",
        "the C standard, 6.4.5: to modify a string literal is undefined behaviour",
    ],
    method: Method::Experiment {
        program: "literal",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("before the write")?;
    let end = seen.mark("end")?;
    let (literal, array) = (mark.value("literal")?, mark.value("stack")?);
    // The child has its parent's address space.
    let extent = Extent::of(seen, end.pid, literal, mark.ts)?;
    let stack = Extent::of(seen, end.pid, array, mark.ts)?;
    let writable = match &extent.event.what {
        EventKind::Mmap(Mmap { prot, .. }) => prot.iter().any(|prot| &**prot == "PROT_WRITE"),
        _ => true,
    };
    let mut evidence = Evidence::default();
    evidence
        .say(format!(
            "The literal is at {literal:#x}. The exec had mapped that from the program's file, {}:",
            if writable {
                "so that it can be written"
            } else {
                "to be read only"
            }
        ))
        .event(extent.event)
        .say(format!(
            "The stack, with the array at {array:#x}, is elsewhere:"
        ))
        .event(stack.event);
    let refused = seen.faults_at(mark.pid, literal).find(|(event, fault)| {
        event.ts > mark.ts && fault.access == Access::Write && fault.kind == FaultKind::Invalid
    });
    let died = seen
        .exits()
        .find(|(event, exit)| event.pid == mark.pid && exit.signal.is_some());
    if let Some((event, _)) = refused {
        evidence
            .say("The child's write to the literal was an error, though the page was there:")
            .event(event);
    }
    if let Some((event, _)) = died {
        evidence.say("and ended it by SIGSEGV:").event(event);
    }

    let perms = mark
        .mapping(literal)
        .map(|mapping| mapping.perms.as_str())
        .unwrap_or_default();
    evidence.agree(
        perms.starts_with('r') && perms.contains('w') == writable,
        format!(
            "/proc/PID/maps ({perms}) and the trace say that the literal can {}be written",
            if writable { "" } else { "not " }
        ),
    )?;
    evidence.agree(
        mark.mapping(array)
            .is_some_and(|mapping| mapping.name == "[stack]")
            == (stack.region == Region::Stack),
        "/proc/PID/maps and the trace have the array on the stack",
    )?;
    if extent.region != Region::Stack {
        let section = section(seen, literal.wrapping_sub(base(seen, end.pid, mark.ts)?));
        evidence.agree(
            (section == ".rodata") == (extent.region == Region::Rodata),
            format!("in the program's ELF file the literal is in the section {section}, the trace has it in {}", extent.region.name()),
        )?;
    }

    let killed = refused.is_some() && died.is_some();
    let figure = format!(
        "{}, {}",
        extent.region.name(),
        if killed {
            "a write is SIGSEGV"
        } else {
            "can be written"
        }
    );
    match extent.region {
        Region::Stack => evidence.decide(Verdict::Confirmed, figure, "The literal lies on the stack."),
        Region::Rodata | Region::Text if killed => evidence.decide(
            Verdict::Qualified,
            figure,
            "There is such an area: the compiler puts literals into a section of the program's file (.rodata), and the \
             exec maps it so that it can't be written. But it is no part of the stack: it lies beside the code, far \
             below. What is on the stack is the array, into which the program has copied its characters; that can be \
             written.",
        ),
        _ => evidence.decide(
            Verdict::Refuted,
            figure,
            "The literal lies neither on the stack nor in an area for constants only: it could be written.",
        ),
    }
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

    /// The literal is here, and a write to it kills.
    fn story(literal: u64, perms: &str, killed: bool) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        let map = |start, perms: &str, name: &str| Mapping {
            start,
            end: start + 0x1000,
            perms: perms.into(),
            name: name.into(),
            ..Mapping::default()
        };
        story
            .mark(
                2,
                "before the write",
                &[("literal", literal), ("stack", 0xf_0100)],
            )
            .maps = vec![
            map(0xf_0000, "rw-p", "[stack]"),
            map(literal & !0xfff, perms, told::PROGRAM),
        ];
        if killed {
            story.fault(2, literal, FaultKind::Invalid, 5, 5).signal = Some(11);
            story.exit(2, None, Some(11));
        } else {
            story.exit(2, Some(0), None);
        }
        story.mark(1, "end", &[]);
        let elf = &mut story.seen().elf;
        elf.segments.push(Segment {
            address: 0,
            ..Segment::default()
        });
        elf.sections = [(".rodata", 0x1000), (".data", 0x2000)]
            .map(|(name, address)| Section {
                name: name.into(),
                address,
                size: 0x1000,
                ..Section::default()
            })
            .into();
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |literal, perms, killed| {
            judge(&story(literal, perms, killed))
                .expect("decided")
                .verdict
        };
        assert_eq!(verdict(0x2010, "r--p", true), Verdict::Qualified);
        assert_eq!(verdict(0xf_0010, "rw-p", false), Verdict::Confirmed);
        assert_eq!(verdict(0x3010, "rw-p", false), Verdict::Refuted);
        assert_eq!(verdict(0x2010, "r--p", false), Verdict::Refuted);
    }

    #[test]
    fn maps_and_the_elf_file_must_agree() {
        assert!(matches!(
            judge(&story(0x2010, "rw-p", true)),
            Err(Undecided::Contradiction(_))
        ));
        let mut seen = story(0x2010, "r--p", true);
        seen.elf.sections[0].name = ".text".into();
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
