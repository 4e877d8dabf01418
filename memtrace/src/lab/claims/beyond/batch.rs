//! Forks that a program makes one after the other, for one measurement.

use crate::{
    lab::{
        finding::Undecided,
        observed::{Mark, Observed},
        times::Times,
    },
    trace::event::{Clone, Copied, Event, Events},
};

/// What a program did between a mark and its next one.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The mark.
    pub mark: &'a Mark,
    /// The births of its children.
    pub births: Vec<(&'a Event, &'a Clone)>,
    /// How long the calls took.
    pub times: Times,
}

/// The batches that begin at marks of this name.
///
/// # Errors
/// There are none; or one isn't complete, of which the mark "done" says how many "rounds" it has.
pub fn batches<'a>(seen: &'a Observed, name: &'a str) -> Result<Vec<Batch<'a>>, Undecided> {
    let rounds = seen.mark("done")?.value("rounds")?;
    let all: Vec<Batch> = seen
        .marks(name)
        .map(|mark| batch(seen, mark, rounds))
        .collect::<Result<_, _>>()?;
    if all.len() < 2 {
        return Err(Undecided::because("there are not two sizes to compare"));
    }
    Ok(all)
}

fn batch<'a>(seen: &'a Observed, mark: &'a Mark, rounds: u64) -> Result<Batch<'a>, Undecided> {
    let (since, pid) = (mark.ts, mark.pid);
    let next = seen.marks.iter().find(|next| next.ts > since);
    let until = next.map_or(u64::MAX, |next| next.ts);
    let within = |event: &Event| event.pid == pid && (since..until).contains(&event.ts);
    let births: Vec<_> = seen.clones().filter(|(event, _)| within(event)).collect();
    let times = Times::of(
        seen.cloned()
            .filter(|(event, _)| within(event))
            .map(|(_, cloned)| cloned.dur),
    );
    match times {
        Some(times) if births.len() as u64 == rounds => Ok(Batch {
            mark,
            births,
            times,
        }),
        _ => Err(Undecided::because(format!(
            "{} of {rounds} births were seen after \"{}\"",
            births.len(),
            mark.name
        ))),
    }
}

impl Batch<'_> {
    /// How much memory the program had, in MiB.
    ///
    /// # Errors
    /// It did not say.
    pub fn mib(&self) -> Result<u64, Undecided> {
        self.mark.value("mib")
    }

    /// What the first of the births copied, or left shared: they are all alike. Nothing where the memory is shared.
    pub fn copied(&self) -> Option<Copied> {
        self.births.first()?.1.copied
    }

    /// Bytes of page tables that a child got.
    pub fn table_bytes(&self) -> u64 {
        self.copied().map_or(0, |copied| copied.table_bytes)
    }

    /// The parent's own page tables in bytes, by `VmPTE` in /proc/PID/status.
    ///
    /// # Errors
    /// It does not say.
    pub fn parents_tables(&self) -> Result<u64, Undecided> {
        let kib = self.mark.snapshot.status.get("VmPTE");
        let kib = kib.ok_or_else(|| Undecided::because("/proc/PID/status has no VmPTE"))?;
        Ok(kib * 1024)
    }
}

/// How much more page tables one process has than another may differ by so much without being a contradiction: a few
/// tables of the program itself come and go.
pub const SLACK: u64 = 8 * 4096;
