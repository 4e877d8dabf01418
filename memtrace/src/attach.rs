//! `memtrace attach`: processes that run already, traced for a while and then left alone.

use std::{future::pending, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{task::yield_now, time::sleep};

use crate::{
    cli::Attach,
    kernel::clock::Moment,
    probe::{Adoption, Part, Traced},
    target::{self, Inherited, ReceivedSignal, Signals, status},
    trace_loop::{Step, TraceLoop, event_loop},
};

/// Traces processes that exist. Returns memtrace's exit status.
///
/// # Errors
/// memtrace itself failed, or one of the processes can't be traced.
pub fn attach(args: &Attach) -> Result<u8> {
    target::require_root()?;
    // Ctrl-C is listened for in any case: a script's background job is started to ignore it, and may be one that only it is
    // to end.
    let inherited = Inherited::at_start().but_for_keyboard();
    target::end_at_signals(&inherited).context("can't listen for signals")?;
    let targets = target::traceable(&args.pids)?;
    event_loop()?.block_on(trace(args, &targets, &inherited))
}

async fn trace(args: &Attach, targets: &[u32], inherited: &Inherited) -> Result<u8> {
    let program = |pid| {
        let what = format!("the program of process {pid}");
        (what, format!("/proc/{pid}/exe").into())
    };
    let kept = targets.iter().map(program).collect();
    let mut follow = TraceLoop::open(&args.shown, Traced::Running, kept)?;
    let mut signals = Signals::new(inherited, &[])?;
    let traced = match adopt(&mut follow, &mut signals, targets, args.tree).await {
        Ok(None) => {
            let over = elapsed(args.duration);
            follow.until_end(&mut signals, over).await
        }
        ended => ended,
    };
    Ok(match follow.close(traced)? {
        Some(asked) if asked.interrupt.is_end() => status::by(asked.number),
        _ => status::DONE,
    })
}

/// Takes `targets` under trace, with `tree` their descendants, too. From then on the hooks follow what they start. A signal
/// that asks to stop comes back.
async fn adopt(
    follow: &mut TraceLoop,
    signals: &mut Signals,
    targets: &[u32],
    tree: bool,
) -> Result<Option<ReceivedSignal>> {
    let begin = Moment::now();
    let mut adoption = follow.probe.adoption()?;
    let mut attached = Vec::new();
    if tree {
        // A child may be born between the look at /proc and its parent's adoption. The next look finds it, and beside it
        // those that the hooks follow already.
        let mut looked_at = Vec::new();
        let mut missed = target::with_descendants(targets)?;
        loop {
            let adopted = adoption.adopt(&missed)?;
            if adopted.is_empty() {
                break;
            }
            attached.extend(adopted);
            looked_at.extend(missed);
            missed = target::with_descendants(&looked_at)?.split_off(looked_at.len());
        }
    } else {
        attached = adoption.adopt(targets)?;
    }
    for pid in &attached {
        follow.session.found_bss(*pid, target::bss(*pid));
    }
    // A descendant may have ended between the look and the adoption; those that were asked for are named anyhow.
    let ended = |pid: &&u32| !attached.contains(pid);
    let missing: Vec<_> = targets.iter().filter(ended).copied().collect();
    attached.splice(0..0, missing);
    follow.session.start(&[], &attached, begin)?;
    survey(follow, signals, &mut adoption, &attached).await
}

/// Has the hooks tell what the memory of each process is made of, part by part. In between others get the CPU, and what was
/// told is taken out of the ring buffer.
async fn survey(
    follow: &mut TraceLoop,
    signals: &mut Signals,
    adoption: &mut Adoption,
    pids: &[u32],
) -> Result<Option<ReceivedSignal>> {
    for &pid in pids {
        let mut part = Part::first(pid);
        while let Some(next) = adoption.survey(part)? {
            part = next;
            if let Step::Signal(asked) = follow.step(signals, yield_now()).await? {
                return Ok(Some(asked));
            }
        }
    }
    Ok(None)
}

/// Ready after that time, or never.
async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => pending().await,
    }
}
