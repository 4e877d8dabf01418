//! The live tests on other kernels than the machine's own: Debian's, each in a virtual machine.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command::say;
use crate::setup;
use crate::workspace::Workspace;

mod catalogue;
mod document;
mod fetch;
mod guest;
mod host;
mod initramfs;
mod outcome;
mod plan;
mod programs;
mod report;

use catalogue::Guest;
use fetch::Fetcher;
use guest::{Machine, Ran};
use outcome::{Column, Outcome};

/// Guests that run at a time: each keeps one or two CPUs busy.
const AT_A_TIME: usize = 2;

#[derive(Args)]
pub(crate) struct Options {
    /// Only these guests, such as 6.12 [default: all of them, and the machine itself].
    #[arg(value_name = "VERSION")]
    guests: Vec<String>,
    /// Run no test, but `memtrace doctor` in each guest, and write what it says to memtrace/src/doctor/KERNELS.md.
    #[arg(long, conflicts_with = "guests")]
    document: bool,
}

/// What the guests run.
#[derive(Clone, Copy)]
enum Task {
    /// The live tests of each guest's own plan.
    Tests,
    /// Those that every change has to pass.
    Change,
    Doctor,
}

/// Runs the guests, and the machine's own kernel where no guest is named; prints the table.
pub(crate) fn perform(workspace: &Workspace, options: &Options) -> Result<()> {
    let guests = catalogue::choose(&options.guests)?;
    if options.document {
        return document::write(workspace, &run(workspace, &guests, Task::Doctor)?);
    }
    let mut columns = run(workspace, &guests, Task::Tests)?;
    if options.guests.is_empty() {
        columns.insert(0, here(workspace)?);
    }
    conclude(&Outcome(columns))
}

/// Runs in the guests what every change has to pass there.
pub(crate) fn test(workspace: &Workspace) -> Result<()> {
    let guests = catalogue::choose(&catalogue::OF_CHANGES.map(str::to_owned))?;
    conclude(&Outcome(run(workspace, &guests, Task::Change)?))
}

fn conclude(outcome: &Outcome) -> Result<()> {
    println!("{outcome}");
    match &outcome.failed()[..] {
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

/// Fetches, builds, packs and runs.
fn run(workspace: &Workspace, guests: &[&'static Guest], task: Task) -> Result<Vec<Column>> {
    setup::perform(workspace)?;
    let consoles = workspace.kernels().join("consoles");
    fs::create_dir_all(&consoles)
        .with_context(|| format!("cannot create {}", consoles.display()))?;

    let mut fetcher = Fetcher::new(workspace);
    let mut built = BTreeMap::new();
    let mut machines = VecDeque::new();
    for (number, guest) in guests.iter().copied().enumerate() {
        let target = guest.kernel.target;
        let (qemu, linux) = (fetcher.qemu(target)?, fetcher.linux(guest.kernel)?);
        let common = match built.entry(target) {
            Entry::Occupied(built) => built.into_mut(),
            Entry::Vacant(place) => {
                let same = matches!(task, Task::Change);
                place.insert(programs::build(workspace, &mut fetcher, target, same)?)
            }
        };
        let lines = |plan| -> Vec<_> {
            let programs = plan::programs(plan, guest.backends);
            programs.iter().map(plan::Program::line).collect()
        };
        let list = match task {
            Task::Tests => lines(guest.plan),
            Task::Change => lines(plan::CHANGE),
            Task::Doctor => vec![document::LINE.to_owned()],
        };
        let initramfs = consoles.join(format!("{}.cpio", guest.name));
        let list = list.join("\n") + "\n";
        initramfs::write_for(&initramfs, common, &linux.overlayfs, &list)?;
        let console = consoles.join(format!("{}.txt", guest.name));
        let machine = Machine {
            guest,
            qemu,
            image: linux.image,
            initramfs,
            console,
        };
        machines.push_back((number, machine, list.lines().count()));
    }

    say(format_args!(
        "{} guests, {AT_A_TIME} at a time; their consoles are in {}",
        guests.len(),
        consoles.display()
    ));
    let (queue, columns) = (Mutex::new(machines), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            loop {
                let next = queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let Some((number, machine, programs)) = next else {
                    return Ok(());
                };
                let column = column(&machine, machine.run()?, programs);
                let summary = match task {
                    Task::Doctor => column.told(),
                    Task::Tests | Task::Change => column.summary(),
                };
                say(format_args!("{}: {summary}", column.name));
                columns
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, column);
            }
        };
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let columns = columns.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(columns.into_values().collect())
}

fn column(machine: &Machine, ran: Ran, programs: usize) -> Column {
    let report = ran.report;
    let fault = if ran.hung {
        let doing = report.unfinished.as_deref().unwrap_or("its boot");
        let silence = guest::SILENCE.as_secs();
        Some(format!(
            "it said nothing for {silence} s, and was ended in {doing}"
        ))
    } else {
        report.fault(machine.guest.facts, programs)
    };
    Column {
        name: machine.guest.name.to_owned(),
        release: report.facts.unwrap_or_else(|| "unknown".to_owned()),
        ended: report.ended,
        fault: fault.map(|fault| (fault, report.console)),
        retries: ran.boots - 1,
        time: ran.time,
    }
}

/// The machine itself, with the tests that a guest runs.
fn here(workspace: &Workspace) -> Result<Column> {
    let start = Instant::now();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ended = host::run(workspace)?;
    Ok(Column {
        name: "host".to_owned(),
        release: release.trim().to_owned(),
        ended,
        fault: None,
        retries: 0,
        time: start.elapsed(),
    })
}
