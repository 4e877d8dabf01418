//! Births, execs and ends of tasks.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Address, ByObject, Name, ObjectKind};

/// A task was born.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Clone {
    /// The system call: `fork`, `vfork`, `clone`, `clone3`, or `kernel` where none was under way.
    pub call: Name,
    /// Whether the child is a thread of the same process.
    pub thread: bool,
    /// The child's process.
    pub child_pid: u32,
    /// The child's thread.
    pub child_tid: u32,
    /// Both in the initial pid namespace, where they are others there.
    #[serde(flatten)]
    pub child_global: Option<ChildGlobal>,
    /// `CLONE_*` flags by name, unknown ones as a number.
    pub flags: Vec<Arc<str>>,
    /// The signal that the parent gets at the child's end; null for a thread, or none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub exit_signal: Option<i32>,
    /// For a process: the one whose child it is, with `CLONE_PARENT` the maker's own parent; 0 where that is outside
    /// memtrace's pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// Which parts both have, from the kernel's pointers.
    pub shared: Shared,
    /// What was asked for and what came of it, object by object.
    pub objects: ByObject<Row>,
    /// For a clone that copied the address space: its number, by which faults and the account at the end name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<u32>,
    /// And what it copied, or shared until a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<Copied>,
    /// Whether memtrace follows the child.
    pub followed: bool,
}

/// A child's ids in the initial pid namespace. To be flattened, as [`Global`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChildGlobal {
    /// Process id.
    #[serde(rename = "child_global_pid")]
    pub pid: u32,
    /// Thread id.
    #[serde(rename = "child_global_tid")]
    pub tid: u32,
}

impl From<Global> for ChildGlobal {
    fn from(Global { pid, tid }: Global) -> Self {
        Self { pid, tid }
    }
}

/// Which parts of a task two tasks share. A part that neither has isn't shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part of its own")]
pub struct Shared {
    /// The address space.
    pub mm: bool,
    /// Open files.
    pub files: bool,
    /// Root, working directory, umask.
    pub fs: bool,
    /// Signal handlers.
    pub sighand: bool,
    /// Pending signals, limits, timers.
    pub signal: bool,
    /// The set of namespaces.
    pub nsproxy: bool,
    /// Credentials.
    pub cred: bool,
    /// The I/O context.
    pub io: bool,
    /// System V semaphore adjustments.
    pub sysvsem: bool,
}

impl Shared {
    /// Each part, by the kind of its object.
    pub const fn parts(self) -> [(ObjectKind, bool); 9] {
        [
            (ObjectKind::Mm, self.mm),
            (ObjectKind::Files, self.files),
            (ObjectKind::Fs, self.fs),
            (ObjectKind::Sighand, self.sighand),
            (ObjectKind::Signal, self.signal),
            (ObjectKind::Nsproxy, self.nsproxy),
            (ObjectKind::Cred, self.cred),
            (ObjectKind::Io, self.io),
            (ObjectKind::Sysvsem, self.sysvsem),
        ]
    }
}

/// A program was replaced by another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// The file as it was named.
    pub file: String,
    /// The file that is run: the interpreter for a script.
    #[serde(deserialize_with = "Option::deserialize")]
    pub exe: Option<Arc<str>>,
    /// The arguments.
    pub args: Vec<String>,
    /// Set when the arguments were longer than what is kept.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub truncated: bool,
    /// The thread's id before, where the exec changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_tid: Option<u32>,
}

/// A call that was to make a task or to run a program has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The system call.
    pub call: Name,
    /// For an exec: the file as it was named; none where that can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// For an exec that had gone too far to return: the file that was to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Arc<str>>,
    /// For a clone: `CLONE_*` flags by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<Arc<str>>>,
    /// Whether an exec had left the old address space: the kernel then ends the process.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub fatal: bool,
    /// The negative errno.
    pub ret: i64,
}

/// A thread ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// Exit code, unless a signal or an exec ended it.
    #[serde(deserialize_with = "Option::deserialize")]
    pub code: Option<u32>,
    /// The signal that ended it.
    #[serde(deserialize_with = "Option::deserialize")]
    pub signal: Option<u32>,
    /// Whether the kernel wrote a core dump.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub core: bool,
    /// Whether other threads of the process live on.
    pub thread: bool,
    /// The thread whose exec ended it, by its id until then. It has neither code nor signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_exec: Option<u32>,
}

/// What a clone did about one kind of object. Objects are numbered from 1 in the order in which they were seen; null
/// stands for none, and two tasks that have none are equal to kcmp(2), too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The parent's object.
    #[serde(deserialize_with = "Option::deserialize")]
    pub parent: Option<u32>,
    /// The child's.
    #[serde(deserialize_with = "Option::deserialize")]
    pub child: Option<u32>,
    /// What the flags asked for; null where no flag speaks of it.
    #[serde(deserialize_with = "Option::deserialize")]
    pub asked: Option<Requested>,
    /// What came of it.
    pub got: Obtained,
    /// Where that isn't what the flags asked for, or more must be said: in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Name>,
}

/// What clone flags ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Requested {
    /// The parent's own.
    Share,
    /// One like the parent's.
    Copy,
    /// A new one.
    New,
    /// A copy with all handlers set to the default (`CLONE_CLEAR_SIGHAND`).
    Clear,
}

/// What a child got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Obtained {
    /// The parent's own object.
    Shared,
    /// Another object.
    Own,
    /// None at all.
    None,
}

/// What a fork copied, and what it left shared until a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copied {
    /// Pages of 4 KiB that were private and present in the parent: what copy-on-write may have to copy.
    pub pages: u64,
    /// Pages among them that the fork itself copied, as a device or the kernel had pinned them.
    pub at_once: u64,
    /// Private pages in swap, which parent and child now share there.
    pub swapped: u64,
    /// Bytes of the child's page tables.
    pub table_bytes: u64,
    /// What was too much to be surveyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_surveyed: Option<NotSurveyed>,
}

/// The part of an address space that a survey at a fork left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotSurveyed {
    /// Its first address.
    pub from: Address,
    /// Private pages there of which nothing is known, by the kernel's count of anonymous memory, which is exact to some dozens
    /// of pages; null where this kernel has no such count.
    #[serde(deserialize_with = "Option::deserialize")]
    pub pages: Option<u64>,
}

impl NotSurveyed {
    /// Two of them together.
    pub fn sum(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(one), Some(other)) = (one, other) else {
            return one.or(other);
        };
        Some(Self {
            from: Address(one.from.0.min(other.from.0)),
            pages: one.pages.zip(other.pages).map(|(one, other)| one + other),
        })
    }
}

/// The call that made a task has returned in the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cloned {
    /// The child's process.
    pub child_pid: u32,
    /// The child's thread.
    pub child_tid: u32,
    /// The fork's number, where it copied the address space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<u32>,
    /// Nanoseconds from the call to its return in the parent.
    pub dur: u64,
    /// Who was back in user mode first; null where the child isn't followed.
    #[serde(deserialize_with = "Option::deserialize")]
    pub first: Option<First>,
    /// vfork: nanoseconds for which the parent was held, from the child's birth on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// vfork: what let it go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go: Option<VforkRelease>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum First {
    /// The task that cloned.
    Parent,
    /// The task that it made.
    Child,
}

/// What ends a vfork's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VforkRelease {
    /// The child's exec.
    Exec,
    /// The child's end.
    Exit,
    /// A signal that kills the parent.
    Signal,
}

/// A task that was there when memtrace attached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExistingTask {
    /// The parent process, as memtrace's pid namespace has it; 0 where it isn't in it.
    pub ppid: u32,
    /// Its objects.
    pub objects: ByObject<u32>,
    /// For a process's first thread: pages of 4 KiB that are present in its address space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// And those among them that are private: anonymous, in private mappings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<u64>,
}

/// A task's ids in the initial pid namespace. To be flattened: in JSON they stand beside its `pid` and `tid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Global {
    /// Process id.
    #[serde(rename = "global_pid")]
    pub pid: u32,
    /// Thread id.
    #[serde(rename = "global_tid")]
    pub tid: u32,
}
