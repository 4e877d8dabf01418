//! The live source of records: the ring buffer and the tables beside it, as they are read.

use std::{mem, os::fd::BorrowedFd};

use anyhow::Result;
use rustc_hash::FxHashSet as HashSet;

use super::read::Reader;
use crate::{
    kernel::clock::now,
    source::{Batch, Last, Losses, Metadata, Rare, Source},
};

/// Records that are taken out of the ring buffer at a time: a signal waits as long as they take.
const BATCH: usize = 1 << 14;
/// Faults that are still shown when a trace is ended that would go on, and more lie in the buffer: what fits into a part of
/// a second.
const LAST: usize = 1 << 16;
/// Reads of the ring buffer between two looks for what is rare.
const RARE_EVERY: u32 = 16;
/// Reads in a row that have given nothing before nothing happens: a second.
const QUIET: u32 = 100;
/// Nanoseconds that a CPU's tick may be behind the others' before it is taken for switched off.
const CPU_GONE: u64 = 2_000_000_000;

/// Records as the hooks write them.
pub struct Live {
    reader: Reader,
    metadata: Metadata,
    /// Up to this time all had been written to the ring buffer when this was last asked.
    asked: u64,
    /// The answer before that one.
    before: u64,
    /// Up to this time all has been read.
    until: u64,
    /// When it was last looked whether records were lost.
    looked: u64,
    rounds: u32,
    /// Reads in a row that have given no record.
    quiet: u32,
    /// Once nothing more is written.
    rest: Option<Rest>,
}

/// What is left in the ring buffer at the end.
struct Rest {
    /// Whether nobody is to wait for it.
    cut_short: bool,
    /// Records that were taken of it.
    taken: usize,
}

impl Live {
    pub(super) const fn new(reader: Reader, metadata: Metadata) -> Self {
        Self {
            reader,
            metadata,
            asked: 0,
            before: 0,
            until: 0,
            looked: 0,
            rounds: 0,
            quiet: 0,
            rest: None,
        }
    }

    /// What is readable when the hooks have woken a [sleeping](Self::sleep) reader.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.reader.fd()
    }

    /// Whether nothing has happened for a while.
    pub const fn is_quiet(&self) -> bool {
        self.quiet >= QUIET
    }

    /// Whether the hooks are to wake the reader, as it doesn't look by itself.
    ///
    /// # Errors
    /// The kernel refuses to note it.
    pub fn sleep(&mut self, asleep: bool) -> Result<()> {
        self.reader.set_awake(!asleep)
    }

    /// Whether the kernel side traces nothing any more.
    pub fn nothing_lives(&self) -> bool {
        !self.reader.any_lives()
    }

    /// Whether a process, by its id as memtrace sees it, is traced and lives.
    pub fn has_process(&self, pid: u32) -> bool {
        self.reader.living().iter().any(|known| known.pid == pid)
    }

    /// Nothing more will be written until [`Source::last`] is asked: the hooks are gone, or nothing that is traced lives, as the
    /// last that a hook does of a thread is to say that it is gone. With `cut_short` the trace ends in the midst of what is
    /// traced, and nobody is to wait: of a full buffer only so many faults are given.
    pub const fn end(&mut self, cut_short: bool) {
        self.rest = Some(Rest {
            cut_short,
            taken: 0,
        });
    }

    /// The records that were lost since this was asked last; those that are `passed` over are later than the watermark.
    fn losses(&mut self, passed: bool) -> Result<Option<Losses>> {
        let looked = mem::replace(&mut self.looked, now());
        let lost = self.reader.newly_lost()?;
        let by_kind = lost.into_iter().map(|(kind, count)| (kind.into(), count));
        let losses = Losses {
            by_kind: by_kind.collect(),
            during: (if passed { self.until } else { looked })..=now(),
        };
        Ok((!losses.by_kind.is_empty()).then_some(losses))
    }

    fn rare(&mut self, strangers: &HashSet<u32>) -> Result<Rare> {
        let mut rare = Rare {
            missed: self.reader.newly_missed()?,
            strangers: Vec::new(),
        };
        if !strangers.is_empty() {
            let living = self.reader.living().into_iter();
            let met = living.filter(|known| strangers.contains(&known.tid));
            rare.strangers = met.collect();
        }
        Ok(rare)
    }
}

impl Source for Live {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next(&mut self, batch: &mut Batch, strangers: impl FnOnce() -> HashSet<u32>) -> Result<()> {
        if self.reader.is_past_mark() {
            // Asked before the records are read: what is older than this is among them.
            self.before = mem::replace(&mut self.asked, complete(&self.reader.written_until()?));
            self.reader.mark();
        }
        let records = &mut batch.records;
        let is_enough = |rest: &Rest| rest.cut_short && rest.taken >= LAST;
        let passed = self.rest.as_ref().is_some_and(is_enough);
        batch.more = if passed {
            self.reader.drain_but_faults(BATCH, records)
        } else {
            self.reader.drain(BATCH, records)
        };
        if let Some(rest) = &mut self.rest {
            rest.taken += records.len();
        }
        self.reader.take_ends(records)?;
        self.quiet = if records.is_empty() {
            self.quiet.saturating_add(1)
        } else {
            0
        };
        if self.reader.is_past_mark() {
            // A tick may interrupt a hook that has taken its time but not yet its place in the buffer, so the answer before
            // the last is what counts.
            self.until = self.before;
        }
        // Before the batch is used: what is older than this is known to be complete, or not to be.
        batch.lost = self.losses(passed)?;
        let is_last = self.rest.is_some() && !batch.more;
        batch.complete = if is_last { Batch::ALL } else { self.until };
        self.rounds = self.rounds.wrapping_add(1);
        let is_due = self.rest.is_none() && self.rounds.is_multiple_of(RARE_EVERY);
        batch.rare = (is_due || is_last)
            .then(|| self.rare(&strangers()))
            .transpose()?;
        batch.shown = self.rest.is_none().then(now);
        Ok(())
    }

    fn last(&mut self) -> Result<Last> {
        self.rest = None;
        Ok(Last {
            ts: now(),
            living: self.reader.living(),
            further: self.reader.further_ends()?,
        })
    }
}

/// The time up to which every CPU has written all.
fn complete(cpus: &[u64]) -> u64 {
    let newest = cpus.iter().copied().max().unwrap_or(0);
    // A CPU that doesn't tick, or no longer, is switched off.
    cpus.iter()
        .copied()
        .filter(|time| time.saturating_add(CPU_GONE) > newest)
        .min()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_cpu_says_what_is_complete_unless_it_is_switched_off() {
        let now = 100 * CPU_GONE;
        let mut cpus: Vec<u64> = (0..64).map(|cpu| now - cpu * 1000).collect();
        assert_eq!(complete(&cpus), now - 63_000);
        cpus[17] = now - CPU_GONE + 1;
        assert_eq!(complete(&cpus), now - CPU_GONE + 1);
        // It holds the others up no longer, whether it has ever ticked or not.
        cpus[17] = now - CPU_GONE;
        cpus[18] = 0;
        assert_eq!(complete(&cpus), now - 63_000);
        assert_eq!(complete(&[]), 0);
    }
}
