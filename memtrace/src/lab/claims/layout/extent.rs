//! Where an address lies, by the events of the trace alone.

use crate::{
    lab::{finding::Undecided, observed::Observed},
    trace::event::{
        Access, Address, Brk, By, Event, EventKind, Events, Exec, Fault, Mmap, Mode, Region,
        Returned,
    },
};

pub const PAGE: u64 = 4096;

/// A piece of an address space.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// What it is.
    pub region: Region,
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// The event that made it.
    pub event: &'a Event,
}

impl<'a> Extent<'a> {
    /// What a process had at an address at a time: what it or its exec had put there last.
    ///
    /// # Errors
    /// Nothing, by the events.
    pub fn of(seen: &'a Observed, pid: u32, address: u64, at: u64) -> Result<Self, Undecided> {
        let until = |event: &&Event| event.pid == pid && event.ts <= at;
        for event in seen.events.iter().filter(until).rev() {
            match &event.what {
                EventKind::Mmap(mmap) => {
                    if let Some(extent) = mapped(seen, event, mmap)
                        && (extent.start..extent.end).contains(&address)
                    {
                        return Ok(extent.at(seen, address));
                    }
                }
                EventKind::Brk(Brk { old, new }) if (old.0..new.0).contains(&address) => {
                    return Ok(Self {
                        region: Region::Heap,
                        start: old.0,
                        end: new.0,
                        event,
                    });
                }
                EventKind::Munmap(range)
                    if range.ret == 0
                        && (range.addr.0..range.addr.0 + range.len).contains(&address) =>
                {
                    break;
                }
                EventKind::Brk(Brk { old, new }) if (new.0..old.0).contains(&address) => break,
                EventKind::Exec(_) => break,
                _ => {}
            }
        }
        Err(Undecided::because(format!(
            "no event of the trace says what lies at {address:#x}"
        )))
    }

    /// The end of the program's data where BSS follows in the same mapping.
    fn at(self, seen: &Observed, address: u64) -> Self {
        if self.region != Region::Data {
            return self;
        }
        let Some((_, bss)) = cleared(seen, self) else {
            return self;
        };
        if address < bss {
            Self { end: bss, ..self }
        } else {
            Self {
                region: Region::Bss,
                start: bss,
                ..self
            }
        }
    }
}

/// What an mmap has mapped.
fn mapped<'a>(seen: &Observed, event: &'a Event, mmap: &Mmap) -> Option<Extent<'a>> {
    let Returned::Address(Address(start)) = mmap.ret else {
        return None;
    };
    let end = start + mmap.len.next_multiple_of(PAGE);
    let has = |name: &str| mmap.flags.iter().any(|flag| &**flag == name);
    let region = match (mmap.region, &mmap.file) {
        (Some(region), _) => region,
        (None, None) if has("MAP_SHARED") => Region::Shm,
        (None, None) => Region::Anon,
        // Only a fault tells a library from another file.
        (None, Some(_)) => seen
            .faults()
            .find(|(fault, what)| {
                fault.pid == event.pid
                    && fault.ts >= event.ts
                    && (start..end).contains(&what.addr.0)
                    && what.file == mmap.file
            })
            .map_or(Region::File, |(_, what)| what.region),
    };
    Some(Extent {
        region,
        start,
        end,
        event,
    })
}

/// Where the kernel, in the exec, has begun to clear the rest of the last page that the file fills: the first address of
/// BSS, and the fault in which it did so. Nothing where the file's part ends with a page.
pub fn cleared<'a>(seen: &'a Observed, data: Extent<'_>) -> Option<(&'a Event, u64)> {
    let EventKind::Mmap(Mmap {
        by: By::Exec, file, ..
    }) = &data.event.what
    else {
        return None;
    };
    let clears = |fault: &Fault| {
        fault.mode == Mode::Kernel
            && fault.access == Access::Write
            && fault.file == *file
            && (data.start..data.end).contains(&fault.addr.0)
    };
    let before = |event: &&Event| event.pid == data.event.pid && event.ts <= data.event.ts;
    // The exec's own faults come before its event, and after the exec that was before it.
    let events = seen.events.iter().rev().filter(before);
    events
        .skip_while(|event| !matches!(event.what, EventKind::Exec(_)))
        .skip(1)
        .take_while(|event| !matches!(event.what, EventKind::Exec(_)))
        .find_map(|event| match &event.what {
            EventKind::Fault(fault) if clears(fault) => Some((event, fault.addr.0)),
            _ => None,
        })
}

/// The regions that a process's last exec before a time has made, from low to high.
pub fn of_exec(seen: &Observed, pid: u32, at: u64) -> Vec<Extent<'_>> {
    let until = |event: &&Event| event.pid == pid && event.ts <= at;
    let mut places: Vec<_> = seen
        .events
        .iter()
        .filter(until)
        .rev()
        .take_while(|event| !matches!(event.what, EventKind::Exec(Exec { .. })))
        .filter_map(|event| match &event.what {
            EventKind::Mmap(mmap) if mmap.by == By::Exec => mapped(seen, event, mmap),
            _ => None,
        })
        .collect();
    places.sort_by_key(|extent| extent.start);
    places
}

/// What is to be added to an address of the program's ELF file for the one in memory: where the last exec before a time has
/// put the program.
///
/// # Errors
/// It was not seen, or the ELF file says nothing.
pub fn base(seen: &Observed, pid: u32, at: u64) -> Result<u64, Undecided> {
    let unknown = || Undecided::because("it was not seen where the exec put the program");
    let extent = of_exec(seen, pid, at)
        .into_iter()
        .find(|extent| matches!(extent.region, Region::Text | Region::Rodata | Region::Data))
        .ok_or_else(unknown)?;
    let first = seen
        .elf
        .segments
        .iter()
        .map(|segment| segment.address)
        .min();
    Ok(extent
        .start
        .wrapping_sub(first.ok_or_else(unknown)? & !(PAGE - 1)))
}

/// The section of the program's ELF file that an address in it lies in; empty for none.
pub fn section(seen: &Observed, address: u64) -> &str {
    seen.elf
        .sections
        .iter()
        .find(|section| {
            section.address != 0
                && (section.address..section.address + section.size).contains(&address)
        })
        .map_or("", |section| &section.name)
}

/// A size, exact, in the largest unit that divides it.
pub fn size(bytes: u64) -> String {
    let unit = match bytes {
        0 => 0,
        _ => (bytes.trailing_zeros() / 10).min(5),
    };
    let name = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"][unit as usize];
    format!("{} {name}", bytes >> (10 * unit))
}

#[cfg(test)]
pub mod told {
    //! Address spaces for stories.

    use std::sync::Arc;

    use super::{Address, Brk, By, EventKind, Exec, Fault, Mmap, Mode, Region, Returned};
    use crate::{lab::story::Story, trace::event::FaultKind};

    pub const PROGRAM: &str = "/tmp/prog";

    /// A program begins.
    pub fn exec(story: &mut Story, pid: u32) {
        let exec = Exec {
            file: PROGRAM.into(),
            exe: Some(PROGRAM.into()),
            args: Vec::new(),
            truncated: false,
            old_tid: None,
        };
        story.event(pid, EventKind::Exec(exec));
    }

    /// A private mapping; by exec where a region is given.
    pub fn mmap<'a>(
        story: &'a mut Story,
        pid: u32,
        (start, end): (u64, u64),
        prot: &str,
        region: Option<Region>,
        file: Option<&str>,
    ) -> &'a mut Mmap {
        let names: [(char, &str); 3] =
            [('r', "PROT_READ"), ('w', "PROT_WRITE"), ('x', "PROT_EXEC")];
        let mmap = Mmap {
            addr: Address(start),
            len: end - start,
            prot: names
                .into_iter()
                .filter(|(letter, _)| prot.contains(*letter))
                .map(|(_, name)| Arc::from(name))
                .collect(),
            flags: vec!["MAP_PRIVATE".into()],
            file: file.map(Into::into),
            offset: file.map(|_| 0),
            ret: Returned::Address(Address(start)),
            by: if region.is_some() { By::Exec } else { By::Call },
            region,
            resident: None,
            private: None,
        };
        match &mut story.event(pid, EventKind::Mmap(mmap)).what {
            EventKind::Mmap(mmap) => mmap,
            _ => unreachable!("it was made here"),
        }
    }

    /// The heap's end is moved.
    pub fn brk(story: &mut Story, pid: u32, old: u64, new: u64) {
        story.event(
            pid,
            EventKind::Brk(Brk {
                old: Address(old),
                new: Address(new),
            }),
        );
    }

    /// The program of many tests: exec maps code, constants, data with BSS from 0x3800 on, BSS, and a stack; the heap is
    /// from 0x9000 to 0xa000.
    pub fn program(story: &mut Story, pid: u32) {
        let fault: &mut Fault = story.fault(pid, 0x3800, FaultKind::FileCow, 0, 7);
        fault.mode = Mode::Kernel;
        fault.file = Some(PROGRAM.into());
        exec(story, pid);
        let file = Some(PROGRAM);
        mmap(story, pid, (0x1000, 0x2000), "rx", Some(Region::Text), file);
        mmap(
            story,
            pid,
            (0x2000, 0x3000),
            "r",
            Some(Region::Rodata),
            file,
        );
        mmap(story, pid, (0x3000, 0x4000), "rw", Some(Region::Data), file);
        mmap(story, pid, (0x4000, 0x6000), "rw", Some(Region::Bss), None);
        mmap(
            story,
            pid,
            (0xf_0000, 0x10_0000),
            "rw",
            Some(Region::Stack),
            None,
        );
        brk(story, pid, 0x9000, 0x9000);
        brk(story, pid, 0x9000, 0xa000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::Range};

    #[test]
    fn an_address_lies_where_it_was_put_last() {
        let mut story = Story::default();
        told::program(&mut story, 1);
        told::mmap(&mut story, 1, (0x2_0000, 0x2_1000), "rw", None, None);
        let early = story.seen().events.last().expect("an event").ts;
        let range = Range {
            addr: Address(0x2_0000),
            len: PAGE,
            ret: 0,
        };
        story.event(1, EventKind::Munmap(range));
        told::brk(&mut story, 1, 0xa000, 0x9800);
        let seen = story.observed();
        let extent = |address, at| Extent::of(&seen, 1, address, at).map(|extent| extent.region);
        for (address, region) in [
            (0x1234, Region::Text),
            (0x37ff, Region::Data),
            (0x3800, Region::Bss),
            (0x5000, Region::Bss),
            (0x9900, Region::Heap),
            (0x2_0000, Region::Anon),
            (0xf_0001, Region::Stack),
        ] {
            assert_eq!(extent(address, early), Ok(region), "{address:#x}");
        }
        for gone in [0x2_0000, 0x9900, 0x8000] {
            assert!(extent(gone, u64::MAX).is_err(), "{gone:#x}");
        }
        assert!(Extent::of(&seen, 2, 0x1234, early).is_err());
        assert_eq!(of_exec(&seen, 1, early).len(), 5);
        assert_eq!(size(128 << 40), "128 TiB");
        assert_eq!(size(0), "0 bytes");
    }
}
