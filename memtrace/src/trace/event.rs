//! What memtrace reports: the events of a run, and the account at its end.
//!
//! Every output format is made from these alone. `docs` of the JSON form: the README's table of fields.

use std::sync::Arc;

pub use memtrace_ebpf::fault::Kind as FaultKind;
use serde::{Serialize, Serializer};

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
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`. Never falls from one event to the next.
    pub ts: u64,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The task's name at that moment.
    pub comm: Arc<str>,
    /// What happened.
    pub what: What,
}

/// What happened. In JSON the variant's name in lower case is the `type`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum What {
    /// A page fault.
    Fault(Fault),
    /// A fork, vfork, clone or clone3, of a process or of a thread.
    Clone(Clone),
    /// A program was replaced by another.
    Exec(Exec),
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
    /// Records were lost: the reader was too slow.
    Lost(Lost),
}

impl What {
    /// The `type` in JSON, and the name that `--only` takes.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fault(_) => "fault",
            Self::Clone(_) => "clone",
            Self::Exec(_) => "exec",
            Self::Exit(_) => "exit",
            Self::Brk(_) => "brk",
            Self::Mmap(_) => "mmap",
            Self::Munmap(_) => "munmap",
            Self::Mprotect(_) => "mprotect",
            Self::Mremap(_) => "mremap",
            Self::Madvise(_) => "madvise",
            Self::Lost(_) => "lost",
        }
    }

    /// All the names that [`Self::name`] gives.
    pub const NAMES: [&str; 11] = [
        "fault", "clone", "exec", "exit", "brk", "mmap", "munmap", "mprotect", "mremap", "madvise",
        "lost",
    ];
}

/// A page fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// The address that was accessed.
    pub addr: Address,
    /// The instruction that accessed it.
    pub ip: Address,
    /// How it was accessed.
    pub access: Access,
    /// Whether the program itself or the kernel for it made the access.
    pub mode: Mode,
    /// What the kernel did about it.
    #[serde(serialize_with = "fault_kind")]
    pub kind: FaultKind,
    /// What the address belongs to.
    pub region: Region,
    /// In a library: which part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The mapped file.
    pub file: Option<Arc<str>>,
    /// The address's page's offset in the file, in bytes.
    pub offset: Option<u64>,
    /// Bytes of the page that is mapped now, or would be.
    pub page_size: u64,
    /// Frame before.
    pub pfn_before: Option<u64>,
    /// Frame after.
    pub pfn_after: Option<u64>,
    /// Whether the kernel counted it, and how.
    pub counted: Option<Counted>,
    /// The signal that it ended in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// For kind `other`: what is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'static str>,
    /// Set when the fault took so long that others had to be shown first: the nanoseconds by which `ts` is later
    /// than the fault's beginning.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn fault_kind<S: Serializer>(kind: &FaultKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// How memory was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Exec,
}

/// Who made an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The program.
    User,
    /// The kernel, for the program.
    Kernel,
}

/// How the kernel counted a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// In `min_flt`.
    Minor,
    /// In `maj_flt`.
    Major,
}

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// The program's code.
    Text,
    /// The program's constants.
    Rodata,
    /// The program's initialised data.
    Data,
    /// The program's zeroed data.
    Bss,
    /// The memory below the program break.
    Heap,
    /// The first thread's stack.
    Stack,
    /// Another thread's stack.
    ThreadStack,
    /// Private anonymous memory.
    Anon,
    /// A mapped file.
    File,
    /// A shared library, the dynamic linker included.
    Lib,
    /// Shared memory.
    Shm,
    /// The kernel's own pages for programs: vdso and vvar.
    Vdso,
    /// Nothing is mapped there.
    Unmapped,
    /// The record that says what is mapped there was lost, or could not be read.
    Unknown,
}

impl Region {
    /// Its name in text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Rodata => "rodata",
            Self::Data => "data",
            Self::Bss => "bss",
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::ThreadStack => "thread-stack",
            Self::Anon => "anon",
            Self::File => "file",
            Self::Lib => "lib",
            Self::Shm => "shm",
            Self::Vdso => "vdso",
            Self::Unmapped => "unmapped",
            Self::Unknown => "unknown",
        }
    }
}

/// A part of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Code.
    Text,
    /// Constants.
    Rodata,
    /// Initialised data.
    Data,
    /// Zeroed data.
    Bss,
}

impl Part {
    /// Its name in text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Rodata => "rodata",
            Self::Data => "data",
            Self::Bss => "bss",
        }
    }
}

/// A task was born.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clone {
    /// The system call: `fork`, `vfork`, `clone`, `clone3`, or `kernel` where none was under way.
    pub call: &'static str,
    /// Whether the child is a thread of the same process.
    pub thread: bool,
    /// The child's process.
    pub child_pid: u32,
    /// The child's thread.
    pub child_tid: u32,
    /// `CLONE_*` flags by name, unknown ones as a number.
    pub flags: Vec<Arc<str>>,
    /// The signal that the parent gets at the child's end; null for a thread, or none.
    pub exit_signal: Option<i32>,
    /// Which parts both have, from the kernel's pointers.
    pub shared: Shared,
    /// Whether memtrace follows the child.
    pub followed: bool,
}

/// Which parts of a task two tasks share. A part that neither has isn't shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part of its own")]
pub struct Shared {
    pub mm: bool,
    pub files: bool,
    pub fs: bool,
    pub sighand: bool,
    pub signal: bool,
    pub nsproxy: bool,
    pub cred: bool,
    pub io: bool,
    pub sysvsem: bool,
}

/// A program was replaced by another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exec {
    /// The file as it was named.
    pub file: String,
    /// The file that is run: the interpreter for a script.
    pub exe: Option<Arc<str>>,
    /// The arguments.
    pub args: Vec<String>,
    /// Set when the arguments were longer than what is kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The thread's id before, where the exec changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_tid: Option<u32>,
}

/// A thread ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<u32>,
    /// The signal that ended it.
    pub signal: Option<u32>,
    /// Whether other threads of the process live on.
    pub thread: bool,
}

/// The heap's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Brk {
    /// Before.
    pub old: Address,
    /// After; the same when it was only asked for, or refused.
    pub new: Address,
}

/// Who mapped something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A system call.
    Call,
    /// The kernel, at an exec.
    Exec,
}

/// Memory was mapped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mmap {
    /// Where it is; where it was wanted, when the call failed.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// `PROT_*` by name; empty for none.
    pub prot: Vec<Arc<str>>,
    /// `MAP_*` by name, unknown ones as a number.
    pub flags: Vec<Arc<str>>,
    /// The file.
    pub file: Option<Arc<str>>,
    /// Offset in the file in bytes.
    pub offset: Option<u64>,
    /// The address, or a negative errno.
    pub ret: Returned,
    /// Who did it.
    pub by: By,
    /// Mapped by exec: what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// What a call that gives an address returned: an address, or a negative errno as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It worked.
    Address(Address),
    /// The negative errno.
    Error(i64),
}

impl Serialize for Returned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Address(address) => address.serialize(serializer),
            Self::Error(errno) => serializer.serialize_i64(*errno),
        }
    }
}

/// A call on a range: munmap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// First address.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// Protection was changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mprotect {
    /// First address.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// `PROT_*` by name; empty for none.
    pub prot: Vec<Arc<str>>,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// A mapping was moved or its size changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mremap {
    /// Where it was.
    pub addr: Address,
    /// Bytes before.
    pub old_len: u64,
    /// Bytes wanted.
    pub len: u64,
    /// `MREMAP_*` by name.
    pub flags: Vec<Arc<str>>,
    /// Where it is, or a negative errno.
    pub ret: Returned,
}

/// Advice was given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Madvise {
    /// First address.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// `MADV_*` by name, or a number.
    pub advice: Arc<str>,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// Records were lost since the last such event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// In all.
    pub count: u64,
    /// By the kind of the record.
    pub by_kind: std::collections::BTreeMap<&'static str, u64>,
}

/// The last thing that is reported.
#[derive(Clone, Debug, Default, Serialize)]
pub struct End {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
    /// A row per process, in the order of their births.
    pub processes: Vec<Account>,
    /// The sum of them.
    pub total: Account,
    /// Lost records by kind; empty when none was lost.
    pub lost: std::collections::BTreeMap<&'static str, u64>,
    /// Events that had to be shown out of their time's order, with a later `ts`.
    pub late: u64,
}

/// A process's faults, and the kernel's own count of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Account {
    /// Process id; 0 for the sum, and for the row that stands for processes over the limit.
    pub pid: u32,
    /// Its last name.
    pub comm: Arc<str>,
    /// Faults by kind; kinds that didn't occur are left out.
    pub faults: std::collections::BTreeMap<&'static str, u64>,
    /// The kernel's count of minor faults: the sum of `task_struct.min_flt` of all its threads at their ends.
    pub min_flt: u64,
    /// The kernel's count of major faults.
    pub maj_flt: u64,
    /// The kernel's count less the counted faults among `faults`.
    pub unobserved: i64,
    /// What `unobserved` is made of.
    pub unobserved_by: std::collections::BTreeMap<&'static str, i64>,
    /// Whether it still lived when the trace ended: the kernel's count goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub alive: bool,
}
