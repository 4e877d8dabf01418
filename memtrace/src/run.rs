//! `memtrace run`: a program, traced from its birth to the end of its last descendant.

use std::{
    fs::File,
    io::{Write, stderr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::utsname::uname,
    time::{ClockId, clock_gettime},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    cli::Run,
    output::{self, Sink},
    probe::{Options, Probe, Reader},
    select::Only,
    target::{self, Credentials, Inherited, Interrupt, Signals, status},
    trace::{
        event::{End, Event, Lost, Start, What},
        model::Model,
        order::Order,
        record::Record,
    },
};

/// The version of the JSON form.
const SCHEMA: u32 = 1;
/// How often the ring buffer is read: what is shown is late by twice this.
const PERIOD: Duration = Duration::from_millis(10);
/// Records that are taken out of the ring buffer at a time: what memtrace holds at most.
const BATCH: usize = 1 << 16;
/// Reads of the ring buffer between two looks at what was lost.
const LOST_EVERY: u32 = 16;
/// Nanoseconds that a CPU's tick may be behind the others' before it is taken for switched off.
const CPU_GONE: u64 = 2_000_000_000;
/// The exit status after SIGTERM or SIGHUP.
const TERMINATED: u8 = 128 + 15;

/// Runs a program under trace. Returns memtrace's exit status.
///
/// # Errors
/// memtrace itself failed, or the program could not be started ([`target::SpawnError`]).
pub fn run(args: &Run) -> Result<u8> {
    target::require_root()?;
    let credentials = Credentials::choose(args.user.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't set up the event loop")?;
    runtime.block_on(trace(args, &credentials))
}

async fn trace(args: &Run, credentials: &Credentials) -> Result<u8> {
    let inherited = Inherited::at_start();
    let mut signals = Signals::new(inherited).context("can't listen for signals")?;
    let sink = open(args)?;
    let mut probe = Probe::attach(Options {
        follow: !args.no_follow,
        summary: args.summary,
        verbose: args.verbose,
    })?;
    let mut session = Session {
        reader: probe.reader()?,
        batch: Vec::new(),
        until: 0,
        order: Order::default(),
        model: Model::new(probe.zero_pfn),
        only: args.only(),
        sink,
        lost: Lost {
            count: 0,
            by_kind: std::collections::BTreeMap::new(),
        },
        rounds: 0,
    };
    let started = session.start(args);
    // The first process that is forked from here on is the one that is traced.
    let mut prog = target::spawn(&args.command, credentials, inherited)?;

    let mut ended = None;
    let mut stopped = false;
    let traced = match started {
        Ok(()) => {
            async {
                let mut ticker = interval(PERIOD);
                ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        status = prog.wait(), if ended.is_none() => ended = Some(status),
                        interrupt = signals.next() => {
                            // The keyboard's signal is PROG's to act on, while it lives.
                            stopped |= interrupt == Interrupt::End || ended.is_some();
                        }
                        _ = ticker.tick() => {}
                    }
                    session.pump()?;
                    if stopped || ended.is_some() && session.reader.living().is_empty() {
                        return Ok(());
                    }
                }
            }
            .await
        }
        Err(error) => Err(error),
    };
    // Whatever went wrong, the hooks go first, so that PROG runs on at its own speed.
    probe.detach();
    let finished = traced.and_then(|()| session.finish());
    if ended.is_none() && !stopped {
        ended = Some(loop {
            tokio::select! {
                status = prog.wait() => break status,
                interrupt = signals.next() => if interrupt == Interrupt::End { return finished.map(|()| TERMINATED) },
            }
        });
    }
    finished?;
    match ended {
        Some(status) => Ok(status::of(status.context("can't learn how PROG ended")?)),
        None => Ok(TERMINATED),
    }
}

/// Opens what the trace is written to.
fn open(args: &Run) -> Result<Box<dyn Sink>> {
    let (to, colour): (Box<dyn Write>, bool) = match &args.output {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("can't write to {}", path.display()))?;
            (Box::new(file), false)
        }
        None => (Box::new(stderr()), output::colour_wanted(&stderr())),
    };
    let options = output::Options {
        fold: !args.no_fold,
        colour,
        summary_only: args.summary,
    };
    Ok(output::sink(args.format, to, options))
}

/// Now, in nanoseconds of the clock that the hooks read.
fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    })
}

/// A trace under way: from the ring buffer to the output.
struct Session {
    reader: Reader,
    batch: Vec<Record>,
    /// Up to this time all has been written to the ring buffer, as of the last round.
    until: u64,
    order: Order,
    model: Model,
    only: Only,
    sink: Box<dyn Sink>,
    /// What has been reported as lost.
    lost: Lost,
    rounds: u32,
}

impl Session {
    fn start(&mut self, args: &Run) -> Result<()> {
        let start = Start {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            kernel: uname()
                .map(|names| names.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            command: args
                .command
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            ts: now(),
        };
        self.sink
            .start(&start)
            .and_then(|()| self.sink.flush())
            .context("can't write the trace")
    }

    /// Reads what there is, and shows what is complete.
    fn pump(&mut self) -> Result<()> {
        // Asked before the records are read: what is older than this is among them. A tick may interrupt a hook that
        // has taken its time but not yet its place in the buffer, so the answer before this one is what counts.
        let until = std::mem::replace(&mut self.until, complete(&self.reader.written_until()?));
        loop {
            self.reader.drain(BATCH, &mut self.batch);
            let full = self.batch.len() >= BATCH;
            self.order.push(&mut self.batch);
            self.release(until)?;
            if !full {
                break;
            }
        }
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(LOST_EVERY) {
            self.report_lost()?;
        }
        self.sink.flush().context("can't write the trace")
    }

    fn release(&mut self, until: u64) -> Result<()> {
        let Self {
            order,
            model,
            only,
            sink,
            ..
        } = self;
        order
            .release(until, |record, ts| match model.take(record, ts) {
                Some(event) if only.wants(&event.what) => sink.event(&event),
                _ => Ok(()),
            })
            .context("can't write the trace")
    }

    fn report_lost(&mut self) -> Result<()> {
        let by_kind = self.reader.lost()?;
        let count = by_kind.values().sum();
        if count == self.lost.count {
            return Ok(());
        }
        let new = by_kind
            .iter()
            .map(|(kind, count)| (*kind, count - self.lost.by_kind.get(kind).unwrap_or(&0)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let what = What::Lost(Lost {
            count: count - self.lost.count,
            by_kind: new,
        });
        self.lost = Lost { count, by_kind };
        let event = Event {
            ts: self.order.released(),
            pid: 0,
            tid: 0,
            comm: "".into(),
            what,
        };
        if self.only.wants(&event.what) {
            self.sink.event(&event).context("can't write the trace")?;
        }
        Ok(())
    }

    /// Shows what is left, and the account. The hooks must be gone.
    fn finish(mut self) -> Result<()> {
        loop {
            self.reader.drain(BATCH, &mut self.batch);
            if self.batch.is_empty() {
                break;
            }
            self.order.push(&mut self.batch);
        }
        self.order.let_go();
        self.release(u64::MAX)?;
        self.report_lost()?;
        let (processes, total) = self.model.finish(&self.reader.living());
        let end = End {
            ts: now().max(self.order.released()),
            processes,
            total,
            lost: self.lost.by_kind,
            late: self.order.late,
        };
        self.sink.end(&end).context("can't write the trace")
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
