//! A trace under way: from the ring buffer to the output.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io, mem,
    ops::Range,
};

use anyhow::{Context as _, Result};
use nix::sys::utsname::uname;

use crate::{
    kernel::clock::{Moment, now},
    output::Sink,
    probe::{Backend, Probe, Reader},
    select::Only,
    trace::{
        event::{End, Event, Lost, Name, Start, What},
        model::{Finished, Model},
        order::Order,
        record::Record,
    },
};

/// The version of the JSON form.
const SCHEMA: u32 = 1;
/// Records that are taken out of the ring buffer at a time: a signal waits as long as they take.
const BATCH: usize = 1 << 14;
/// Faults that are still shown when a trace is ended that would go on, and more lie in the buffer: what fits into a part of
/// a second.
const LAST: usize = 1 << 16;
/// Reads of the ring buffer between two looks at what was lost.
const LOST_EVERY: u32 = 16;
/// Nanoseconds that a CPU's tick may be behind the others' before it is taken for switched off.
const CPU_GONE: u64 = 2_000_000_000;

/// A trace under way.
pub struct Session {
    reader: Reader,
    backend: Backend,
    batch: Vec<Record>,
    /// Up to this time all had been written to the ring buffer when this was last asked.
    asked: u64,
    /// The answer before that one.
    before: u64,
    /// Up to this time all has been read.
    until: u64,
    order: Order,
    model: Model,
    /// What the last record was, before it is shown.
    events: Vec<Event>,
    only: Only,
    sink: Box<dyn Sink>,
    /// What the sink writes to, for errors.
    name: String,
    /// When it was last looked whether records were lost.
    looked: u64,
    /// What has been lost and not been reported yet, by kind.
    unreported: BTreeMap<Name, u64>,
    /// What has been reported as lost, by kind.
    lost: BTreeMap<Name, u64>,
    /// How often hooks have been reported as left out, by hook.
    missed: BTreeMap<String, u64>,
    rounds: u32,
}

impl Session {
    /// A session that reads from `probe` and writes to `sink`, which is called `name`. With `summary` the hooks count.
    ///
    /// # Errors
    /// The probe's maps can't be read.
    pub fn new(
        probe: &mut Probe,
        summary: bool,
        only: Only,
        sink: Box<dyn Sink>,
        name: String,
    ) -> Result<Self> {
        Ok(Self {
            reader: probe.reader()?,
            backend: probe.backend,
            batch: Vec::new(),
            asked: 0,
            before: 0,
            until: 0,
            order: Order::default(),
            model: Model::new(probe.zero_pfn, summary),
            events: Vec::new(),
            only,
            sink,
            name,
            looked: 0,
            unreported: BTreeMap::new(),
            lost: BTreeMap::new(),
            missed: BTreeMap::new(),
            rounds: 0,
        })
    }

    /// Shows what comes first: the program that is run, or the processes that are attached to. `began` is when.
    ///
    /// # Errors
    /// It can't be written.
    pub fn start(&mut self, command: &[OsString], attached: &[u32], began: Moment) -> Result<()> {
        let start = Start {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: uname()
                .map(|names| names.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            command: command
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            attached: attached.to_vec(),
            backend: self.backend.name().into(),
            ts: began.ts,
            realtime: began.realtime,
        };
        let written = self.sink.start(&start).and_then(|()| self.sink.flush());
        self.written(written)
    }

    /// Learns where the BSS of libraries is in a process that memtrace attaches to.
    pub fn found_bss(&mut self, pid: u32, bss: Vec<Range<u64>>) {
        self.model.found(pid, bss);
    }

    /// Whether the kernel side traces nothing any more.
    pub fn nothing_lives(&self) -> bool {
        !self.reader.any_lives()
    }

    /// Whether a process, by its id as memtrace sees it, is traced, or was a moment ago.
    pub fn knows(&mut self, pid: u32) -> bool {
        // What the model has been told is of a moment ago: who has ended since is there.
        if self.model.has_process(pid) || self.reader.living().iter().any(|known| known.pid == pid)
        {
            return true;
        }
        // It may have been too short for that.
        self.reader.drain(BATCH, &mut self.batch);
        self.order.push(&mut self.batch);
        self.order
            .holds(|record| matches!(record, Record::Birth(birth) if birth.child_ids.pid == pid))
    }

    fn written(&self, result: io::Result<()>) -> Result<()> {
        result.with_context(|| format!("can't write the trace to {}", self.name))
    }

    /// Reads what there is, up to a bound, and shows what is complete. Returns whether there may be more to read.
    ///
    /// # Errors
    /// It can't be written, or the kernel's tables can't be read.
    pub fn pump(&mut self) -> Result<bool> {
        if self.reader.is_past_mark() {
            // Asked before the records are read: what is older than this is among them.
            self.before = mem::replace(&mut self.asked, complete(&self.reader.written_until()?));
            self.reader.mark();
        }
        let more = self.reader.drain(BATCH, &mut self.batch);
        self.reader.take_ends(&mut self.batch)?;
        if self.reader.is_past_mark() {
            // A tick may interrupt a hook that has taken its time but not yet its place in the buffer, so the answer before
            // the last is what counts.
            self.until = self.before;
        }
        self.order.push(&mut self.batch);
        // Before anything is released: what is older than this is known to be complete, or not to be.
        self.look_for_losses()?;
        self.release(self.until)?;
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(LOST_EVERY) {
            self.meet_strangers();
            self.report_lost()?;
        }
        let written = self.sink.flush();
        self.written(written)?;
        Ok(more)
    }

    fn release(&mut self, until: u64) -> Result<()> {
        let Self {
            order,
            model,
            events,
            only,
            sink,
            ..
        } = self;
        let written = order.release(until, |record, ts| {
            model.take(record, ts, events);
            events
                .drain(..)
                .filter(|event| only.wants(&event.what))
                .try_for_each(|event| sink.event(&event))
        });
        self.written(written)
    }

    /// Has the model know when records were lost.
    fn look_for_losses(&mut self) -> Result<()> {
        let looked = mem::replace(&mut self.looked, now());
        let newly = self.reader.newly_lost()?;
        if !newly.is_empty() {
            self.model.lost(looked..=now());
        }
        for (kind, count) in newly {
            *self.unreported.entry(kind.into()).or_default() += count;
        }
        Ok(())
    }

    /// Has the model know the threads whose births were lost, as far as they live.
    fn meet_strangers(&mut self) {
        let strangers: BTreeSet<u32> = self.model.strangers().collect();
        if strangers.is_empty() {
            return;
        }
        for known in self.reader.living() {
            if strangers.contains(&known.tid) {
                self.model.introduce(&known, self.order.released());
            }
        }
    }

    fn report_lost(&mut self) -> Result<()> {
        let by_kind = mem::take(&mut self.unreported);
        let missed = self.reader.newly_missed()?;
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
            what: What::Lost(Lost {
                count: by_kind.values().sum(),
                by_kind,
                missed,
            }),
        };
        if self.only.wants(&event.what) {
            let written = self.sink.event(&event);
            self.written(written)?;
        }
        Ok(())
    }

    /// Shows what is left, and the account. Nothing more must come: the hooks are gone, or nothing that is traced lives,
    /// as the last that a hook does of a thread is to say that it is gone. With `cut_short` the trace ends in the midst of what
    /// is traced, and nobody is to wait: of a full buffer only so many faults are shown.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(&mut self, cut_short: bool) -> Result<()> {
        self.look_for_losses()?;
        let mut taken = 0;
        loop {
            let more = if cut_short && taken >= LAST {
                self.model.lost(self.order.released()..=now());
                self.reader.drain_but_faults(BATCH, &mut self.batch)
            } else {
                self.reader.drain(BATCH, &mut self.batch)
            };
            taken += self.batch.len();
            self.reader.take_ends(&mut self.batch)?;
            self.order.push(&mut self.batch);
            self.release(self.until)?;
            if !more {
                break;
            }
        }
        self.order.let_go();
        self.look_for_losses()?;
        self.release(u64::MAX)?;
        self.report_lost()?;
        let Finished {
            processes,
            total,
            forks,
            tasks,
            tasks_left_out,
        } = self
            .model
            .finish(&self.reader.living(), &self.reader.further_ends()?);
        let end = End {
            ts: now().max(self.order.released()),
            processes,
            total,
            lost: mem::take(&mut self.lost),
            missed: mem::take(&mut self.missed),
            forks,
            tasks,
            tasks_left_out,
            late: mem::take(&mut self.order.late),
        };
        let written = self.sink.end(&end);
        self.written(written)
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
