//! L1: how large an address space is.

use super::extent::{PAGE, size};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Address, Event, EventKind, Events, FaultKind, Mmap, Returned},
};

pub const CLAIM: Claim = Claim {
    id: "L1",
    short: "4 GiB of addresses: 3 for the user, 1 for the kernel",
    book: "A process has 2^32 = 4 GiB of address space: the lower 3 GiB are its own, the upper 1 GiB is the kernel's.",
    experiment: "A program asks for a page just below 2 GiB, 3 GiB, 4 GiB, 8 GiB and so on up to 2^63, each time at \
                 exactly this address, and writes to those pages that it gets. Then a child reads from an address of \
                 the kernel's part.",
    expected: &[Verdict::Refuted],
    read: &[
        "arch/x86/include/asm/page_64_types.h: TASK_SIZE_MAX, DEFAULT_MAP_WINDOW - where the user's part ends",
        "Documentation/arch/x86/x86_64/mm.rst - the map of the whole address space, with 4 and with 5 levels of page tables",
        "arch/x86/mm/fault.c: do_kern_addr_fault - what becomes of a program that touches the kernel's part",
    ],
    method: Method::Experiment {
        program: "width",
        judge,
    },
};

/// `EEXIST`: the program has something there already, as its stack without ASLR.
const TAKEN: Returned = Returned::Error(-17);

/// The page that was asked for just below this address, and whether it was given. The last page below the limit is never
/// given out, so the program asks for the one under it.
fn asked(event: &Event) -> Option<(&Event, u64, bool)> {
    match &event.what {
        EventKind::Mmap(Mmap {
            addr: Address(addr),
            ret,
            flags,
            ..
        }) if flags.iter().any(|flag| &**flag == "MAP_FIXED_NOREPLACE") => {
            let given = *ret == Returned::Address(Address(*addr)) || *ret == TAKEN;
            Some((event, addr + 2 * PAGE, given))
        }
        _ => None,
    }
}

/// /proc/PID/maps must show the highest page that the program has below the limit, and nothing above it.
fn maps_agree(end: &Mark, limit: u64, evidence: &mut Evidence) -> Result<(), Undecided> {
    let highest = end.value("highest")?;
    evidence.agree(
        highest + 2 * PAGE == limit && end.mapping(highest).is_some(),
        format!("/proc/PID/maps has a mapping at {highest:#x}, the highest page by the trace, too"),
    )?;
    evidence.agree(
        end.snapshot
            .maps
            .iter()
            // The one page of the kernel's that programs may call.
            .filter(|mapping| !mapping.name.contains("syscall"))
            .all(|mapping| mapping.end <= limit),
        format!("/proc/PID/maps has nothing of the program's above {limit:#x}"),
    )?;
    Ok(())
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    const USER: u64 = 3 << 30;
    let end = seen.mark("end")?;
    let child = seen.mark("child")?;
    let kernel = child.value("kernel")?;
    let mut evidence = Evidence::default();

    let (given, refused): (Vec<_>, Vec<_>) = seen
        .events
        .iter()
        .filter(|event| event.pid == end.pid)
        .filter_map(asked)
        .partition(|(_, _, given)| *given);
    let (Some(&(highest, limit, _)), Some(&(next, above, _))) = (
        given.iter().max_by_key(|(_, below, _)| below),
        refused.iter().min_by_key(|(_, below, _)| below),
    ) else {
        return Err(Undecided::because(
            "no limit was found: all addresses were given, or none",
        ));
    };
    let taken = matches!(&highest.what, EventKind::Mmap(mmap) if mmap.ret == TAKEN);
    evidence
        .say(format!(
            "The highest page that {} lies below {limit:#x}, which is {}:",
            if taken {
                "the program has, and had before it asked,"
            } else {
                "was given"
            },
            size(limit)
        ))
        .event(highest);
    if let Some((event, _)) = seen
        .faults_at(end.pid, limit - 2 * PAGE)
        .find(|(_, fault)| fault.kind == FaultKind::ZeroFill)
    {
        evidence
            .say("It can really be used; a write to it got a frame:")
            .event(event);
    }
    evidence
        .say(format!("The next one, below {above:#x}, was refused:"))
        .event(next);

    let kill = seen.faults_at(child.pid, kernel).find(|(event, fault)| {
        event.ts > child.ts && fault.kind == FaultKind::Invalid && fault.signal.is_some()
    });
    let Some((killing, _)) = kill else {
        return evidence.decide(
            Verdict::Refuted,
            "the kernel's part can be read",
            format!("The read at {kernel:#x}, which should be the kernel's, did not end in a fault that is an error."),
        );
    };
    let died = seen
        .exits()
        .find(|(event, exit)| event.pid == child.pid && exit.signal.is_some());
    evidence
        .say(format!(
            "The child's read at {kernel:#x}, in the kernel's part, is an error:"
        ))
        .event(killing);
    if let Some((event, _)) = died {
        evidence.say("and it ended the child:").event(event);
    }

    maps_agree(end, limit, &mut evidence)?;

    let bits = limit.ilog2();
    if limit == USER {
        return evidence.decide(
            Verdict::Confirmed,
            "3 GiB user",
            "The program's own part of the address space ends at 3 GiB, and what lies above is the kernel's.",
        );
    }
    if limit <= 1 << 32 {
        return evidence.decide(
            Verdict::Qualified,
            format!("{} user", size(limit)),
            "The address space has 32 bits, as the book says, but it is not split at 3 GiB.",
        );
    }
    let levels = if bits > 47 { 5 } else { 4 };
    evidence.decide(
        Verdict::Refuted,
        format!("{} user ({bits} bits)", size(limit)),
        format!(
            "This is how it is with 32 bits. Here a pointer has 64 bits, and the processor's page tables with \
             {levels} levels translate {} of them. The lower half of these addresses, 2^{bits} bytes = {}, is the \
             program's own; the upper half, as large, lies at the very top of the 64 bits and is the kernel's; what \
             is between the halves is no address at all. The upper half is mapped in no way that a program could use: \
             its touch is SIGSEGV.",
            bits + 1,
            size(limit),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{claims::layout::extent::told, observed::Mapping, story::Story},
        trace::event::Access,
    };

    const KERNEL: u64 = 0xffff_8000_0000_0000;

    /// Pages below these powers of two and 3 GiB are asked for, those up to `limit` given.
    fn story(limit: u64, killed: bool) -> Observed {
        let mut story = Story::default();
        for end in [
            2 << 30,
            3 << 30,
            1 << 32,
            1 << 47,
            1 << 48,
            1 << 56,
            1 << 57,
        ] {
            let page = end - 2 * PAGE;
            let mmap = told::mmap(&mut story, 1, (page, page + PAGE), "rw", None, None);
            mmap.flags = vec!["MAP_FIXED_NOREPLACE".into()];
            if end > limit {
                mmap.ret = Returned::Error(-12);
            }
        }
        story.mark(2, "child", &[("kernel", KERNEL)]);
        let fault = story.fault(2, KERNEL, FaultKind::Invalid, 0, 0);
        fault.access = Access::Read;
        fault.signal = Some(11);
        if !killed {
            fault.kind = FaultKind::FileMap;
        }
        story.exit(2, None, Some(11));
        let highest = limit - 2 * PAGE;
        story.mark(1, "end", &[("highest", highest)]).maps = vec![Mapping {
            start: highest,
            end: highest + PAGE,
            ..Mapping::default()
        }];
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |limit, killed| {
            let found = judge(&story(limit, killed)).expect("decided");
            (found.verdict, found.figure)
        };
        assert_eq!(
            verdict(3 << 30, true),
            (Verdict::Confirmed, "3 GiB user".into())
        );
        assert_eq!(
            verdict(2 << 30, true),
            (Verdict::Qualified, "2 GiB user".into())
        );
        assert_eq!(
            verdict(1 << 47, true),
            (Verdict::Refuted, "128 TiB user (47 bits)".into())
        );
        assert_eq!(
            verdict(1 << 56, true),
            (Verdict::Refuted, "64 PiB user (56 bits)".into())
        );
        assert_eq!(verdict(3 << 30, false).0, Verdict::Refuted);
    }

    #[test]
    fn where_something_is_already_there_can_be_something() {
        let mut seen = story(1 << 47, true);
        for event in &mut seen.events {
            if let EventKind::Mmap(mmap) = &mut event.what
                && mmap.addr.0 == (1 << 47) - 2 * PAGE
            {
                mmap.ret = TAKEN;
            }
        }
        let found = judge(&seen).expect("decided");
        assert_eq!(found.figure, "128 TiB user (47 bits)");
    }

    #[test]
    fn maps_must_agree() {
        let mut seen = story(1 << 47, true);
        seen.marks[1].snapshot.maps[0].end = 1 << 50;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        seen.marks[1].snapshot.maps.clear();
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
