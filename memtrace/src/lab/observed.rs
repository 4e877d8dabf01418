//! What was seen of a program of the lab: the events of its trace, its marks, and what /proc said at each.

use std::collections::BTreeMap;

use super::finding::Undecided;
use crate::trace::{
    account::UNEXPLAINED,
    event::{Clone, End, Event, Events, Fault, ForkAccount},
};

/// The hooks that see tasks come, change and go.
const LIVES: [&str; 3] = ["task_newtask", "sched_process_exec", "sched_process_exit"];

/// All that a judge gets.
#[derive(Debug, Default)]
pub struct Observed {
    /// When the trace began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub began: u64,
    /// In time order.
    pub events: Vec<Event>,
    /// In the order in which they came.
    pub marks: Vec<Mark>,
    /// The accounts at the end.
    pub end: Option<End>,
    /// How the program ended, as `wait4(2)` has it.
    pub status: i32,
    /// The program's ELF file, as [`super::elf`] reads it.
    pub elf: super::elf::Elf,
    /// The kernel's functions that the return addresses in its events lie in, by /proc/kallsyms.
    pub symbols: BTreeMap<u64, String>,
}

/// A program has said where it is.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// When memtrace heard of it, in nanoseconds of `CLOCK_MONOTONIC`: the program waits then. What it did before has
    /// happened, what it does after has not.
    pub ts: u64,
    /// The process, as the kernel says.
    pub pid: u32,
    /// The thread, as it says itself.
    pub tid: u32,
    /// What it is called.
    pub name: String,
    /// The addresses and numbers that the program has given.
    pub values: BTreeMap<String, u64>,
    /// What the kernel says elsewhere at this moment.
    pub snapshot: Snapshot,
}

/// The process at a mark, as /proc and kcmp(2) show it: a source that owes nothing to memtrace's hooks.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// /proc/PID/maps.
    pub maps: Vec<Mapping>,
    /// For each address that the mark names: the frame of its page by /proc/PID/pagemap; nothing where none is present.
    pub frames: BTreeMap<u64, Option<u64>>,
    /// Minor and major faults of the process so far, by /proc/PID/stat.
    pub faults: (u64, u64),
    /// The numbers of /proc/PID/status (`VmRSS`, `VmPTE`, `RssAnon`, ... in KiB), by name.
    pub status: BTreeMap<String, u64>,
    /// The position in each file that it has open, by /proc/PID/fdinfo.
    pub files: BTreeMap<u64, u64>,
    /// Its threads, by /proc/PID/task.
    pub threads: Vec<ThreadSnapshot>,
    /// Where the mark has `kcmp=TID`: whether kcmp(2) finds the object of the marking thread and of that one the same,
    /// by `VM`, `FILES`, `FS`, `SIGHAND`, `IO`, `SYSVSEM`.
    pub kcmp: BTreeMap<&'static str, bool>,
}

/// A line of /proc/PID/maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// `r-xp`
    pub perms: String,
    /// Offset in the file.
    pub offset: u64,
    /// The file, or `[heap]` and the like; empty for none.
    pub name: String,
}

/// A thread, by /proc/PID/task/TID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadSnapshot {
    /// Its id.
    pub tid: u32,
    /// `R`, `S`, `D` ...
    pub state: char,
    /// `SCHED_*`, as a number.
    pub policy: u32,
    /// The nice value.
    pub nice: i64,
    /// How often it has left its CPU: by itself, and because another had to run.
    pub switches: (u64, u64),
}

impl Events for Observed {
    fn events(&self) -> &[Event] {
        &self.events
    }
}

impl Observed {
    /// The only mark, or the first one, with this name.
    ///
    /// # Errors
    /// The program never came there.
    pub fn mark(&self, name: &str) -> Result<&Mark, Undecided> {
        self.marks
            .iter()
            .find(|mark| mark.name == name)
            .ok_or_else(|| Undecided::because(format!("the program never came to \"{name}\"")))
    }

    /// All marks with this name.
    pub fn marks<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Mark> {
        self.marks.iter().filter(move |mark| mark.name == name)
    }

    /// The faults of a process in the page at this address.
    pub fn faults_at(&self, pid: u32, address: u64) -> impl Iterator<Item = (&Event, &Fault)> {
        self.faults()
            .filter(move |(event, fault)| event.pid == pid && fault.addr.0 >> 12 == address >> 12)
    }

    /// The faults of a process in these pages, after one mark and before another.
    pub fn faults_in<'a>(
        &'a self,
        pages: &'a [u64],
        from: &'a Mark,
        to: &'a Mark,
    ) -> impl Iterator<Item = (&'a Event, &'a Fault)> {
        self.faults().filter(move |(event, fault)| {
            event.pid == from.pid
                && (from.ts..to.ts).contains(&event.ts)
                && pages.iter().any(|page| page >> 12 == fault.addr.0 >> 12)
        })
    }

    /// The birth of a task.
    ///
    /// # Errors
    /// It was not seen.
    pub fn birth(&self, tid: u32) -> Result<(&Event, &Clone), Undecided> {
        self.clones()
            .find(|(_, clone)| clone.child_tid == tid)
            .ok_or_else(|| Undecided::because(format!("the birth of {tid} was not seen")))
    }

    /// The account of the fork that made this process.
    ///
    /// # Errors
    /// There is none.
    pub fn account(&self, child: u32) -> Result<&ForkAccount, Undecided> {
        let forks = self.end.iter().flat_map(|end| &end.forks);
        forks
            .into_iter()
            .find(|fork| fork.child == child)
            .ok_or_else(|| Undecided::because(format!("no account of the fork that made {child}")))
    }

    /// Records that were lost on the way.
    fn lost(&self) -> u64 {
        let ends = self.end.iter();
        ends.flat_map(|end| end.lost.values()).sum()
    }

    /// Hooks that the kernel left out, for whatever task, and how often.
    fn missed(&self) -> impl Iterator<Item = (&str, u64)> {
        let hooks = self.end.iter().flat_map(|end| &end.missed);
        hooks.map(|(hook, times)| (hook.as_str(), *times))
    }

    /// Whether nothing of these programs can be missing.
    pub fn is_whole(&self) -> bool {
        self.lost() == 0 && self.missed().next().is_none()
    }

    /// That nothing of these programs is known to be missing: it may be what decides. Of hooks that were left out nobody says
    /// for whom. If it was for these, of faults the kernel has counted more than memtrace can explain; of [`LIVES`] nothing else
    /// would tell; and of a call, the judge doesn't find it, or what /proc shows contradicts.
    ///
    /// # Errors
    /// Something is.
    pub fn complete(&self) -> Result<(), Undecided> {
        let lost = self.lost();
        if lost != 0 {
            let why = format!("{lost} records of the trace were lost");
            return Err(Undecided::because(why));
        }
        let mut ends = self.end.iter();
        let unexplained = ends.any(|end| end.total.unobserved_by.contains_key(UNEXPLAINED));
        match self
            .missed()
            .find(|(hook, _)| unexplained || LIVES.contains(hook))
        {
            Some((hook, times)) => Err(Undecided::because(format!(
                "the kernel, preempted in hooks, left out the one on {hook} {times} times"
            ))),
            None => Ok(()),
        }
    }
}

impl Mark {
    /// A value that the program gave.
    ///
    /// # Errors
    /// It did not.
    pub fn value(&self, key: &str) -> Result<u64, Undecided> {
        self.values.get(key).copied().ok_or_else(|| {
            Undecided::because(format!(
                "the program gave no \"{key}\" at \"{}\"",
                self.name
            ))
        })
    }

    /// The frame of the page at a value's address, by pagemap.
    ///
    /// # Errors
    /// The program gave none.
    pub fn frame(&self, key: &str) -> Result<Option<u64>, Undecided> {
        let address = self.value(key)?;
        Ok(self.snapshot.frames.get(&address).copied().flatten())
    }

    /// The pages `page0` and on, which `mark_pages` of lab.h gives, and the frame of each by pagemap.
    pub fn pages(&self) -> Vec<(u64, Option<u64>)> {
        (0..)
            .map_while(|number| self.values.get(&format!("page{number}")))
            .map(|&page| (page, self.snapshot.frames.get(&page).copied().flatten()))
            .collect()
    }

    /// The mapping that an address lies in, by /proc/PID/maps.
    pub fn mapping(&self, address: u64) -> Option<&Mapping> {
        let maps = self.snapshot.maps.iter();
        maps.into_iter()
            .find(|mapping| (mapping.start..mapping.end).contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen where the kernel left out `hook`, and counted `unexplained` faults more than were seen.
    fn seen(hook: &str, unexplained: i64) -> Observed {
        let mut end = End::default();
        end.missed.insert(hook.to_owned(), 3);
        if unexplained != 0 {
            end.total
                .unobserved_by
                .insert(UNEXPLAINED.into(), unexplained);
        }
        Observed {
            end: Some(end),
            ..Observed::default()
        }
    }

    #[test]
    fn a_hook_that_was_left_out_counts_where_nothing_else_would_tell() {
        for (hook, unexplained, complete) in [
            ("handle_mm_fault", 0, true),
            ("handle_mm_fault", 1, false),
            ("sys_exit", 0, true),
            ("task_newtask", 0, false),
        ] {
            let seen = seen(hook, unexplained);
            assert!(!seen.is_whole());
            assert_eq!(
                seen.complete().is_ok(),
                complete,
                "{hook} with {unexplained}"
            );
        }
        let whole = Observed::default();
        assert!(whole.is_whole() && whole.complete().is_ok());
    }
}
