//! What happened, in plain words, and the proof in brackets: a file per family of events.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::colour::Palette;
use super::escape::Escaped;
use crate::trace::event::{Event, EventKind, Lost};

mod cause;
mod experiment;
pub(super) mod fault;
mod memory;
mod number;
mod object;
mod task;

use number::Bytes;
pub(super) use number::{Count, Seconds, Size, Span, size_of};
pub(super) use object::Object;
pub(super) use task::command;

/// Whether an event tells a person something that the line before it doesn't.
pub(super) fn tells(what: &EventKind) -> bool {
    match what {
        EventKind::Share(share) => object::share_tells(share),
        EventKind::Unshare(unshare) => object::unshare_tells(unshare),
        _ => true,
    }
}

/// Writes what happened.
pub(super) fn write(out: &mut impl Write, event: &Event, palette: Palette) -> io::Result<()> {
    what(out, event, palette)?;
    if event.abi.is_some() {
        write!(out, " (32-bit call)")?;
    }
    Ok(())
}

fn what(out: &mut impl Write, event: &Event, palette: Palette) -> io::Result<()> {
    match &event.what {
        EventKind::Fault(fault) => fault::write(out, fault, palette),
        EventKind::Clone(clone) => task::clone(out, clone, event.pid, palette),
        EventKind::Cloned(cloned) => task::cloned(out, cloned),
        EventKind::ExistingTask(task) => task::there(out, task, event.pid == event.tid, palette),
        EventKind::Share(share) => object::share(out, share, palette),
        EventKind::Unshare(unshare) => object::unshare(out, unshare, event.ts, palette),
        EventKind::Exec(exec) => task::exec(out, exec, palette),
        EventKind::Failed(failed) => task::failed(out, failed, palette),
        EventKind::Exit(exit) => task::exit(out, exit),
        EventKind::Brk(brk) => memory::brk(out, brk),
        EventKind::Mmap(mmap) => memory::mmap(out, mmap, palette),
        EventKind::Munmap(range) => memory::munmap(out, range),
        EventKind::Mprotect(mprotect) => memory::mprotect(out, mprotect),
        EventKind::Mremap(mremap) => memory::mremap(out, mremap, palette),
        EventKind::Madvise(madvise) => memory::madvise(out, madvise, event.pid),
        EventKind::Shmat(shmat) => memory::shmat(out, shmat, palette),
        EventKind::Shmdt(shmdt) => memory::shmdt(out, shmdt),
        EventKind::RemapFilePages(remap) => memory::remap_file_pages(out, remap, palette),
        EventKind::Mlock(lock) => memory::lock(out, lock, ["locks", "fails to lock"], palette),
        EventKind::Munlock(lock) => {
            memory::lock(out, lock, ["unlocks", "fails to unlock"], palette)
        }
        EventKind::Mseal(range) => memory::mseal(out, range),
        EventKind::Lost(lost) => write_lost(out, lost, palette),
        EventKind::BirthDetail(born) => experiment::born(out, born),
        EventKind::SwitchIn(runs) => experiment::runs(out, runs),
        EventKind::SwitchOut(rests) => experiment::rests(out, rests),
        EventKind::Return(returned) => experiment::returned(out, returned),
    }
}

fn write_lost(out: &mut impl Write, lost: &Lost, palette: Palette) -> io::Result<()> {
    let alarm = palette.alarm();
    if lost.count != 0 {
        let by_kind = Counted(&lost.by_kind);
        let records = Count(lost.count, "record");
        write!(out, "{alarm}{records} lost here{alarm:#}: {by_kind}")?;
    }
    if lost.missed.is_empty() {
        return Ok(());
    }
    if lost.count != 0 {
        write!(out, "; ")?;
    }
    let hooks = Count(lost.missed.values().sum(), "hook");
    let by_hook = Counted(&lost.missed);
    write!(
        out,
        "{alarm}{hooks} left out here{alarm:#} by the kernel, for any task: {by_hook}"
    )
}

/// A task's name with its ids: `name[pid]`, or `name[pid/tid]`.
pub(super) struct TaskName<'a> {
    pub(super) comm: &'a str,
    pub(super) pid: u32,
    pub(super) tid: u32,
}

impl Display for TaskName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { comm, pid, tid } = *self;
        if pid == tid {
            write!(f, "{}[{pid}]", Escaped(comm))
        } else {
            write!(f, "{}[{pid}/{tid}]", Escaped(comm))
        }
    }
}

/// The first ids of some, and how many more there are.
#[derive(Clone, Copy, PartialEq)]
struct Ids<'a> {
    first: &'a [u32],
    count: u32,
}

impl Display for Ids<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        /// More than these are only counted.
        const SHOWN: usize = 8;
        let shown = &self.first[..self.first.len().min(SHOWN)];
        let more = u64::from(self.count).saturating_sub(shown.len() as u64);
        write!(f, "{}", List(shown.iter()))?;
        match more {
            0 => Ok(()),
            _ if shown.is_empty() => write!(f, "{more} others"),
            1 => f.write_str(" and 1 other"),
            _ => write!(f, " and {more} others"),
        }
    }
}

/// Items with commas between.
pub(super) struct List<I>(pub(super) I);

impl<I: Iterator<Item: Display> + Clone> Display for List<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, self.0.clone(), ", ")
    }
}

/// How many there are of each.
pub(super) struct Counted<'a, K>(pub(super) &'a BTreeMap<K, u64>);

impl<K: Display> Display for Counted<'_, K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let items = self.0.iter().map(|(what, count)| format!("{count} {what}"));
        List(items).fmt(f)
    }
}

/// Flags as C has them.
struct Flags<'a>(&'a [std::sync::Arc<str>]);

impl Display for Flags<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, self.0.iter(), "|")
    }
}

fn joined(
    f: &mut Formatter<'_>,
    items: impl Iterator<Item: Display>,
    between: &str,
) -> fmt::Result {
    for (at, item) in items.enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { between })?;
    }
    Ok(())
}

/// A signal by its name.
struct SignalName(u32);

impl Display for SignalName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0 as i32) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

/// A negative errno by its name.
struct ErrorName(i64);

impl Display for ErrorName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match Errno::from_raw(self.0.unsigned_abs() as i32) {
            Errno::UnknownErrno => write!(f, "error {}", self.0),
            errno => write!(f, "{errno:?} ({})", errno.desc()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_ids_the_first_are_shown() {
        let shown = |first: &[u32], count| Ids { first, count }.to_string();
        assert_eq!(shown(&[1], 1), "1");
        assert_eq!(shown(&[1, 2], 3), "1, 2 and 1 other");
        assert_eq!(shown(&[], 3), "3 others");
        let many: Vec<u32> = (1..=10).collect();
        assert_eq!(shown(&many, 100), "1, 2, 3, 4, 5, 6, 7, 8 and 92 others");
    }

    #[test]
    fn names_that_are_not_known_are_numbers() {
        assert_eq!(SignalName(11).to_string(), "SIGSEGV");
        assert_eq!(SignalName(35).to_string(), "signal 35");
        assert_eq!(ErrorName(-22).to_string(), "EINVAL (Invalid argument)");
        assert_eq!(ErrorName(-4000).to_string(), "error -4000");
    }
}
