//! What was found on a kernel, before anything is made of it.

use memtrace_ebpf::control::DirectMap;

use crate::{
    error::in_a_line,
    kernel::{preemption::Preemption, require::Lockdown},
    probe::Backend,
    target::terminal::Tiocsti,
};

/// All that was found.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a finding of its own"
)]
pub struct Findings {
    /// The kernel's release, as `uname -r` shows it.
    pub release: String,
    /// The architecture, as Rust names it.
    pub arch: String,
    /// Whether its pages have the size that memtrace knows; else what is said of them.
    pub pages: Result<(), String>,
    /// Whether memtrace is root.
    pub root: bool,
    /// Its effective capabilities, a bit each; nothing where /proc doesn't say.
    pub capabilities: Option<u64>,
    /// Whether its user namespace is the initial one; in another, root is root of nothing that matters here.
    pub initial_users: bool,
    /// Whether a seccomp filter decides which system calls it may make.
    pub seccomp: bool,
    /// How far the kernel is locked down.
    pub lockdown: Lockdown,
    /// Whether the kernel's types are from a file that the user has named.
    pub btf_file: bool,
    /// The kernel's types; else why there are none.
    pub btf: Result<Types, String>,
    /// The system call bpf(2).
    pub bpf: Tried<()>,
    /// A map of the kind that the records come through.
    pub ring_buffer: Tried<()>,
    /// The helper that reads kernel memory.
    pub kernel_reads: Tried<()>,
    /// The tracepoints that the hooks are for.
    pub tracepoints: Vec<Tracepoint>,
    /// A program at the entry of `handle_mm_fault`.
    pub fentry: Tried<()>,
    /// Whether the kernel may switch tasks in the middle of its own work.
    pub preemption: Preemption,
    /// Whether hooks can keep it from doing so.
    pub undisturbed: bool,
    /// A timer that runs a program on a CPU.
    pub timer: Tried<()>,
    /// The frame of the zero page, from `/proc/self/pagemap`.
    pub frames: Tried<u64>,
    /// The direct map of all memory.
    pub direct_map: Tried<DirectMap>,
    /// Addresses of the kernel's functions: how many `/proc/kallsyms` shows.
    pub symbols: Tried<usize>,
    /// The sysctl `kernel.kptr_restrict`, if it is there.
    pub kptr_restrict: Option<u8>,
    /// The pid namespace.
    pub pids: Pids,
    /// The limit of locked memory in bytes, if there is one.
    pub memlock: Option<u64>,
    /// CPUs that are switched on, and that there can be.
    pub cpus: Result<(usize, usize), String>,
    /// Whether a program may push characters into its terminal.
    pub pushing: Tiocsti,
    /// A program that was traced.
    pub job: Tried<Job>,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried<T> {
    /// It works.
    Works(T),
    /// It doesn't.
    Refused(Refusal),
    /// It needs root, or what was refused before.
    Untried,
}

impl<T> Tried<T> {
    /// Whether it works.
    pub const fn works(&self) -> bool {
        matches!(self, Self::Works(_))
    }
}

impl<T> From<anyhow::Result<T>> for Tried<T> {
    fn from(result: anyhow::Result<T>) -> Self {
        match result {
            Ok(found) => Self::Works(found),
            Err(error) => Self::Refused(Refusal::from(&error)),
        }
    }
}

/// Why something doesn't work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel's error number, where it was the kernel that refused.
    pub errno: Option<i32>,
    /// The whole of it in words.
    pub words: String,
}

impl From<&anyhow::Error> for Refusal {
    fn from(error: &anyhow::Error) -> Self {
        let errno = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .find_map(std::io::Error::raw_os_error);
        Self {
            errno,
            words: in_a_line(error),
        }
    }
}

/// The kernel's types.
#[derive(Clone, Debug)]
pub struct Types {
    /// Where they come from.
    pub path: String,
    /// Bytes.
    pub bytes: usize,
    /// Offsets that were found.
    pub found: usize,
    /// Members that memtrace can't do without, and that aren't there.
    pub missing: Vec<String>,
    /// Members that it does without.
    pub done_without: Vec<String>,
}

/// A tracepoint.
#[derive(Clone, Debug)]
pub struct Tracepoint {
    /// Its name.
    pub name: String,
    /// Whether the kernel's types have it; nothing without types.
    pub in_types: Option<bool>,
    /// Whether a program can be attached to it.
    pub attached: Tried<()>,
}

/// memtrace's pid namespace.
#[derive(Clone, Debug)]
pub struct Pids {
    /// Whether it is the initial one.
    pub initial: bool,
    /// memtrace's own id there.
    pub own: u32,
    /// Its id as /proc shows it: another if /proc is another namespace's.
    pub shown: Option<u32>,
}

/// A program that was traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// A page that it copied, as memtrace saw it and as /proc shows it.
    pub copied: Copied,
    /// How its faults were observed.
    pub backend: Backend,
}

/// A page that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its address.
    pub address: u64,
    /// The frame before.
    pub before: u64,
    /// The frame after.
    pub after: u64,
}
