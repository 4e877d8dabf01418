//! L4: the stack grows downwards.

use super::extent::{Extent, size};
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mapping, Mark, Observed},
    },
    trace::event::{Access, Events, FaultKind, Mode, Region},
};

pub const CLAIM: Claim = Claim {
    id: "L4",
    short: "the stack grows from high to low addresses",
    book: "The stack is used from high addresses to low ones: what a function calls has its variables below its own.",
    experiment: "A function with a page of local variables calls itself 128 times.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/mmap.c: expand_stack_locked, expand_downwards (mm/vma.c in newer kernels) - move the start of the stack's VMA down",
        "arch/x86/mm/fault.c: do_user_addr_fault - a fault below the stack is its wish to grow",
        "include/linux/mm.h: VM_GROWSDOWN",
    ],
    method: Method::Experiment {
        program: "recursion",
        judge,
    },
};

/// The stack as /proc/PID/maps has it.
pub fn in_maps(mark: &Mark) -> Result<&Mapping, Undecided> {
    let mut maps = mark.snapshot.maps.iter();
    maps.find(|mapping| mapping.name == "[stack]")
        .ok_or_else(|| Undecided::because("/proc/PID/maps shows no stack"))
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let top = seen.mark("at the top")?;
    let bottom = seen.mark("at the bottom")?;
    let stack = Extent::of(seen, top.pid, top.value("here")?, top.ts)?;
    // Not what the mark itself does with the stack below.
    let (from, to) = (top.value("here")?, bottom.value("here")?);
    let calls = from.min(to)..=from.max(to);
    let faults: Vec<_> = seen
        .faults()
        .filter(|(event, fault)| {
            event.pid == top.pid
                && (top.ts..bottom.ts).contains(&event.ts)
                && calls.contains(&fault.addr.0)
                && (fault.kind, fault.region) == (FaultKind::ZeroFill, Region::Stack)
                && (fault.mode, fault.access) == (Mode::User, Access::Write)
        })
        .collect();
    if faults.len() < 3 {
        return Err(Undecided::because(
            "hardly a fault on the stack was seen while the function called itself",
        ));
    }
    // What a call has for itself may lie in two pages, and be touched from either end: so not from one to the next.
    let falling = faults
        .windows(3)
        .filter(|three| three[2].1.addr < three[0].1.addr)
        .count();
    let steps = faults.len() - 2;

    let mut evidence = Evidence::default();
    evidence
        .say(format!(
            "At first the stack has {}:",
            size(stack.end - stack.start)
        ))
        .event(stack.event)
        .say(format!(
            "The calls brought {} first touches of pages of the stack. The first three:",
            faults.len()
        ));
    for (event, _) in &faults[..faults.len().min(3)] {
        evidence.event(event);
    }
    evidence
        .say("The last of them:")
        .event(faults[faults.len() - 1].0);
    evidence.say(format!(
        "Of the {steps} steps from one fault to the next but one {falling} lead to a lower address."
    ));

    let (before, after) = (in_maps(top)?, in_maps(bottom)?);
    evidence.say(format!(
        "By /proc/PID/maps the stack was from {:#x} to {:#x} before the calls, and from {:#x} to {:#x} at the deepest.",
        before.start, before.end, after.start, after.end
    ));
    let lowest = faults
        .iter()
        .map(|(_, fault)| fault.addr.0)
        .min()
        .unwrap_or_default();
    evidence.agree(
        before.end == after.end && (after.start..after.end).contains(&lowest),
        format!(
            "in /proc/PID/maps the stack's end has not moved, and its start is not above {lowest:#x}, the lowest fault"
        ),
    )?;

    let figure = format!("{falling} of {steps} steps downwards");
    if falling == steps && after.start < before.start {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "Each call touched memory below that of its caller. The upper end of the stack stayed where it was; the \
             kernel moved its lower end down as the faults asked for it.",
        )
    } else if falling == 0 {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "Each call touched memory above that of its caller: here the stack grows upwards.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "Not every call touched memory below that of its caller, or the stack's start did not move.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{claims::layout::extent::told, story::Story};

    /// The stack, from 0xf0000 to 0x100000 at first, is touched at these addresses; at last it is from `start` on.
    fn story(touched: &[u64], start: u64) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        let map = |start| Mapping {
            start,
            end: 0x10_0000,
            name: "[stack]".into(),
            ..Mapping::default()
        };
        story.mark(1, "at the top", &[("here", 0xf_8000)]).maps = vec![map(0xf_0000)];
        for &address in touched {
            story.fault(1, address, FaultKind::ZeroFill, 0, 1).region = Region::Stack;
        }
        let last = touched.last().copied().unwrap_or_default();
        story.mark(1, "at the bottom", &[("here", last)]).maps = vec![map(start)];
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict =
            |touched: &[u64], start| judge(&story(touched, start)).expect("decided").verdict;
        assert_eq!(
            verdict(&[0xf_2000, 0xf_1000, 0xe_f000], 0xe_f000),
            Verdict::Confirmed
        );
        assert_eq!(
            verdict(&[0xf_9000, 0xf_a000, 0xf_b000], 0xf_0000),
            Verdict::Refuted
        );
        assert_eq!(
            verdict(&[0xf_2000, 0xf_0000, 0xf_1000, 0xe_f000], 0xe_f000),
            Verdict::Confirmed
        );
        assert_eq!(
            verdict(&[0xf_2000, 0xf_3000, 0xf_4000, 0xf_1000], 0xe_f000),
            Verdict::Qualified
        );
        assert_eq!(
            verdict(&[0xf_3000, 0xf_2000, 0xf_1000], 0xf_0000),
            Verdict::Qualified
        );
        assert!(judge(&story(&[], 0xf_0000)).is_err());
    }

    #[test]
    fn maps_must_agree() {
        let seen = story(&[0xf_2000, 0xf_1000, 0xe_f000], 0xf_0000);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}
