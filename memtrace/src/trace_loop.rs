//! Keeps a trace going, whatever it is of: from the hooks and the output being opened to the last event.

use std::pin::pin;

use anyhow::{Context as _, Result};
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};

use crate::{
    cli::OutputArgs,
    filter::EventFilter,
    output::{Sink, file::Kept},
    outputs::{Outputs, plan},
    pace::Pace,
    probe::{Live, Options, Probe, Traced},
    session::Session,
    target::{Interrupt, ReceivedSignal, Signals, hurry},
};

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

/// A trace under way: its hooks and its outputs.
pub struct TraceLoop {
    /// The hooks.
    pub probe: Probe,
    /// What becomes of that which they see.
    pub session: Session<Live>,
    /// What is written, where it isn't kept in memory.
    outputs: Option<Outputs>,
    /// Whether what is traced may send signals to memtrace, as part of its group, that are not meant for it.
    is_family: bool,
    pace: Pace,
    /// Whether the ring buffer wasn't read to its end.
    behind: bool,
}

/// What came first.
pub enum Step<T> {
    /// That which was waited for.
    Happened(T),
    /// A signal.
    Signal(ReceivedSignal),
    /// A period went by.
    Ticked,
}

impl TraceLoop {
    /// Attaches the hooks, then opens the outputs, none of which is to be one of `kept`. Nothing is traced yet.
    ///
    /// # Errors
    /// One of them can't be done.
    pub fn open(shown: &OutputArgs, traced: Traced, mut kept: Vec<Kept>) -> Result<Self> {
        let options = Options {
            traced,
            summary: shown.summary,
            verbose: shown.verbose,
            buffer: shown.buffer,
            backend: shown.kernel.backend,
            btf: shown.kernel.btf.as_deref(),
        };
        let plan = plan(&shown.outputs, shown.format)?;
        let probe = Probe::attach(options)?;
        kept.push(("memtrace itself".to_owned(), "/proc/self/exe".into()));
        if let Some(btf) = &shown.kernel.btf {
            kept.push(("the file of --btf".to_owned(), btf.clone()));
        }
        let (sink, outputs) = Outputs::open(&plan, shown, kept)?;
        Ok(Self {
            outputs: Some(outputs),
            ..Self::with(probe, sink, options, shown.only())?
        })
    }

    /// Attaches the hooks. What they see goes to a sink. Nothing is traced yet.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn to(sink: Box<dyn Sink>, options: Options<'_>, only: EventFilter) -> Result<Self> {
        Self::with(Probe::attach(options)?, sink, options, only)
    }

    fn with(
        mut probe: Probe,
        sink: Box<dyn Sink>,
        options: Options<'_>,
        only: EventFilter,
    ) -> Result<Self> {
        let live = probe.live()?;
        let pace = Pace::new(live.fd())?;
        let session = Session::new(live, only, sink)?;
        Ok(Self {
            probe,
            session,
            outputs: None,
            is_family: matches!(options.traced, Traced::Started { .. }),
            pace,
            behind: false,
        })
    }

    /// Waits for `awaited`, a signal or the next period, and shows what has happened up to then.
    ///
    /// # Errors
    /// It can't be shown.
    pub async fn step<T>(
        &mut self,
        signals: &mut Signals,
        awaited: impl Future<Output = T>,
    ) -> Result<Step<T>> {
        let step = tokio::select! {
            // What comes once may come first; signals can come without end. However much there is to read, they are heard before.
            biased;
            happened = awaited => Step::Happened(happened),
            asked = signals.next() => self.heard(asked)?,
            () = yield_now(), if self.behind => Step::Ticked,
            () = self.pace.due() => Step::Ticked,
        };
        let is_full = self.outputs.as_ref().is_some_and(Outputs::are_full);
        self.behind = !is_full && self.session.pump()?;
        self.keep_pace()?;
        self.probe.show_log();
        Ok(step)
    }

    /// Goes to sleep when nothing has happened for a while, or wakes up.
    fn keep_pace(&mut self) -> Result<()> {
        let is_idle = self.session.source().is_quiet();
        if is_idle == self.pace.is_idle() {
            return Ok(());
        }
        self.session.source().sleep(is_idle)?;
        self.probe.idle(is_idle)?;
        self.pace.set_idle(is_idle);
        if is_idle {
            // What was written before the hooks knew woke nobody.
            self.behind = self.session.pump()?;
        }
        Ok(())
    }

    /// A signal from a program that is traced isn't for memtrace: one that ends its group, as servers do, means its own
    /// processes.
    fn heard<T>(&mut self, asked: ReceivedSignal) -> Result<Step<T>> {
        let is_others = self.is_family || asked.interrupt == Interrupt::Fatal;
        if let Some(pid) = asked.from.filter(|_| is_others)
            && self.is_traced(pid)?
        {
            return Ok(Step::Ticked);
        }
        if let Some(outputs) = &self.outputs {
            outputs.hurry();
        }
        Ok(Step::Signal(asked))
    }

    /// Whether a process, by its id as memtrace sees it, is traced, or was a moment ago.
    fn is_traced(&mut self, pid: u32) -> Result<bool> {
        // What the session has been told is of a moment ago: who has ended since is there.
        if self.session.knows(pid) || self.session.source().has_process(pid) {
            return Ok(true);
        }
        // It may have been too short for that.
        self.session.pump()?;
        Ok(self.session.knows(pid))
    }

    /// Whether nothing is traced any more.
    pub fn nothing_lives(&mut self) -> bool {
        self.session.source().nothing_lives()
    }

    /// Shows what is left, and the account: no hook has more to tell. With `cut_short` what is traced goes on.
    ///
    /// # Errors
    /// It can't be shown.
    pub fn finish(&mut self, cut_short: bool) -> Result<()> {
        self.session.source().end(cut_short);
        self.session.finish()
    }

    /// Shows what happens until all that is traced has ended, or `over` is ready, or a signal, which comes back, asks
    /// to stop.
    ///
    /// # Errors
    /// It can't be shown.
    pub async fn until_end(
        &mut self,
        signals: &mut Signals,
        over: impl Future<Output = ()>,
    ) -> Result<Option<ReceivedSignal>> {
        let mut over = pin!(over);
        while !self.nothing_lives() {
            match self.step(signals, over.as_mut()).await? {
                Step::Happened(()) => break,
                Step::Signal(asked) => return Ok(Some(asked)),
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
        let cut_short = !self.nothing_lives();
        self.probe.detach();
        let traced = traced?;
        self.session.source().end(cut_short);
        self.session.finish()?;
        if let Some(outputs) = &self.outputs {
            outputs.finish()?;
        }
        Ok(traced)
    }

    /// Ends a trace of which nothing has come: a file that was made for it goes, too.
    pub fn discard(self) {
        if let Some(outputs) = self.outputs {
            outputs.discard();
        }
    }
}
