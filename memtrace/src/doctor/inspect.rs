//! Looks at the running kernel.

use std::{env::consts::ARCH, fs, path::Path};

use anyhow::Result;
use aya::util::{kernel_symbols, nr_cpus, online_cpus};
use nix::{
    sys::resource::{RLIM_INFINITY, Resource, getrlimit},
    unistd::geteuid,
};
use procfs::process::Process;

use super::{
    findings::{Findings, Pids, Refusal, Tracepoint, Tried, Types},
    job, trial,
};
use crate::{
    cli::Kernel,
    error::in_a_line,
    kernel::{
        btf::{Btf, RUNNING},
        check_page_size, layout, preemption, require,
        zero_page::Sample,
    },
    probe::{self, Undisturbed},
    target::terminal::Tiocsti,
};

/// The inodes of the initial namespaces (`PROC_USER_INIT_INO` and `PROC_PID_INIT_INO` in `include/linux/proc_ns.h`).
const INITIAL_USERS: &str = "user:[4026531837]";
const INITIAL_PIDS: &str = "pid:[4026531836]";
/// What a seccomp filter is called in /proc/self/status.
const SECCOMP_FILTER: u32 = 2;

/// Looks at all of it, as the command line asks.
///
/// # Errors
/// memtrace itself is broken.
pub fn inspect(asked: &Kernel) -> Result<Findings> {
    let file = asked.btf.as_deref();
    let root = geteuid().is_root();
    let status = Process::myself().and_then(|own| own.status()).ok();
    let types = layout::read_partial(file).map_err(|error| in_a_line(&error));
    let cpus = online_cpus();
    let first_cpu = cpus.iter().flatten().next().copied().unwrap_or_default();
    let symbols = kernel_symbols().map(|all| all.keys().filter(|address| **address != 0).count());
    // Before anything is loaded, for which it is lifted.
    let memlock = memlock();
    Ok(Findings {
        release: require::release(),
        arch: ARCH.to_owned(),
        pages: check_page_size().map_err(|error| in_a_line(&error)),
        root,
        capabilities: status.as_ref().map(|status| status.capeff),
        initial_users: is_namespace("user", INITIAL_USERS),
        seccomp: status.and_then(|status| status.seccomp) == Some(SECCOMP_FILTER),
        lockdown: require::lockdown(),
        btf_file: file.is_some(),
        btf: types
            .as_ref()
            .map(|types| found(file, types))
            .map_err(Clone::clone),
        bpf: by(root, trial::bpf),
        ring_buffer: by(root, trial::ring_buffer),
        kernel_reads: by(root, trial::kernel_reads),
        tracepoints: tracepoints(root, types.as_ref().ok().map(|types| &types.btf))?,
        fentry: by(root, || {
            trial::fentry(types.as_ref().map(|types| types.btf.bytes()))
        }),
        preemption: preemption::detect(),
        undisturbed: types
            .as_ref()
            .is_ok_and(|types| Undisturbed::of(&types.btf).is_some()),
        timer: by(root, || trial::timer(first_cpu)),
        frames: by(root, || Sample::new().map(|sample| sample.zero).into()),
        direct_map: by(root, || probe::locate_direct_map(file).into()),
        symbols: symbols.map_err(anyhow::Error::from).into(),
        kptr_restrict: fs::read_to_string("/proc/sys/kernel/kptr_restrict")
            .ok()
            .and_then(|value| value.trim().parse().ok()),
        pids: pids(),
        memlock,
        cpus: cpus
            .and_then(|online| Ok((online.len(), nr_cpus()?)))
            .map_err(|(what, error)| format!("{what}: {error}")),
        pushing: Tiocsti::detect(),
        job: by(root, || job::job(asked).into()),
    })
}

/// What comes of a trial that needs root.
fn by<T>(root: bool, trial: impl FnOnce() -> Tried<T>) -> Tried<T> {
    if root { trial() } else { Tried::Untried }
}

fn found(file: Option<&Path>, types: &layout::Types) -> Types {
    Types {
        path: file
            .unwrap_or(Path::new(RUNNING))
            .to_string_lossy()
            .into_owned(),
        bytes: types.btf.bytes().len(),
        found: types.numbers.found,
        missing: types.numbers.missing.clone(),
        done_without: types.numbers.done_without.clone(),
    }
}

fn tracepoints(root: bool, types: Option<&Btf>) -> Result<Vec<Tracepoint>> {
    let names = probe::tracepoints()?;
    let tried = if root {
        trial::tracepoints(names.iter().cloned())
    } else {
        Ok(Vec::new())
    };
    let attached = |name: &str| match &tried {
        Ok(tried) => tried
            .iter()
            .find(|(tried, _)| tried == name)
            .map_or(Tried::Untried, |(_, attached)| attached.clone()),
        Err(error) => Tried::Refused(Refusal::from(error)),
    };
    Ok(names
        .iter()
        .map(|name| Tracepoint {
            name: name.clone(),
            // Its signature (`__DEFINE_EVENT` in `include/trace/bpf_probe.h`).
            in_types: types.map(|types| types.has_typedef(&format!("btf_trace_{name}"))),
            attached: attached(name),
        })
        .collect())
}

/// Whether memtrace's namespace of this kind is that one. It counts as such where /proc doesn't say.
fn is_namespace(kind: &str, name: &str) -> bool {
    fs::read_link(format!("/proc/self/ns/{kind}")).map_or(true, |own| own.as_os_str() == name)
}

fn pids() -> Pids {
    let shown = fs::read_link("/proc/self").ok();
    Pids {
        initial: is_namespace("pid", INITIAL_PIDS),
        own: std::process::id(),
        shown: shown.and_then(|own| own.to_str()?.parse().ok()),
    }
}

fn memlock() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    (soft != RLIM_INFINITY).then_some(soft)
}
