//! `memtrace run`: a program, traced from its birth to the end of its last descendant.

use std::{future::pending, process::ExitStatus};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{process::Child, time::sleep};

use crate::{
    cli::Run,
    kernel::clock::Moment,
    pace::PERIOD,
    probe::Traced,
    target::{
        self, Credentials, Inherited, Interrupt, ReceivedSignal, Signals, Stops, status, terminal,
    },
    trace_loop::{Step, TraceLoop, event_loop},
};

/// Runs a program under trace. Returns memtrace's exit status.
///
/// # Errors
/// memtrace itself failed, or the program could not be started ([`target::SpawnError`]).
pub fn run(args: &Run) -> Result<u8> {
    target::require_root()?;
    target::end_at_signals(Inherited::at_start()).context("can't listen for signals")?;
    let credentials = Credentials::choose(args.user.as_deref())?;
    event_loop()?.block_on(trace(args, &credentials))
}

async fn trace(args: &Run, credentials: &Credentials) -> Result<u8> {
    let inherited = Inherited::at_start();
    let file = target::program(&args.command, credentials)?;
    let whom = Traced::Started {
        follow: !args.no_follow,
    };
    let interpreters =
        target::interpreters(&file).map(|file| ("the program's interpreter".to_owned(), file));
    let mut kept: Vec<_> = interpreters.collect();
    kept.push(("the program to run".to_owned(), file));
    let mut follow = TraceLoop::open(&args.shown, whom, kept)?;
    let is_apart = terminal::is_kept(credentials);
    let adapt = |command: &mut _| {
        if is_apart {
            terminal::keep_from(command);
        }
    };
    target::keep_signals().context("can't listen for signals")?;
    let began = Moment::now();
    // The first process that is forked from here on is the one that is traced.
    let mut prog = match target::spawn(&args.command, adapt, credentials, inherited) {
        Ok(child) => Prog::new(child, is_apart, inherited)?,
        Err(error) => {
            follow.discard();
            return Err(error.into());
        }
    };

    let mut ended = None;
    let traced = match follow.session.start(&args.command, &[], began) {
        Ok(()) => watch(&mut follow, &mut prog, &mut ended).await,
        Err(error) => Err(error),
    };
    let asked = traced.as_ref().ok().copied().flatten();
    let closed = follow.close(traced);
    let status = match (ended, asked) {
        (Some(ended), _) => status::of(ended),
        (None, Some(asked)) => status::by(asked.number),
        (None, None) => prog.end().await?,
    };
    closed?;
    Ok(status)
}

/// PROG, and what the terminal has to say to it.
struct Prog {
    child: Child,
    group: Pid,
    /// Whether it is in a session of its own, where the terminal's keys don't reach it.
    is_apart: bool,
    signals: Signals,
    stops: Stops,
}

impl Prog {
    /// PROG has just been started.
    fn new(child: Child, is_apart: bool, inherited: &Inherited) -> Result<Self> {
        let id = child.id().context("PROG has no id")?;
        let more: &[_] = if is_apart { &[target::STOP] } else { &[] };
        Ok(Self {
            child,
            group: Pid::from_raw(id.cast_signed()),
            is_apart,
            signals: Signals::new(inherited, more)?,
            stops: Stops::of(id, is_apart)?,
        })
    }

    /// Has PROG get a signal of the terminal's that didn't reach it.
    fn pass_on(&self, asked: ReceivedSignal) -> Result<()> {
        if !self.is_apart || asked.from.is_some() {
            return Ok(());
        }
        let signal = match asked.interrupt {
            // The kernel ignores SIGTSTP there: no shell could continue it (`get_signal` in `kernel/signal.c`).
            Interrupt::Stop => Signal::SIGSTOP,
            Interrupt::Keyboard | Interrupt::End => Signal::try_from(asked.number)?,
            Interrupt::Fatal => return Ok(()),
        };
        match killpg(self.group, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).context("can't pass a signal on to PROG"),
        }
    }

    /// Waits for its end, which is not traced any more, or for a signal that ends memtrace. Returns the exit status.
    async fn end(&mut self) -> Result<u8> {
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    return status.map(status::of).context("can't learn how PROG ended");
                }
                () = sleep(PERIOD) => self.stops.follow()?,
                asked = self.signals.next() => {
                    self.pass_on(asked)?;
                    if asked.interrupt.is_end() {
                        return Ok(status::by(asked.number));
                    }
                }
            }
        }
    }
}

/// Shows what happens until all that is traced has ended, or a signal, which comes back, asks to stop. `ended` is
/// PROG's own end.
async fn watch(
    follow: &mut TraceLoop,
    prog: &mut Prog,
    ended: &mut Option<ExitStatus>,
) -> Result<Option<ReceivedSignal>> {
    while ended.is_none() {
        match follow.step(&mut prog.signals, prog.child.wait()).await? {
            Step::Happened(status) => {
                *ended = Some(status.context("can't learn how PROG ended")?);
            }
            Step::Signal(asked) => {
                prog.pass_on(asked)?;
                // The keyboard's signal is PROG's to act on, while it lives.
                if asked.interrupt.is_end() {
                    return Ok(Some(asked));
                }
            }
            Step::Ticked => prog.stops.follow()?,
        }
    }
    follow.until_end(&mut prog.signals, pending()).await
}
