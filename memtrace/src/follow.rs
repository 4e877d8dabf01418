//! Keeps a trace going, whatever it is of: from the hooks and the output being opened to the last event.

use std::{
    fs::{self, File},
    io::{Write, stderr},
    os::fd::AsFd as _,
    path::PathBuf,
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
    output::{
        self, Queue, Sink,
        file::{self, Kept, named},
    },
    probe::{Options, Probe, Traced},
    select::Only,
    session::Session,
    target::{Asked, Interrupt, Signals, are_waiting, hurry},
};

/// How often the ring buffer is read: what is shown is late by twice this.
pub const PERIOD: Duration = Duration::from_millis(10);

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

/// A trace under way: its hooks and its output.
pub struct Follow {
    /// The hooks.
    pub probe: Probe,
    /// What becomes of that which they see.
    pub session: Session,
    /// What is written, where it isn't kept in memory.
    output: Option<Output>,
    /// Whether what is traced may send signals to memtrace, as part of its group, that are not meant for it.
    is_family: bool,
    ticker: Interval,
    /// Whether the ring buffer wasn't read to its end.
    behind: bool,
}

/// What a trace is written to.
struct Output {
    queue: Queue,
    name: String,
    /// Where it was made.
    made: Option<PathBuf>,
}

/// What came first.
pub enum Step<T> {
    /// That which was waited for.
    Happened(T),
    /// A signal.
    Asked(Asked),
    /// A period went by.
    Ticked,
}

impl Follow {
    /// Attaches the hooks, then opens the output, which is to be none of `kept`. Nothing is traced yet.
    ///
    /// # Errors
    /// One of them can't be done.
    pub fn open(shown: &Shown, traced: Traced, kept: Vec<Kept>) -> Result<Self> {
        let options = Options {
            traced,
            summary: shown.summary,
            verbose: shown.verbose,
            buffer: shown.buffer,
            backend: shown.kernel.backend,
            btf: shown.kernel.btf.as_deref(),
        };
        let probe = Probe::attach(options)?;
        let (sink, output) = open_sink(shown, kept)?;
        let name = output.name.clone();
        Ok(Self {
            output: Some(output),
            ..Self::with(probe, sink, name, options, shown.only())?
        })
    }

    /// Attaches the hooks. What they see goes to a sink, which is called `name`. Nothing is traced yet.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn to(sink: Box<dyn Sink>, name: String, options: Options<'_>, only: Only) -> Result<Self> {
        Self::with(Probe::attach(options)?, sink, name, options, only)
    }

    fn with(
        mut probe: Probe,
        sink: Box<dyn Sink>,
        name: String,
        options: Options<'_>,
        only: Only,
    ) -> Result<Self> {
        let session = Session::new(&mut probe, options.summary, only, sink, name)?;
        let mut ticker = interval(PERIOD);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            probe,
            session,
            output: None,
            is_family: matches!(options.traced, Traced::Started { .. }),
            ticker,
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
            asked = signals.next() => self.heard(asked),
            () = yield_now(), if self.behind => Step::Ticked,
            _ = self.ticker.tick() => Step::Ticked,
        };
        let is_full = self.output.as_ref().is_some_and(|to| to.queue.is_full());
        self.behind = !is_full && self.session.pump()?;
        self.probe.show_log();
        Ok(step)
    }

    /// A signal from a program that is traced isn't for memtrace: one that ends its group, as servers do, means its own
    /// processes.
    fn heard<T>(&mut self, asked: Asked) -> Step<T> {
        let is_others = self.is_family || asked.interrupt == Interrupt::Fatal;
        if is_others && asked.from.is_some_and(|pid| self.session.knows(pid)) {
            return Step::Ticked;
        }
        if let Some(output) = &self.output {
            output.queue.hurry();
        }
        Step::Asked(asked)
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
    ) -> Result<Option<Asked>> {
        let mut over = pin!(over);
        while !self.session.nothing_lives() {
            match self.step(signals, over.as_mut()).await? {
                Step::Happened(()) => break,
                Step::Asked(asked) => return Ok(Some(asked)),
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
        if let Some(Output { queue, name, .. }) = &self.output {
            queue
                .finish()
                .with_context(|| format!("can't write the trace to {name}"))?;
        }
        Ok(traced)
    }

    /// Ends a trace of which nothing has come: a file that was made for it goes, too.
    pub fn discard(self) {
        if let Some(made) = self.output.and_then(|output| output.made) {
            // An empty file that stays does no harm.
            let _ = fs::remove_file(made);
        }
    }
}

/// Opens what the trace is written to. The files that memtrace itself needs are among `kept`.
fn open_sink(shown: &Shown, mut kept: Vec<Kept>) -> Result<(Box<dyn Sink>, Output)> {
    kept.push(("memtrace itself".to_owned(), "/proc/self/exe".into()));
    if let Some(btf) = &shown.kernel.btf {
        kept.push(("the file of --btf".to_owned(), btf.clone()));
    }
    let mut made = None;
    let (to, colour, name): (Box<dyn Write + Send>, bool, String) =
        if let Some(path) = &shown.output {
            let (file, is_made) = file::open(path, &kept)?;
            made = is_made.then(|| path.clone());
            (Box::new(file), false, named(path))
        } else {
            // Not by way of the library's stderr: memtrace would wait for its lock, should nobody read this.
            let fd = stderr().as_fd().try_clone_to_owned()?;
            let colour = output::colour_wanted(&stderr());
            (Box::new(File::from(fd)), colour, "stderr".to_owned())
        };
    let options = output::Options {
        fold: !shown.no_fold,
        colour,
        summary_only: shown.summary,
    };
    let queue = Queue::new(to, are_waiting).context("can't start a thread")?;
    let sink = output::sink(shown.format, Box::new(queue.clone()), options);
    Ok((sink, Output { queue, name, made }))
}
