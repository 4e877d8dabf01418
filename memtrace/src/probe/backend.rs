//! How page faults are observed: the two ways, and which one the kernel grants.

use std::fmt;

use anyhow::{Context as _, Result, anyhow};
use aya::{Btf, Ebpf, programs::Program};
use clap::ValueEnum;
use memtrace_ebpf::arch::FAULT_TRACEPOINTS;

use crate::kernel::{again::again, preemption::Preemption};

/// How page faults are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// By tracepoints alone, which every kernel on x86-64 grants
    Tracepoints,
    /// By hooks on the kernel's function `handle_mm_fault`, too
    Fentry,
}

impl Backend {
    /// Its name, on the command line and in the output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracepoints => "tracepoints",
            Self::Fentry => "fentry",
        }
    }
}

/// The function that handles all page faults, on every architecture (`mm/memory.c`).
pub const FUNCTION: &str = "handle_mm_fault";
/// The hook on its entry, and the one on its end.
pub const HOOKS: [&str; 2] = ["handle_enter", "handle_leave"];

/// The kernel doesn't let a hook be on a function.
#[derive(Debug)]
pub struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel refused the hook {}", self.0)
    }
}

/// Whether hooks on the function are to be tried, where `asked` is what the user wants, and the rest as in
/// [`prefers_tracepoints`].
pub fn wants_fentry(asked: Option<Backend>, undisturbed: bool, preemption: Preemption) -> bool {
    let granted = !FAULT_TRACEPOINTS.is_empty();
    match asked {
        Some(backend) => backend == Backend::Fentry,
        None => !prefers_tracepoints(granted, undisturbed, preemption),
    }
}

/// Whether hooks on the function are left alone by choice, where `granted` is whether faults have tracepoints, and
/// `undisturbed` whether a hook can keep the kernel from switching tasks in the middle of it.
///
/// Where it can't, and the kernel does so, another task's hook may come between and change what this one has in the CPU's
/// memory. Tracepoints have preemption off on such kernels (`__DO_TRACE` in `include/linux/tracepoint.h`, until 7.0).
pub fn prefers_tracepoints(granted: bool, undisturbed: bool, preemption: Preemption) -> bool {
    granted && !undisturbed && preemption == Preemption::On
}

/// Loads and attaches the hooks on the function.
///
/// # Errors
/// The kernel refuses one ([`Refused`]), or has no such function.
pub fn attach(ebpf: &mut Ebpf, btf: &Btf) -> Result<()> {
    for name in HOOKS {
        let program = ebpf
            .program_mut(name)
            .with_context(|| format!("the object has no hook {name}"))?;
        let attached = match program {
            Program::FEntry(enter) => {
                again(|| enter.load(FUNCTION, btf)).and_then(|()| enter.attach().map(drop))
            }
            Program::FExit(leave) => {
                again(|| leave.load(FUNCTION, btf)).and_then(|()| leave.attach().map(drop))
            }
            _ => return Err(anyhow!("the hook {name} is none of a function")),
        };
        attached.context(Refused(name))?;
    }
    Ok(())
}
