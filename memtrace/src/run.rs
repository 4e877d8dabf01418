//! `memtrace run`: a program, traced from its birth to the end of its last descendant.

use std::{future::pending, process::ExitStatus};

use anyhow::{Context as _, Result};
use tokio::process::Child;

use crate::{
    cli::Run,
    follow::{Follow, Step, event_loop},
    kernel::clock::now,
    probe::Traced,
    target::{self, Credentials, Inherited, Interrupt, Signals, status},
};

/// Runs a program under trace. Returns memtrace's exit status.
///
/// # Errors
/// memtrace itself failed, or the program could not be started ([`target::SpawnError`]).
pub fn run(args: &Run) -> Result<u8> {
    target::require_root()?;
    let credentials = Credentials::choose(args.user.as_deref())?;
    event_loop()?.block_on(trace(args, &credentials))
}

async fn trace(args: &Run, credentials: &Credentials) -> Result<u8> {
    let inherited = Inherited::at_start();
    let mut signals = Signals::new(inherited)?;
    let whom = Traced::Started {
        follow: !args.no_follow,
    };
    let mut follow = Follow::open(&args.shown, whom, &mut signals)?;
    let began = now();
    // The first process that is forked from here on is the one that is traced.
    let mut prog = target::spawn(&args.command, |_| (), credentials, inherited)?;

    let mut ended = None;
    let traced = match follow.session.start(&args.command, &[], began) {
        Ok(()) => watch(&mut follow, &mut prog, &mut ended).await,
        Err(error) => Err(error),
    };
    let stopped = matches!(traced, Ok(Some(_)));
    let closed = follow.close(traced);
    if ended.is_none() && !stopped {
        tokio::select! {
            status = prog.wait() => ended = Some(status.context("can't learn how PROG ended")?),
            () = terminated(&mut signals) => {}
        }
    }
    closed?;
    Ok(ended.map_or(status::TERMINATED, status::of))
}

/// Shows what happens until all that is traced has ended, or a signal, which comes back, asks to stop. `ended` is
/// PROG's own end.
async fn watch(
    follow: &mut Follow<'_>,
    prog: &mut Child,
    ended: &mut Option<ExitStatus>,
) -> Result<Option<Interrupt>> {
    while ended.is_none() {
        match follow.step(prog.wait()).await? {
            Step::Happened(status) => {
                *ended = Some(status.context("can't learn how PROG ended")?);
            }
            Step::Asked(interrupt @ Interrupt::End) => return Ok(Some(interrupt)),
            // The keyboard's signal is PROG's to act on, while it lives.
            Step::Asked(Interrupt::Keyboard) | Step::Ticked => {}
        }
    }
    follow.until_end(pending()).await
}

/// Waits for SIGTERM or SIGHUP.
async fn terminated(signals: &mut Signals) {
    while signals.next().await != Interrupt::End {}
}
