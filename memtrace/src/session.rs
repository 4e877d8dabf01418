//! A trace under way: from its source to the output.

use memtrace_ebpf::record::Record;
use std::{collections::BTreeMap, ffi::OsString, mem, ops::Range};

use anyhow::{Result, ensure};
use memtrace_ebpf::record::ABI;

use crate::{
    filter::EventFilter,
    kernel::clock::Moment,
    output::Sink,
    source::{Batch, Last, Source},
    trace::{
        event::{End, Event, EventKind, Lost, Name, Start},
        model::{Finished, Model},
        order::Order,
    },
};

/// The version of the JSON form.
const SCHEMA: u32 = 1;

/// A trace under way.
pub struct Session<S> {
    source: S,
    batch: Batch,
    order: Order,
    model: Model,
    /// What the last record was, before it is shown.
    events: Vec<Event>,
    only: EventFilter,
    sink: Box<dyn Sink>,
    /// What has been lost and not been reported yet, by kind.
    unreported: BTreeMap<Name, u64>,
    /// What has been reported as lost, by kind.
    lost: BTreeMap<Name, u64>,
    /// How often hooks have been reported as left out, by hook.
    missed: BTreeMap<String, u64>,
}

impl<S: Source> Session<S> {
    /// A session that reads from `source` and writes to `sink`.
    ///
    /// # Errors
    /// The source's records are of another version of memtrace.
    pub fn new(source: S, only: EventFilter, sink: Box<dyn Sink>) -> Result<Self> {
        let metadata = source.metadata();
        ensure!(
            metadata.abi == ABI,
            "the records are of version {}, which this memtrace can't read: it reads version {ABI}",
            metadata.abi
        );
        Ok(Self {
            model: Model::new(metadata.zero_pfn, metadata.summary),
            source,
            batch: Batch::default(),
            order: Order::default(),
            events: Vec::new(),
            only,
            sink,
            unreported: BTreeMap::new(),
            lost: BTreeMap::new(),
            missed: BTreeMap::new(),
        })
    }

    /// Where the records come from.
    pub const fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// Shows what comes first: the program that is run, or the processes that are attached to. `began` is when the trace
    /// began.
    ///
    /// # Errors
    /// It can't be written.
    pub fn start(&mut self, command: &[OsString], attached: &[u32], began: Moment) -> Result<()> {
        let metadata = self.source.metadata();
        let start = Start {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: metadata.kernel.clone(),
            command: command
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            attached: attached.to_vec(),
            backend: metadata.backend.clone(),
            ts: began.ts,
            realtime: began.realtime,
        };
        self.sink.start(&start)?;
        Ok(self.sink.flush(began.ts)?)
    }

    /// Learns where the BSS of libraries is in a process that memtrace attaches to.
    pub fn found_bss(&mut self, pid: u32, bss: Vec<Range<u64>>) {
        self.model.found(pid, bss);
    }

    /// Whether records have told of a process, by its id as memtrace sees it, and not of its end.
    pub fn knows(&self, pid: u32) -> bool {
        let is_born =
            |record: &Record| matches!(record, Record::Birth(birth) if birth.child_ids.pid == pid);
        self.model.has_process(pid) || self.order.holds(is_born)
    }

    /// Takes a batch, and shows what is complete. Returns whether there may be more at once.
    ///
    /// # Errors
    /// It can't be written, or the source can't be read.
    pub fn pump(&mut self) -> Result<bool> {
        let Self {
            source,
            batch,
            order,
            model,
            ..
        } = self;
        source.next(batch, || model.strangers().collect())?;
        order.push(&mut batch.records);
        // Before anything is released: what is older than this is known to be complete, or not to be.
        if let Some(lost) = batch.lost.take() {
            model.lost(lost.during);
            for (kind, count) in lost.by_kind {
                *self.unreported.entry(kind).or_default() += count;
            }
        }
        self.release()?;
        if let Some(rare) = self.batch.rare.take() {
            for known in &rare.strangers {
                self.model.introduce(known, self.order.released());
            }
            self.report_lost(rare.missed)?;
        }
        if let Some(now) = self.batch.shown {
            self.sink.flush(now)?;
        }
        Ok(self.batch.more)
    }

    /// Shows the records up to the watermark.
    fn release(&mut self) -> Result<()> {
        let Self {
            batch,
            order,
            model,
            events,
            only,
            sink,
            ..
        } = self;
        if batch.complete == Batch::ALL {
            order.let_go();
        }
        order.release(batch.complete, |record, ts| {
            model.take(record, ts, events);
            let mut wanted = events.iter().filter(|event| only.matches(&event.what));
            let shown = wanted.try_for_each(|event| sink.event(event));
            // Where they are: an event is large, to be moved for each fault.
            events.clear();
            shown
        })?;
        Ok(())
    }

    fn report_lost(&mut self, missed: BTreeMap<String, u64>) -> Result<()> {
        let by_kind = mem::take(&mut self.unreported);
        if by_kind.is_empty() && missed.is_empty() {
            return Ok(());
        }
        for (kind, count) in &by_kind {
            *self.lost.entry(kind.clone()).or_default() += count;
        }
        for (hook, count) in &missed {
            *self.missed.entry(hook.clone()).or_default() += count;
        }
        let event = Event {
            ts: self.order.released(),
            pid: 0,
            tid: 0,
            global: None,
            abi: None,
            comm: "".into(),
            what: EventKind::Lost(Lost {
                count: by_kind.values().sum(),
                by_kind,
                missed,
            }),
        };
        if self.only.matches(&event.what) {
            self.sink.event(&event)?;
        }
        Ok(())
    }

    /// Takes all batches up to the last, and shows the account.
    ///
    /// # Errors
    /// It can't be written, or the source can't be read.
    pub fn finish(&mut self) -> Result<()> {
        while mem::take(&mut self.batch.complete) != Batch::ALL {
            self.pump()?;
        }
        let Last {
            ts,
            living,
            further,
        } = self.source.last()?;
        let Finished {
            processes,
            total,
            forks,
            tasks,
            tasks_left_out,
        } = self.model.finish(&living, &further);
        let end = End {
            ts: ts.max(self.order.released()),
            processes,
            total,
            lost: mem::take(&mut self.lost),
            missed: mem::take(&mut self.missed),
            forks,
            tasks,
            tasks_left_out,
            late: mem::take(&mut self.order.late),
        };
        Ok(self.sink.end(&end)?)
    }
}
