//! The hooks on tracepoints: loaded beside one another, and attached.

use std::{
    collections::BTreeSet,
    io,
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    programs::{Program, RawTracePoint},
};
use memtrace_ebpf::arch::FAULT_TRACEPOINTS;
use object::{Object as _, ObjectSection as _};

use super::{backend, direct_map::FIND_DIRECT_MAP, object::DIRECT, preempt, timer::Timers};
use crate::kernel::{again::again, preemption::Preemption};

/// What the hook `page_fault` is for in the object: its tracepoints are the architecture's.
const PAGE_FAULT: &str = "page_fault_user";
/// The hook that is attached while processes are taken under trace.
pub(super) const ADOPT_PROCESS: &str = "adopt_process";
/// The hook that notices a birth where the one on that may be left out.
const WOKEN: &str = "sched_wakeup_new";
/// The hooks that the verifier takes longest over, in that order.
const LONGEST: [&str; 4] = [
    "task_newtask",
    "sys_exit",
    "page_fault",
    "sched_process_exec",
];
/// What is said where the machine has no room for another thread.
const NO_THREAD: &str = "can't start a thread";

pub(super) fn tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no hook {name}"))?;
    Ok(program.try_into()?)
}

/// Loads and attaches a hook: each has the name of its tracepoint, but for that of page faults, which has two or none.
fn attach_hook(name: &str, program: &mut Program) -> Result<()> {
    let tracepoints = match name {
        "page_fault" => FAULT_TRACEPOINTS,
        _ => &[name],
    };
    if tracepoints.is_empty() {
        return Ok(());
    }
    let program: &mut RawTracePoint = program.try_into()?;
    again(|| program.load()).with_context(|| format!("the kernel refused the hook {name}"))?;
    for tracepoint in tracepoints {
        program
            .attach(tracepoint)
            .with_context(|| format!("this kernel has no tracepoint {tracepoint}"))?;
    }
    Ok(())
}

/// The names of the tracepoints that the hooks are for.
///
/// # Errors
/// The object is broken.
pub fn tracepoints() -> Result<BTreeSet<String>> {
    let object = object::File::parse(DIRECT).context("the hooks are no ELF file")?;
    let faults = FAULT_TRACEPOINTS.iter().map(|name| (*name).to_owned());
    let mut names: BTreeSet<String> = faults.collect();
    for section in object.sections() {
        let name = section.name()?.strip_prefix("raw_tp/");
        names.extend(name.filter(|name| *name != PAGE_FAULT).map(str::to_owned));
    }
    Ok(names)
}

/// Loads and attaches the hooks, but for those on functions. Gives the timers.
pub(super) fn attach(ebpf: &mut Ebpf, preemption: Preemption) -> Result<Timers> {
    let mut timers = Timers::new()?;
    let mut hooks: Vec<_> = ebpf
        .programs_mut()
        .filter(|(name, _)| ![FIND_DIRECT_MAP, ADOPT_PROCESS].contains(name))
        .filter(|(name, _)| !backend::HOOKS.contains(name))
        .filter(|(name, _)| *name != WOKEN || preempt::leaves_tracepoints_out(preemption))
        .collect();
    // The kernel's verifier takes its time over each hook, but looks at several at once: those first that take the longest.
    hooks.sort_by_key(|(name, _)| LONGEST.iter().rev().position(|long| long == name));
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = workers.min(hooks.len());
    let hooks = Mutex::new(hooks);
    let next = || hooks.lock().unwrap_or_else(PoisonError::into_inner).pop();
    thread::scope(|scope| {
        let work = || {
            while let Some((name, program)) = next() {
                match program {
                    Program::PerfEvent(tick) => {
                        again(|| tick.load()).context("the kernel refused the hook tick")?;
                    }
                    tracepoint => attach_hook(name, tracepoint)?,
                }
            }
            anyhow::Ok(())
        };
        let workers: Vec<_> = (0..workers)
            .map(|_| thread::Builder::new().spawn_scoped(scope, work))
            .collect::<io::Result<_>>()
            .context(NO_THREAD)?;
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow!("loading a hook failed"))?
        })
    })?;
    timers.start(ebpf)?;
    Ok(timers)
}
