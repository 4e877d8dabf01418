//! The main job: memtrace traces a small program of its own, and must see the page that it copies.

use std::{ffi::OsString, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{
    findings::{Copied, Job},
    subject::parse,
};
use crate::{
    cli::Kernel,
    filter::EventFilter,
    kernel::clock::Moment,
    output::{Gather, Gathered},
    probe::{Options, Traced},
    target::{self, Credentials, Inherited, Signals},
    trace::event::{EventKind, FaultKind},
    trace_loop::{Step, TraceLoop, event_loop},
};

/// The subcommand that the program is.
const SUBJECT: &str = "doctor-subject";
/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Traces the program. What comes back is the page that it copied, which memtrace and /proc agree about.
///
/// # Errors
/// memtrace can't trace, or it didn't see the copy.
pub fn job(asked: &Kernel) -> Result<Job> {
    event_loop()?.block_on(trace(asked))
}

async fn trace(asked: &Kernel) -> Result<Job> {
    let inherited = Inherited::at_start();
    let (sink, gathered) = Gather::new();
    let mut follow = TraceLoop::to(
        Box::new(sink),
        Options {
            traced: Traced::Started { follow: true },
            summary: false,
            verbose: false,
            buffer: None,
            btf: asked.btf.as_deref(),
            backend: asked.backend,
        },
        EventFilter::ALL,
    )?;
    let mut signals = Signals::new(inherited, &[])?;
    let backend = follow.probe.backend;
    let command: Vec<OsString> = vec!["/proc/self/exe".into(), SUBJECT.into()];
    let began = Moment::now();
    let piped = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.kill_on_drop(true);
    };
    let mut prog = target::spawn(&command, piped, &Credentials::Own, inherited)?;
    let traced = match follow.session.start(&command, &[], began) {
        Ok(()) => watch(&mut follow, &mut signals, &mut prog).await,
        Err(error) => Err(error),
    };
    let ended = follow.close(traced)?;
    ensure!(ended, "a small program that was traced did not end");
    let mut said = String::new();
    let mut out = prog.stdout.take().context("the program has no output")?;
    timeout(PATIENCE, out.read_to_string(&mut said))
        .await
        .context("a small program that was traced did not end")??;
    let copied =
        parse(&said).context("a small program that was traced didn't say which page it copied")?;
    judge(copied, &gathered.take())?;
    Ok(Job { copied, backend })
}

/// Waits for the end of the program and all that it starts: whether it came.
async fn watch(follow: &mut TraceLoop, signals: &mut Signals, prog: &mut Child) -> Result<bool> {
    let late = sleep(PATIENCE);
    tokio::pin!(late);
    let mut ended = false;
    while !ended || !follow.nothing_lives() {
        let next = async {
            tokio::select! {
                status = prog.wait(), if !ended => Some(status),
                () = &mut late => None,
            }
        };
        match follow.step(signals, next).await? {
            Step::Happened(Some(status)) => {
                let status = status.context("can't learn how the program ended")?;
                ensure!(
                    status.success(),
                    "a small program that was traced failed: {status}"
                );
                ended = true;
            }
            Step::Happened(None) => return Ok(false),
            Step::Signal(_) => bail!("a signal ended it"),
            Step::Ticked => {}
        }
    }
    Ok(true)
}

/// Whether the trace has the copy that the program tells of.
fn judge(copied: Copied, gathered: &Gathered) -> Result<()> {
    let lost: u64 = gathered.end.iter().flat_map(|end| end.lost.values()).sum();
    ensure!(lost == 0, "{lost} records of a small program were lost");
    let Copied {
        address,
        before,
        after,
    } = copied;
    let page = |address: u64| address / memtrace_ebpf::pte::PAGE_SIZE;
    let mut frames = gathered
        .events
        .iter()
        .filter_map(|event| match &event.what {
            EventKind::Fault(fault)
                if fault.kind == FaultKind::CowCopy && page(fault.addr.0) == page(address) =>
            {
                Some((fault.pfn_before, fault.pfn_after))
            }
            _ => None,
        });
    let Some(seen) = frames.next() else {
        bail!("a small program copied the page at {address:#x}, and memtrace didn't see it");
    };
    ensure!(
        seen == (Some(before), Some(after)),
        "a small program copied frame {before:#x} to {after:#x} by /proc/self/pagemap, but memtrace saw {seen:x?}"
    );
    Ok(())
}
