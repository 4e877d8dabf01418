//! Holding a fault event against the touch that caused it.

use anyhow::{Context, Result, bail, ensure};
use memtrace_events::{Access, Counted, Event, Events, Fault, FaultKind, Mode, Part};

use super::trace::Trace;
use super::truth::Copied;
use crate::subject::memory::PAGE;
use crate::subject::report::{Death, Fact, Touch};

/// A fault that was found for a touch and agrees with it.
#[derive(Debug, Clone, Copy)]
pub struct MatchedFault<'a> {
    /// The event.
    pub event: &'a Event,
    /// The fault.
    pub fault: &'a Fault,
}

impl Trace {
    /// The fault of the subject's touch `name`, which must agree in everything that the subject could find out: the
    /// thread, the time, the address, the access, the frames, the file, and how the kernel counted it.
    pub fn fault(&self, name: &str) -> Result<MatchedFault<'_>> {
        match self.touches(name)?[..] {
            [touch] => self.fault_of(touch),
            ref touches => bail!("{} touches {name:?}", touches.len()),
        }
    }

    /// As [`Self::fault`], for a touch of one's own choice.
    pub fn fault_of(&self, touch: &Touch) -> Result<MatchedFault<'_>> {
        let seen = self.only_fault(touch.tid, touch.addr, touch.from, touch.until);
        let seen = seen.with_context(|| format!("{touch:?}"))?;
        seen.agrees_with(
            touch,
            [touch.within, (touch.from, touch.until)]
                .map(|(from, until)| self.counted(touch.tid, from, until)),
        )
        .with_context(|| format!("{:?} is not {touch:?}", seen.event))?;
        Ok(seen)
    }

    /// The faults of the thread at that time that the kernel counted, as the trace has it: minor and major. There
    /// may be more than one: the processor may ask once more for what is there already (`spurious`).
    fn counted(&self, tid: u32, from: u64, until: u64) -> (u64, u64) {
        let count = |how: Counted| {
            self.faults_during(tid, from, until)
                .filter(|(_, fault)| fault.counted == Some(how))
                .count() as u64
        };
        (count(Counted::Minor), count(Counted::Major))
    }

    /// The invalid access that the subject reports a child to have died of.
    pub fn death(&self, name: &str) -> Result<(&Death, MatchedFault<'_>)> {
        let death = self.facts.iter().find_map(|fact| match fact {
            Fact::Death(death) if death.name == name => Some(death),
            _ => None,
        });
        let death = death.with_context(|| format!("the subject reports no death {name:?}"))?;
        let seen = self.only_fault(death.pid, death.addr, death.from, death.until);
        let seen = seen.with_context(|| format!("{death:?}"))?;
        seen.check("kind", seen.fault.kind.name(), "invalid")?;
        ensure!(
            seen.fault.addr.0 == death.addr && seen.fault.access == death.access,
            "{:?} is not {death:?}",
            seen.event
        );
        ensure!(
            seen.fault.counted.is_none(),
            "the kernel doesn't count failed faults: {:?}",
            seen.event
        );
        seen.comes_from(death.code)
            .with_context(|| format!("{:?}", seen.event))?;
        Ok((death, seen))
    }

    /// The fault of a page that was copied.
    pub fn copy(&self, copied: &Copied) -> Result<(&Event, &Fault)> {
        let mut faults = self.faults().filter(|(event, fault)| {
            event.tid == copied.tid
                && copied.time.contains(&(event.ts - fault.late))
                && page(fault.addr.0) == page(copied.addr)
                && fault.kind == FaultKind::CowCopy
        });
        let fault = faults.next();
        fault.with_context(|| format!("no such fault: {copied:?}"))
    }

    /// The faults of a thread in that time.
    fn faults_during(
        &self,
        tid: u32,
        from: u64,
        until: u64,
    ) -> impl Iterator<Item = (&Event, &Fault)> {
        self.faults().filter(move |(event, fault)| {
            event.tid == tid && (from..=until).contains(&(event.ts - fault.late))
        })
    }

    /// The one fault of a thread in the page of `addr` in that time, spurious ones aside.
    fn only_fault(&self, tid: u32, addr: u64, from: u64, until: u64) -> Result<MatchedFault<'_>> {
        let found: Vec<_> = self
            .faults_during(tid, from, until)
            .filter(|(_, fault)| {
                page(fault.addr.0) == page(addr) && fault.kind != FaultKind::Spurious
            })
            .collect();
        match found[..] {
            [(event, fault)] => Ok(MatchedFault { event, fault }),
            [] => bail!("no such fault in the trace"),
            _ => bail!("{} such faults: {:?}", found.len(), found[0].0),
        }
    }
}

/// There is a fault of this kind, which is returned, if the kernel counted one, and else none.
pub fn faults_as_counted<'a>(
    trace: &'a Trace,
    name: &str,
    kind: &str,
    region: &str,
) -> Result<Option<MatchedFault<'a>>> {
    let touch = trace.touches(name)?[0];
    if touch.minor + touch.major > 0 {
        return trace.fault_of(touch)?.is(kind, region).map(Some);
    }
    let mut at = trace.faults().filter(|(event, fault)| {
        event.tid == touch.tid
            && fault.addr.0 == touch.addr
            && (touch.from..=touch.until).contains(&event.ts)
    });
    ensure!(at.next().is_none(), "the kernel counted none: {touch:?}");
    Ok(None)
}

impl MatchedFault<'_> {
    /// It is of this kind and in this region.
    pub fn is(self, kind: &str, region: &str) -> Result<Self> {
        self.check("kind", self.fault.kind.name(), kind)?;
        self.check("region", self.fault.region.name(), region)?;
        Ok(self)
    }

    /// It was taken in this mode.
    pub fn in_mode(self, mode: Mode) -> Result<Self> {
        ensure!(self.fault.mode == mode, "not {mode:?}: {:?}", self.event);
        Ok(self)
    }

    /// It is in this part of a library.
    pub fn in_part(self, part: &str) -> Result<Self> {
        self.check("part", self.fault.part.map_or("", Part::name), part)?;
        Ok(self)
    }

    fn check(&self, field: &str, is: &str, wanted: &str) -> Result<()> {
        ensure!(
            is == wanted,
            "{field} is {is:?}, should be {wanted:?}: {:?}",
            self.event
        );
        Ok(())
    }

    /// The instruction is the program's, or the kernel's; a jump has got to where it goes.
    fn comes_from(&self, (start, end): (u64, u64)) -> Result<()> {
        let (ip, addr) = (self.fault.ip.0, self.fault.addr.0);
        let is_right = match (self.fault.mode, self.fault.access) {
            (Mode::Kernel, _) => ip >> 63 == 1,
            (_, Access::Exec) => ip == addr,
            _ => (start..end).contains(&ip),
        };
        ensure!(
            is_right,
            "the instruction at {ip:#x} is none of the program's code, {start:#x}-{end:#x}"
        );
        Ok(())
    }

    /// `least` and `most` were counted, by the trace: while rusage was asked NUMA balancing may hint at the pages of that.
    fn agrees_with(&self, touch: &Touch, [least, most]: [(u64, u64); 2]) -> Result<()> {
        let fault = self.fault;
        ensure!(self.event.pid == touch.pid, "another process");
        self.comes_from(touch.code)?;
        ensure!(fault.access == touch.access, "another access");
        let small = fault.page_size == PAGE as u64;
        ensure!(
            !small || fault.pfn_before == touch.before,
            "another frame before"
        );
        ensure!(
            !small || fault.pfn_after == touch.after,
            "another frame after"
        );
        if touch.exact {
            ensure!(fault.addr.0 == touch.addr, "another address");
            ensure!(
                (least.0..=most.0).contains(&touch.minor)
                    && (least.1..=most.1).contains(&touch.major),
                "rusage counted otherwise than the trace, which has {least:?}, with rusage's own {most:?}"
            );
        }
        match &touch.file {
            // The kernel marks what has no name any more; what memtrace calls that is its own affair.
            Some((path, _)) if path.ends_with(" (deleted)") => {}
            Some((path, offset)) => {
                ensure!(fault.file.as_deref() == Some(path), "another file");
                ensure!(
                    fault.offset.map(page) == Some(page(*offset)),
                    "another offset"
                );
            }
            None => ensure!(fault.offset.is_none(), "an offset where no file is mapped"),
        }
        Ok(())
    }
}

fn page(addr: u64) -> u64 {
    addr / PAGE as u64
}
