//! A timer on each CPU, whose hook looks at the thread that runs there.

use std::fs;
use std::os::fd::RawFd;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    maps::{PerCpuArray, PerCpuValues},
    programs::{
        PerfEvent,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::{nr_cpus, online_cpus},
};
use nix::{errno::Errno, libc};

use crate::kernel::{again::again, clock::now};

/// Nanoseconds between two ticks on a CPU: how late a fault of a thread that only computes is shown.
const TICK_PERIOD: u64 = 10_000_000;

/// Timers that are to be started.
pub(super) struct Timers {
    cpus: Vec<u32>,
    /// Timers that this process was started with: no business of memtrace's.
    inherited: Vec<RawFd>,
}

impl Timers {
    /// One for each CPU that is switched on.
    pub(super) fn of_each_cpu() -> Result<Self> {
        Ok(Self {
            cpus: online_cpus().map_err(|(what, error)| {
                anyhow!("can't read {what} ({error}): is sysfs mounted on /sys?")
            })?,
            inherited: open()?,
        })
    }

    /// Loads the hook, and starts the timers.
    pub(super) fn start(&self, tick: &mut PerfEvent) -> Result<()> {
        again(|| tick.load()).context("the kernel refused the hook tick")?;
        for &cpu in &self.cpus {
            tick.attach(
                PerfEventConfig::Software(SoftwareEvent::CpuClock),
                PerfEventScope::AllProcessesOneCpu { cpu },
                SamplePolicy::Period(TICK_PERIOD),
                false,
            )
            .with_context(|| format!("can't open a timer on CPU {cpu}"))?;
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

    /// Writes down that each of these CPUs has written nothing yet: the reader then waits for its first tick, as it
    /// doesn't for a CPU that is switched off.
    pub(super) fn begin(&self, ebpf: &mut Ebpf) -> Result<()> {
        let possible = nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
        let mut begun = vec![0; possible];
        for &cpu in &self.cpus {
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
