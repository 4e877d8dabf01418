//! Where the records of a trace come from: all that a session needs to know, live or stored.
//!
//! What differs from one run of memtrace to the next (clocks, losses, counters) is a value in a [`Batch`]: the same batches
//! in the same order give the same output, byte for byte.

use memtrace_ebpf::record::Record;
use std::{collections::BTreeMap, ops::RangeInclusive};

use anyhow::Result;
use memtrace_ebpf::record::{Tally, ThreadSummary};
use rustc_hash::FxHashSet as HashSet;

use crate::trace::event::Name;

/// What is known of a source before its first record.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The version of the records' layout: [`memtrace_ebpf::record::ABI`].
    pub abi: u32,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// How page faults are observed.
    pub backend: Name,
    /// The zero page's frame.
    pub zero_pfn: u64,
    /// Whether the hooks count the faults instead of sending them.
    pub summary: bool,
}

/// What a source gives at a time.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records, in the order of their writing.
    pub records: Vec<Record>,
    /// The watermark: with these records all have come up to this time; with [`Batch::ALL`], all that ever come.
    pub complete: u64,
    /// Records that were lost since the batch before.
    pub lost: Option<Losses>,
    /// What is looked for less often than records, where it was.
    pub rare: Option<Rare>,
    /// The time at which readers are shown what there is; none where they wait for the next batch.
    pub shown: Option<u64>,
    /// Whether the source may have more at once.
    pub more: bool,
}

impl Batch {
    /// [`Batch::complete`] of the last batch.
    pub const ALL: u64 = u64::MAX;
}

/// Lost records.
#[derive(Clone, Debug)]
pub struct Losses {
    /// How many, by the kind of the record.
    pub by_kind: BTreeMap<Name, u64>,
    /// When it was.
    pub during: RangeInclusive<u64>,
}

/// What takes longer to look for: then what has been lost is reported, too.
#[derive(Clone, Debug, Default)]
pub struct Rare {
    /// How often hooks were left out since the last time, by hook.
    pub missed: BTreeMap<String, u64>,
    /// What is known of threads whose births were lost.
    pub strangers: Vec<ThreadSummary>,
}

/// What is known when nothing more comes.
#[derive(Clone, Debug, Default)]
pub struct Last {
    /// When that was.
    pub ts: u64,
    /// The last counters of the threads that live on.
    pub living: Vec<ThreadSummary>,
    /// The sum of the last counters of threads whose ends no record tells of.
    pub further: Tally,
}

/// Where records come from.
pub trait Source {
    /// What is known of all of them.
    fn metadata(&self) -> &Metadata;

    /// Puts what comes next into `batch`, whose records have been taken. `strangers` gives threads whose births were lost, once
    /// for each [`Rare`].
    ///
    /// # Errors
    /// They can't be read.
    fn next(&mut self, batch: &mut Batch, strangers: impl FnOnce() -> HashSet<u32>) -> Result<()>;

    /// What is left to say after the last batch.
    ///
    /// # Errors
    /// It can't be read.
    fn last(&mut self) -> Result<Last>;
}
