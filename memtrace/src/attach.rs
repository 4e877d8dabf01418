//! `memtrace attach`: processes that run already, traced for a while and then left alone.

use std::{future::pending, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    cli::Attach,
    follow::{Follow, event_loop},
    kernel::clock::now,
    target::{self, Inherited, Interrupt, Signals, status},
};

/// Traces processes that exist. Returns memtrace's exit status.
///
/// # Errors
/// memtrace itself failed, or one of the processes can't be traced.
pub fn attach(args: &Attach) -> Result<u8> {
    target::require_root()?;
    let targets = target::traceable(&args.pids)?;
    event_loop()?.block_on(trace(args, &targets))
}

async fn trace(args: &Attach, targets: &[u32]) -> Result<u8> {
    let mut signals = Signals::new(&Inherited::at_start().but_for_keyboard())?;
    let mut follow = Follow::open(&args.shown, true, &mut signals)?;
    let traced = match adopt(&mut follow, targets, args.tree) {
        Ok(()) => follow.until_end(elapsed(args.duration)).await,
        Err(error) => Err(error),
    };
    Ok(match follow.close(traced)? {
        Some(Interrupt::End) => status::TERMINATED,
        Some(Interrupt::Keyboard) | None => status::DONE,
    })
}

/// Takes `targets` under trace, with `tree` their descendants, too. From then on the hooks follow what they start.
fn adopt(follow: &mut Follow<'_>, targets: &[u32], tree: bool) -> Result<()> {
    let mut attached = targets.to_vec();
    if tree {
        attached = target::with_descendants(&attached)?;
    }
    follow.session.start(&[], &attached, now())?;
    follow.probe.adopt(&attached)?;
    if !tree {
        return Ok(());
    }
    // A child may be born between the look at /proc and its parent's adoption. The next look finds it, and beside it
    // those that the hooks follow already.
    loop {
        let missed = target::with_descendants(&attached)?.split_off(attached.len());
        if missed.is_empty() || follow.probe.adopt(&missed)?.is_empty() {
            return Ok(());
        }
        attached.extend(missed);
    }
}

/// Ready after that time, or never.
async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => pending().await,
    }
}
