//! What a process uses, as /proc says.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use procfs::process::{Process, all_processes};

use super::results::{Figures, Metric};

/// The memory and CPU time of one process, looked at now and then.
pub(super) struct Usage {
    process: Process,
    peak_kib: u64,
    resident_kib: Vec<u64>,
    cpu_ns: Option<u64>,
}

impl Usage {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let process = Process::new(pid as i32).context("it is not in /proc")?;
        Ok(Self {
            process,
            peak_kib: 0,
            resident_kib: Vec::new(),
            cpu_ns: None,
        })
    }

    /// Looks once. Of a process that has ended, and isn't waited for, the CPU time is still there, and is final.
    /// (That of `wait4` would hold what the program used that the tool has started.)
    pub(super) fn look(&mut self) {
        if let Ok(status) = self.process.status() {
            self.peak_kib = self.peak_kib.max(status.vmhwm.unwrap_or(0));
            self.resident_kib.extend(status.vmrss);
        }
        if let Ok(stat) = self.process.stat() {
            let ns_of_tick = 1_000_000_000 / procfs::ticks_per_second();
            self.cpu_ns = Some((stat.utime + stat.stime) * ns_of_tick);
        }
    }

    pub(super) fn note(&self, figures: &mut Figures) {
        // One that is gone within milliseconds may never be seen alive.
        if self.peak_kib > 0 {
            figures.insert(Metric::PeakKib, self.peak_kib as f64);
        }
        figures.extend(self.cpu_ns.map(|ns| (Metric::OwnCpuNs, ns as f64)));
    }

    /// The highest resident memory in each quarter of the time.
    pub(super) fn quarters(&self) -> Vec<u64> {
        quarters(&self.resident_kib)
    }
}

/// The highest, as the last look may be at a process that gives its memory back.
fn quarters(samples: &[u64]) -> Vec<u64> {
    let end = |quarter| samples.len() * quarter / 4;
    (0..4)
        .filter_map(|quarter| {
            samples[end(quarter)..end(quarter + 1)]
                .iter()
                .max()
                .copied()
        })
        .collect()
}

/// CPU time in ns and switches between tasks, of all threads that there are.
#[derive(Clone, Copy)]
pub(super) struct Activity {
    cpu_ns: u64,
    switches: u64,
    at: Instant,
}

impl Activity {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let process = Process::new(pid as i32).context("it is not in /proc")?;
        let mut all = Self {
            cpu_ns: 0,
            switches: 0,
            at: Instant::now(),
        };
        for task in process.tasks().context("its threads are not in /proc")? {
            let task = task.context("its threads are not in /proc")?;
            // A tick of stat's is as much as an idle tool may use in ten seconds; schedstat has ns.
            let schedstat = task.schedstat().context("the kernel has no schedstat")?;
            all.cpu_ns += schedstat.sum_exec_runtime;
            let status = task.status().context("a thread has ended")?;
            all.switches += status.voluntary_ctxt_switches.unwrap_or(0);
            all.switches += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        }
        Ok(all)
    }

    /// What was used from `before` on.
    pub(super) fn since(self, before: Self) -> Figures {
        let time = self
            .at
            .duration_since(before.at)
            .max(Duration::from_millis(1));
        let cpu_ns = self.cpu_ns.saturating_sub(before.cpu_ns) as f64;
        let switches = self.switches.saturating_sub(before.switches) as f64;
        Figures::from([
            (
                Metric::IdleCpuPercent,
                cpu_ns / time.as_nanos() as f64 * 100.0,
            ),
            (Metric::IdleSwitches, switches / time.as_secs_f64()),
        ])
    }
}

/// A process and all that descend from it.
pub(super) fn with_descendants(pid: u32) -> Result<Vec<u32>> {
    let all = all_processes().context("cannot read /proc")?;
    // Those that end meanwhile have no parent to tell.
    let parents = all
        .filter_map(|process| process.ok()?.stat().ok())
        .map(|stat| (stat.pid as u32, stat.ppid as u32))
        .collect::<Vec<_>>();
    Ok(descendants(pid, &parents))
}

/// The same, from each process and its parent.
fn descendants(pid: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents.iter().filter(|&&(_, of)| of == parent);
        found.extend(children.map(|&(child, _)| child));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_at_each_quarter() {
        assert_eq!(quarters(&[1, 2, 3, 4, 5, 6, 7, 0]), [2, 4, 6, 7]);
        assert_eq!(quarters(&[7]), [7]);
        assert!(quarters(&[]).is_empty());
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let parents = [(5, 4), (4, 2), (3, 1), (2, 1), (9, 8)];
        assert_eq!(descendants(1, &parents), [1, 3, 2, 4, 5]);
        assert_eq!(descendants(7, &parents), [7]);
    }

    #[test]
    fn activity_is_per_time() {
        let at = Instant::now();
        let before = Activity {
            cpu_ns: 1_000,
            switches: 10,
            at,
        };
        let after = Activity {
            cpu_ns: 20_001_000,
            switches: 30,
            at: at + Duration::from_secs(2),
        };
        let figures = after.since(before);
        assert_eq!(figures.get(&Metric::IdleCpuPercent), Some(&1.0));
        assert_eq!(figures.get(&Metric::IdleSwitches), Some(&10.0));
    }

    #[test]
    fn this_process_uses_something() -> Result<()> {
        let mut usage = Usage::of(std::process::id())?;
        usage.look();
        let mut figures = Figures::new();
        usage.note(&mut figures);
        assert!(figures[&Metric::PeakKib] > 100.0);
        assert!(figures.contains_key(&Metric::OwnCpuNs));
        Ok(())
    }
}
