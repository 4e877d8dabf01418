//! Page faults, one and a run of them.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use super::cause::CauseText;
use super::{Bytes, Count, SignalName, Span};
use crate::output::colour::Palette;
use crate::output::escape::Escaped;
use crate::output::run::{Direction, Run, Sharers};
use crate::trace::event::{Access, Counted, Fault, FaultKind, Handled, Mode, NO_CALL};

const SIGBUS: u32 = 7;

/// The size of the pages that need no mention.
const USUAL_PAGE: u64 = 4096;

pub(super) fn write(out: &mut impl Write, fault: &Fault, palette: Palette) -> io::Result<()> {
    let faint = palette.faint();
    write!(
        out,
        "{} {:<#14x} {}",
        access(fault),
        fault.addr.0,
        Outcome(fault)
    )?;
    if let Some(cause) = &fault.cause {
        write!(out, "{}", CauseText(cause, &Sharers::of(cause)))?;
    }
    write!(out, "  {faint}[")?;
    let frames = Frames::of(fault);
    if frames != Frames::NONE {
        write!(out, "frame {frames}, ")?;
    }
    if fault.page_size != USUAL_PAGE {
        write!(out, "{} page, ", Bytes(fault.page_size))?;
    }
    if fault.kind == FaultKind::Invalid {
        write!(out, "by the instruction at {}, ", fault.ip)?;
    }
    if let Some(handled) = &fault.handled {
        if let Some(dur) = handled.dur {
            write!(out, "took {}, ", Span(dur))?;
        }
        if handled.retries != 0 {
            let (retries, waited) = (Count(handled.retries, "new attempt"), Span(handled.waited));
            write!(out, "{retries} after {waited}, ")?;
        }
    }
    if fault.late != 0 {
        write!(out, "began {} us earlier, ", fault.late / 1000)?;
    }
    write!(out, "{}]{faint:#}", counted(fault.counted))
}

/// Writes a run; `until` is the time of its last fault as it is shown.
pub(in crate::output) fn write_run(
    out: &mut impl Write,
    run: &Run,
    until: impl Display,
    palette: Palette,
) -> io::Result<()> {
    let (first, last) = (run.first(), &run.last());
    let (strong, faint) = (palette.strong(), palette.faint());
    let (count, (from, to)) = (run.faults(), run.range());
    let (lowest, direction) = match run.direction() {
        Direction::Down => (last, " downwards"),
        Direction::Up | Direction::Stays => (first, ""),
    };
    if run.direction() == Direction::Stays {
        write!(
            out,
            "{} {:<#14x} {strong}{count} times{strong:#} {}",
            access(first),
            first.addr.0,
            Outcome(first)
        )?;
    } else {
        write!(
            out,
            "{} each of {strong}{count} pages{strong:#} {from}-{to}{direction} {}",
            access(first).trim_end(),
            Outcome(lowest),
        )?;
    }
    if let Some((cause, sharers)) = first.cause.as_deref().zip(run.sharers()) {
        write!(out, "{}", CauseText(cause, sharers))?;
    }
    write!(out, "  {faint}[")?;
    match (Frames::of(first), Frames::of(last)) {
        (Frames::NONE, Frames::NONE) => {}
        (one, other) if one == other => write!(out, "frame {one}, ")?,
        (one, other) => write!(out, "frames {one} ... {other}, ")?,
    }
    if first.page_size != USUAL_PAGE {
        write!(out, "{} pages, ", Bytes(first.page_size))?;
    }
    if first.kind == FaultKind::Invalid {
        write!(out, "by the instruction at {}, ", first.ip)?;
    }
    for (how, count) in run.counted() {
        if count == run.faults() {
            write!(out, "{}, ", counted(how))?;
        } else if count != 0 {
            write!(out, "{count} {}, ", counted(how))?;
        }
    }
    write!(out, "until {until}]{faint:#}")
}

/// The access, always of the same width.
const fn access(fault: &Fault) -> &'static str {
    match fault.access {
        Access::Read => "read of ",
        Access::Write => "write to",
        Access::Exec => "exec at ",
    }
}

const fn counted(counted: Option<Counted>) -> &'static str {
    match counted {
        Some(Counted::Minor) => "minor",
        Some(Counted::Major) => "major",
        None => "not counted",
    }
}

/// Frame before and after.
#[derive(PartialEq)]
struct Frames(Option<u64>, Option<u64>);

impl Frames {
    const NONE: Self = Self(None, None);

    const fn of(fault: &Fault) -> Self {
        Self(fault.pfn_before, fault.pfn_after)
    }
}

impl Display for Frames {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self(None, None) => f.write_str("none"),
            Self(None, Some(after)) => write!(f, "{after:#x}"),
            Self(Some(before), None) => write!(f, "{before:#x} -> none"),
            Self(Some(before), Some(after)) if before == after => write!(f, "{before:#x} kept"),
            Self(Some(before), Some(after)) => write!(f, "{before:#x} -> {after:#x}"),
        }
    }
}

/// For a fault without an exception: who wanted the page of whom.
fn asked_for(f: &mut Formatter<'_>, handled: &Handled) -> fmt::Result {
    let Some(call) = &handled.call else {
        return Ok(());
    };
    if call != NO_CALL {
        write!(f, ", in {call}")?;
    }
    if let Some(owner) = handled.owner {
        write!(f, ", in the memory of {owner}")?;
    }
    f.write_str(if handled.unshare {
        ", so that nobody else has it while it is read: "
    } else {
        ": "
    })
}

/// Where it was, and what the kernel did about it.
struct Outcome<'a>(&'a Fault);

impl Display for Outcome<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let fault = self.0;
        write!(f, "({}", fault.region.name())?;
        if let Some(part) = fault.part {
            write!(f, " {}", part.name())?;
        }
        if let Some(file) = &fault.file {
            // The whole path was shown when the file was mapped, and is in JSON.
            let name = file.rsplit('/').next().unwrap_or(file);
            write!(f, ", {}", Escaped(name))?;
        }
        if let Some(offset) = fault.offset {
            write!(f, "+{offset:#x}")?;
        }
        f.write_str(match fault.mode {
            Mode::User => "): ",
            Mode::Kernel => ") by the kernel: ",
            Mode::Gup => ") by the kernel, without an exception",
        })?;
        if let Some(handled) = &fault.handled {
            asked_for(f, handled)?;
        }
        f.write_str(match fault.kind {
            FaultKind::ZeroRead => "shared zero page mapped",
            FaultKind::ZeroFill => "new zeroed page",
            FaultKind::CowCopy => "page copied",
            FaultKind::CowReuse => "page reused, not copied",
            FaultKind::CowZero => "zero page replaced by a new zeroed page, not copied",
            FaultKind::FileMap => "page mapped from the page cache",
            FaultKind::FileRead => "page read from the file, then mapped",
            FaultKind::FileCow => "private copy of the file's page",
            FaultKind::SharedWrite => "shared page made writable",
            FaultKind::ShmFill => "new page of shared memory",
            FaultKind::SwapIn => "page brought back from swap",
            FaultKind::UffdFill => "page supplied by a handler of userfaultfd",
            FaultKind::NumaHint => "page made accessible again, after a NUMA hint",
            FaultKind::SpecialMap => "page of the kernel's own, or of a device, mapped",
            FaultKind::UffdWp => "page made writable again, which userfaultfd had protected",
            // As beyond a file's end, or where there is no huge page to be had.
            FaultKind::Invalid if fault.signal == Some(SIGBUS) => "no page to be had there",
            FaultKind::Invalid => "not allowed",
            FaultKind::Spurious => "nothing changed",
            FaultKind::Other => fault.detail.as_deref().unwrap_or("none of the known kinds"),
        })?;
        if let Some(detail) = &fault.detail
            && fault.kind != FaultKind::Other
        {
            write!(f, "; {detail}")?;
        }
        if let Some(signal) = fault.signal {
            write!(f, ", ends in {}", SignalName(signal))?;
        }
        Ok(())
    }
}
