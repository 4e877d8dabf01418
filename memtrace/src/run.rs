//! `memtrace run`: a program, traced from its birth to the end of its last descendant.

use std::{
    fs::File,
    io::{Write, stderr},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    process::Child,
    time::{MissedTickBehavior, interval},
};

use crate::{
    cli::Run,
    kernel::clock::now,
    output::{self, Sink},
    probe::{Options, Probe},
    session::Session,
    target::{self, Credentials, Inherited, Interrupt, Signals, status},
};

/// How often the ring buffer is read: what is shown is late by twice this.
const PERIOD: Duration = Duration::from_millis(10);
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
    let (sink, name) = open(args)?;
    let mut probe = Probe::attach(Options {
        follow: !args.no_follow,
        summary: args.summary,
        verbose: args.verbose,
    })?;
    let mut session = Session::new(&mut probe, args.only(), sink, name)?;
    let began = now();
    // The first process that is forked from here on is the one that is traced.
    let mut prog = target::spawn(&args.command, credentials, inherited)?;

    let mut ended = None;
    let traced = match session.start(&args.command, began) {
        Ok(()) => {
            follow(
                &mut probe,
                &mut session,
                &mut prog,
                &mut ended,
                &mut signals,
            )
            .await
        }
        Err(error) => Err(error),
    };
    // Whatever went wrong, the hooks go first, so that PROG runs on at its own speed.
    probe.detach();
    let stopped = matches!(traced, Ok(Stop::Interrupted));
    let finished = traced.and_then(|_| session.finish());
    if ended.is_none() && !stopped {
        tokio::select! {
            status = prog.wait() => ended = Some(status.context("can't learn how PROG ended")?),
            () = terminated(&mut signals) => {}
        }
    }
    finished?;
    Ok(ended.map_or(TERMINATED, status::of))
}

/// Why a trace is over.
enum Stop {
    /// All that was traced has ended.
    Ended,
    /// A signal asked for it.
    Interrupted,
}

/// Shows what happens until all that is traced has ended, or a signal asks to stop. `ended` is PROG's own end.
async fn follow(
    probe: &mut Probe,
    session: &mut Session,
    prog: &mut Child,
    ended: &mut Option<ExitStatus>,
    signals: &mut Signals,
) -> Result<Stop> {
    let mut ticker = interval(PERIOD);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = prog.wait(), if ended.is_none() => {
                *ended = Some(status.context("can't learn how PROG ended")?);
            }
            interrupt = signals.next() => {
                // The keyboard's signal is PROG's to act on, while it lives.
                if interrupt == Interrupt::End || ended.is_some() {
                    return Ok(Stop::Interrupted);
                }
            }
            _ = ticker.tick() => {}
        }
        session.pump()?;
        probe.show_log();
        if ended.is_some() && session.nothing_lives() {
            return Ok(Stop::Ended);
        }
    }
}

/// Waits for SIGTERM or SIGHUP.
async fn terminated(signals: &mut Signals) {
    while signals.next().await != Interrupt::End {}
}

/// Opens what the trace is written to, and names it.
fn open(args: &Run) -> Result<(Box<dyn Sink>, String)> {
    let (to, colour, name): (Box<dyn Write>, bool, String) = match &args.output {
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
        fold: !args.no_fold,
        colour,
        summary_only: args.summary,
    };
    Ok((output::sink(args.format, to, options), name))
}
