//! What memtrace reports: the events of a run, and the account at its end.
//!
//! Every output format is made from these alone; `output/SCHEMA.md` describes their JSON form.

use std::sync::Arc;

pub use memtrace_ebpf::fault::Kind as FaultKind;
use memtrace_ebpf::{
    arch::COMPAT_ABI,
    record::{COMPAT_CALL, Header},
};
use serde::{Serialize, Serializer};

mod end;
mod experiment;
mod fault;
mod memory;
mod task;

pub use end::{Account, Area, End, ForkAccount, Life, Use};
pub use experiment::{Born, Both, Rests, Return, Runs};
pub use fault::{
    Access, Because, Cause, Counted, Fault, ForkRef, Handled, Mode, NO_CALL, Part, Region,
};
pub use memory::{
    Brk, By, Lock, Madvise, Mmap, Mprotect, Mremap, Range, RemapFilePages, Returned, Shmat, Shmdt,
};
pub use task::{
    Asked, ByObject, Clone, Cloned, Copied, Exec, Exit, Failed, First, Got, Joined, Left, LetGo,
    NotSurveyed, ObjectKind, Row, Share, Shared, Task, Unshare,
};

/// An address in a process's or the kernel's space; `"0x7f12a000"` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The first thing that is reported.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// The version of the JSON form.
    pub schema: u32,
    /// memtrace's own version.
    pub version: &'static str,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The program and its arguments; empty for an attach.
    pub command: Vec<String>,
    /// The processes that memtrace was attached to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<u32>,
    /// How page faults are observed: `tracepoints`, or `fentry`.
    pub backend: &'static str,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`. Never falls from one event to the next.
    pub ts: u64,
    /// Process id, as memtrace's own pid namespace has it.
    pub pid: u32,
    /// Thread id, the same.
    pub tid: u32,
    /// Both in the initial pid namespace, where they are others there.
    pub global: Option<Global>,
    /// The task's name at that moment.
    pub comm: Arc<str>,
    /// For what a 32-bit call did: whose interface it is of, `i386` or `arm`.
    pub abi: Option<&'static str>,
    /// What happened.
    pub what: What,
}

impl Event {
    /// The same, of the call that this record is of.
    #[must_use]
    pub fn by(self, record: &Header) -> Self {
        let compat = record.flags & COMPAT_CALL != 0;
        Self {
            abi: compat.then_some(COMPAT_ABI),
            ..self
        }
    }
}

/// A task's ids in the initial pid namespace. To be flattened: in JSON they stand beside its `pid` and `tid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Global {
    /// Process id.
    #[serde(rename = "global_pid")]
    pub pid: u32,
    /// Thread id.
    #[serde(rename = "global_tid")]
    pub tid: u32,
}

/// What happened. In JSON the variant's name in lower case is the `type`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum What {
    /// A page fault.
    Fault(Fault),
    /// A fork, vfork, clone or clone3, of a process or of a thread.
    Clone(Clone),
    /// The call that made a task has returned.
    Cloned(Cloned),
    /// A task was there when memtrace attached.
    Task(Task),
    /// A task uses objects that others use, too.
    Share(Share),
    /// A task has stopped using objects that others still use.
    Unshare(Unshare),
    /// A program was replaced by another.
    Exec(Exec),
    /// A call that was to make a task or to run a program has failed.
    Failed(Failed),
    /// A thread ended.
    Exit(Exit),
    /// The heap's end was asked for or moved.
    Brk(Brk),
    /// Memory was mapped.
    Mmap(Mmap),
    /// Memory was unmapped.
    Munmap(Range),
    /// Protection was changed.
    Mprotect(Mprotect),
    /// A mapping was moved or its size changed.
    Mremap(Mremap),
    /// Advice was given.
    Madvise(Madvise),
    /// System V shared memory was attached.
    Shmat(Shmat),
    /// It was detached.
    Shmdt(Shmdt),
    /// A mapping was to show other parts of its file.
    #[serde(rename = "remap_file_pages")]
    RemapFilePages(RemapFilePages),
    /// Memory was locked.
    Mlock(Lock),
    /// It may be paged again.
    Munlock(Lock),
    /// Mappings can no longer be changed.
    Mseal(Range),
    /// Records were lost, as the reader was too slow, or hooks were left out.
    Lost(Lost),
    /// For the lab: more of a birth.
    Born(Born),
    /// For the lab: a thread gets a CPU.
    Runs(Runs),
    /// For the lab: a thread leaves its CPU.
    Rests(Rests),
    /// For the lab: a call that makes a task returns.
    Return(Return),
}

impl What {
    /// The `type` in JSON, and the name that `--only` takes if it is one of [`Self::NAMES`].
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fault(_) => "fault",
            Self::Clone(_) => "clone",
            Self::Cloned(_) => "cloned",
            Self::Task(_) => "task",
            Self::Share(_) => "share",
            Self::Unshare(_) => "unshare",
            Self::Exec(_) => "exec",
            Self::Failed(_) => "failed",
            Self::Exit(_) => "exit",
            Self::Brk(_) => "brk",
            Self::Mmap(_) => "mmap",
            Self::Munmap(_) => "munmap",
            Self::Mprotect(_) => "mprotect",
            Self::Mremap(_) => "mremap",
            Self::Madvise(_) => "madvise",
            Self::Shmat(_) => "shmat",
            Self::Shmdt(_) => "shmdt",
            Self::RemapFilePages(_) => "remap_file_pages",
            Self::Mlock(_) => "mlock",
            Self::Munlock(_) => "munlock",
            Self::Mseal(_) => "mseal",
            Self::Lost(_) => "lost",
            Self::Born(_) => "born",
            Self::Runs(_) => "runs",
            Self::Rests(_) => "rests",
            Self::Return(_) => "return",
        }
    }

    /// All the names that [`Self::name`] gives, but for those events that only the lab gets.
    pub const NAMES: [&str; 22] = [
        "fault",
        "clone",
        "cloned",
        "task",
        "share",
        "unshare",
        "exec",
        "failed",
        "exit",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "mremap",
        "madvise",
        "shmat",
        "shmdt",
        "remap_file_pages",
        "mlock",
        "munlock",
        "mseal",
        "lost",
    ];
}

/// Records were lost, or hooks were left out, since the last such event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Records in all.
    pub count: u64,
    /// By the kind of the record.
    pub by_kind: std::collections::BTreeMap<&'static str, u64>,
    /// How often the kernel left a hook out, by hook: see [`End::missed`].
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub missed: std::collections::BTreeMap<String, u64>,
}
