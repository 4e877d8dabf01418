//! Keeps a trace going, whatever it is of: from the hooks and the output being opened to the last event.

use std::{
    fs::File,
    io::{Write, stderr},
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    cli::Shown,
    output::{self, Sink},
    probe::{Options, Probe, Traced},
    select::Only,
    session::Session,
    target::{Interrupt, Signals, hurry},
};

/// How often the ring buffer is read: what is shown is late by twice this.
const PERIOD: Duration = Duration::from_millis(10);

/// The event loop that a trace wants around it. It has the CPU before what is traced.
///
/// # Errors
/// The kernel refuses what it needs.
pub fn event_loop() -> Result<Runtime> {
    hurry();
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't set up the event loop")
}

/// A trace under way: its hooks, its output, and what asks it to stop.
pub struct Follow<'a> {
    /// The hooks.
    pub probe: Probe,
    /// What becomes of that which they see.
    pub session: Session,
    signals: &'a mut Signals,
    ticker: Interval,
    /// Whether the ring buffer wasn't read to its end.
    behind: bool,
}

/// What came first.
pub enum Step<T> {
    /// That which was waited for.
    Happened(T),
    /// A signal.
    Asked(Interrupt),
    /// A period went by.
    Ticked,
}

impl<'a> Follow<'a> {
    /// Opens the output, then attaches the hooks. Nothing is traced yet.
    ///
    /// # Errors
    /// One of them can't be done.
    pub fn open(shown: &Shown, traced: Traced, signals: &'a mut Signals) -> Result<Self> {
        let (sink, name) = open_sink(shown)?;
        let options = Options {
            traced,
            summary: shown.summary,
            verbose: shown.verbose,
            buffer: shown.buffer,
            backend: shown.kernel.backend,
            btf: shown.kernel.btf.as_deref(),
        };
        Self::to(sink, name, options, shown.only(), signals)
    }

    /// Attaches the hooks. What they see goes to a sink, which is called `name`. Nothing is traced yet.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn to(
        sink: Box<dyn Sink>,
        name: String,
        options: Options<'_>,
        only: Only,
        signals: &'a mut Signals,
    ) -> Result<Self> {
        let mut probe = Probe::attach(options)?;
        let session = Session::new(&mut probe, options.summary, only, sink, name)?;
        let mut ticker = interval(PERIOD);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            probe,
            session,
            signals,
            ticker,
            behind: false,
        })
    }

    /// Waits for `awaited`, a signal or the next period, and shows what has happened up to then.
    ///
    /// # Errors
    /// It can't be shown.
    pub async fn step<T>(&mut self, awaited: impl Future<Output = T>) -> Result<Step<T>> {
        let step = tokio::select! {
            // However much there is to read, a signal is heard first.
            biased;
            interrupt = self.signals.next() => Step::Asked(interrupt),
            happened = awaited => Step::Happened(happened),
            () = yield_now(), if self.behind => Step::Ticked,
            _ = self.ticker.tick() => Step::Ticked,
        };
        self.behind = self.session.pump()?;
        self.probe.show_log();
        Ok(step)
    }

    /// Shows what happens until all that is traced has ended, or `over` is ready, or a signal, which comes back, asks
    /// to stop.
    ///
    /// # Errors
    /// It can't be shown.
    pub async fn until_end(&mut self, over: impl Future<Output = ()>) -> Result<Option<Interrupt>> {
        let mut over = pin!(over);
        while !self.session.nothing_lives() {
            match self.step(over.as_mut()).await? {
                Step::Happened(()) => break,
                Step::Asked(interrupt) => return Ok(Some(interrupt)),
                Step::Ticked => {}
            }
        }
        Ok(None)
    }

    /// Ends the trace of which `traced` came. Whatever went wrong, the hooks go first, so that what was traced runs on
    /// at its own speed; then the rest is shown, and the tables.
    ///
    /// # Errors
    /// That of `traced`, or the rest can't be shown.
    pub fn close<T>(mut self, traced: Result<T>) -> Result<T> {
        let cut_short = !self.session.nothing_lives();
        self.probe.detach();
        let traced = traced?;
        self.session.finish(cut_short)?;
        Ok(traced)
    }
}

/// Opens what the trace is written to, and names it.
fn open_sink(shown: &Shown) -> Result<(Box<dyn Sink>, String)> {
    let (to, colour, name): (Box<dyn Write>, bool, String) = match &shown.output {
        Some(path) => {
            let name = path.display().to_string();
            let file = File::create(path).with_context(|| format!("can't write to {name}"))?;
            (Box::new(file), false, name)
        }
        None => (
            Box::new(stderr()),
            output::colour_wanted(&stderr()),
            "stderr".to_owned(),
        ),
    };
    let options = output::Options {
        fold: !shown.no_fold,
        colour,
        summary_only: shown.summary,
    };
    Ok((output::sink(shown.format, to, options), name))
}
