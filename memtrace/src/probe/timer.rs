//! A timer on each CPU, whose hook looks at the thread that runs there.

use std::os::fd::RawFd;
use std::path::Path;
use std::{fs, mem};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    maps::{PerCpuArray, PerCpuValues},
    programs::{
        PerfEvent, ProgramError,
        perf_event::{
            PerfEventConfig, PerfEventLinkId, PerfEventScope, SamplePolicy, SoftwareEvent,
        },
    },
    util::{nr_cpus, online_cpus},
};
use nix::{errno::Errno, libc};

use crate::kernel::clock::now;

/// Nanoseconds between two ticks on a CPU: how late a fault of a thread that only computes is shown.
const TICK_PERIOD: u64 = 10_000_000;
/// The same while nothing happens: few enough to let a CPU sleep, often enough for it not to be taken for one that is switched off.
const IDLE_PERIOD: u64 = 500_000_000;
/// The hook.
const TICK: &str = "tick";

/// The timers.
pub(super) struct Timers {
    links: Vec<PerfEventLinkId>,
    /// Timers that this process was started with: no business of memtrace's.
    inherited: Vec<RawFd>,
}

impl Timers {
    /// None yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            links: Vec::new(),
            inherited: open()?,
        })
    }

    /// Starts one on each CPU that is switched on. The hook is loaded.
    pub(super) fn start(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        let cpus = cpus()?;
        begin(ebpf, &cpus)?;
        let tick = tick(ebpf)?;
        for cpu in cpus {
            let link = attach(tick, cpu, TICK_PERIOD)
                .with_context(|| format!("can't open a timer on CPU {cpu}"))?;
            self.links.push(link);
        }
        self.keep()
    }

    /// Has them tick often, or, while nothing happens, seldom.
    pub(super) fn pace(&mut self, ebpf: &mut Ebpf, is_idle: bool) -> Result<()> {
        let period = if is_idle { IDLE_PERIOD } else { TICK_PERIOD };
        let tick = tick(ebpf)?;
        // A perf event that is a link has no file of its own any more by which its period could be changed.
        let before = mem::take(&mut self.links);
        // A CPU may be switched off meanwhile, and then has nothing to tell.
        let links = cpus()?
            .into_iter()
            .filter_map(|cpu| attach(tick, cpu, period).ok());
        self.links.extend(links);
        for link in before {
            tick.detach(link)?;
        }
        self.keep()
    }

    /// Keeps them from PROG. aya opens them without `PERF_FLAG_FD_CLOEXEC`, and before Linux 5.15, where they can't be
    /// links, holds them open for as long as they run.
    fn keep(&self) -> Result<()> {
        for fd in open()? {
            if !self.inherited.contains(&fd) {
                // SAFETY: it changes a flag of the descriptor's, which nothing else is about to change.
                let set = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
                Errno::result(set).context("can't keep a timer to memtrace")?;
            }
        }
        Ok(())
    }
}

/// The CPUs that are switched on.
fn cpus() -> Result<Vec<u32>> {
    online_cpus()
        .map_err(|(what, error)| anyhow!("can't read {what} ({error}): is sysfs mounted on /sys?"))
}

fn tick(ebpf: &mut Ebpf) -> Result<&mut PerfEvent> {
    let tick = ebpf
        .program_mut(TICK)
        .context("the object has no hook tick")?;
    Ok(tick.try_into()?)
}

fn attach(tick: &mut PerfEvent, cpu: u32, period: u64) -> Result<PerfEventLinkId, ProgramError> {
    tick.attach(
        PerfEventConfig::Software(SoftwareEvent::CpuClock),
        PerfEventScope::AllProcessesOneCpu { cpu },
        SamplePolicy::Period(period),
        false,
    )
}

/// Writes down that each of these CPUs has written nothing yet: the reader then waits for its first tick, as it
/// doesn't for a CPU that is switched off.
fn begin(ebpf: &mut Ebpf, cpus: &[u32]) -> Result<()> {
    let possible = nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
    let mut begun = vec![0; possible];
    for &cpu in cpus {
        if let Some(time) = begun.get_mut(cpu as usize) {
            *time = now();
        }
    }
    let map = ebpf
        .map_mut("WRITTEN_UNTIL")
        .context("the object has no map WRITTEN_UNTIL")?;
    let mut ticks: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
    ticks
        .set(0, PerCpuValues::try_from(begun)?, 0)
        .context("can't write the ticks")
}

/// The perf events that this process has open.
fn open() -> Result<Vec<RawFd>> {
    let folder = fs::read_dir("/proc/self/fd").context("can't read /proc/self/fd")?;
    let is_event = |path: &Path| {
        // One that another thread has closed meanwhile is none.
        fs::read_link(path).is_ok_and(|what| what == Path::new("anon_inode:[perf_event]"))
    };
    Ok(folder
        .flatten()
        .filter(|entry| is_event(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}
