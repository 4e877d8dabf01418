//! Births, execs, ends of tasks, and the objects that they share.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{Address, Global};

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
    /// Both in the initial pid namespace, where they are others there.
    #[serde(flatten, serialize_with = "child_global")]
    pub child_global: Option<Global>,
    /// `CLONE_*` flags by name, unknown ones as a number.
    pub flags: Vec<Arc<str>>,
    /// The signal that the parent gets at the child's end; null for a thread, or none.
    pub exit_signal: Option<i32>,
    /// For a process: the one whose child it is, with `CLONE_PARENT` the maker's own parent; 0 where that is outside
    /// memtrace's pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// Which parts both have, from the kernel's pointers.
    pub shared: Shared,
    /// What was asked for and what came of it, object by object.
    pub objects: ByObject<Row>,
    /// For a clone that copied the address space: its number, by which faults and the account at the end name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork: Option<u32>,
    /// And what it copied, or shared until a write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<Copied>,
    /// Whether memtrace follows the child.
    pub followed: bool,
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn child_global<S: Serializer>(ids: &Option<Global>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(Global { pid, tid }) = ids else {
        return serializer.serialize_none();
    };
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("child_global_pid", pid)?;
    map.serialize_entry("child_global_tid", tid)?;
    map.end()
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

/// A call that was to make a task or to run a program has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The system call.
    pub call: &'static str,
    /// For an exec: the file as it was named; none where that can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// For an exec that had gone too far to return: the file that was to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<Arc<str>>,
    /// For a clone: `CLONE_*` flags by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<Arc<str>>>,
    /// Whether an exec had left the old address space: the kernel then ends the process.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fatal: bool,
    /// The negative errno.
    pub ret: i64,
}

/// A thread ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// Exit code, unless a signal or an exec ended it.
    pub code: Option<u32>,
    /// The signal that ended it.
    pub signal: Option<u32>,
    /// Whether the kernel wrote a core dump.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub core: bool,
    /// Whether other threads of the process live on.
    pub thread: bool,
    /// The thread whose exec ended it, by its id until then. It has neither code nor signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_exec: Option<u32>,
}

/// A kind of kernel object that a task shares with others, or has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// Address space (`task_struct.mm`).
    Mm,
    /// Open files.
    Files,
    /// Root, working directory, umask.
    Fs,
    /// Signal handlers.
    Sighand,
    /// What a thread group shares: pending signals, limits, timers.
    Signal,
    /// The thread group itself: the process.
    Group,
    /// The set of namespaces.
    Nsproxy,
    /// Mounts.
    MntNs,
    /// Host name.
    UtsNs,
    /// System V and POSIX IPC.
    IpcNs,
    /// Process ids, of the children to come.
    PidNs,
    /// Network.
    NetNs,
    /// Control groups.
    CgroupNs,
    /// Clock offsets, of the children to come.
    TimeNs,
    /// Users (`cred->user_ns`).
    UserNs,
    /// Credentials.
    Cred,
    /// I/O context.
    Io,
    /// System V semaphore adjustments.
    Sysvsem,
}

impl ObjectKind {
    /// How many there are.
    pub const COUNT: usize = 18;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Mm,
        Self::Files,
        Self::Fs,
        Self::Sighand,
        Self::Signal,
        Self::Group,
        Self::Nsproxy,
        Self::MntNs,
        Self::UtsNs,
        Self::IpcNs,
        Self::PidNs,
        Self::NetNs,
        Self::CgroupNs,
        Self::TimeNs,
        Self::UserNs,
        Self::Cred,
        Self::Io,
        Self::Sysvsem,
    ];

    /// Its name in JSON, and before the number of an object: `mm#3`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mm => "mm",
            Self::Files => "files",
            Self::Fs => "fs",
            Self::Sighand => "sighand",
            Self::Signal => "signal",
            Self::Group => "group",
            Self::Nsproxy => "nsproxy",
            Self::MntNs => "mnt_ns",
            Self::UtsNs => "uts_ns",
            Self::IpcNs => "ipc_ns",
            Self::PidNs => "pid_ns",
            Self::NetNs => "net_ns",
            Self::CgroupNs => "cgroup_ns",
            Self::TimeNs => "time_ns",
            Self::UserNs => "user_ns",
            Self::Cred => "cred",
            Self::Io => "io",
            Self::Sysvsem => "sysvsem",
        }
    }

    /// Whether it is a namespace, or the set of them.
    pub const fn is_namespace(self) -> bool {
        matches!(
            self,
            Self::Nsproxy
                | Self::MntNs
                | Self::UtsNs
                | Self::IpcNs
                | Self::PidNs
                | Self::NetNs
                | Self::CgroupNs
                | Self::TimeNs
                | Self::UserNs
        )
    }
}

/// Something for each of some kinds of objects; an object by their names in JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct ByObject<T>(pub Vec<(ObjectKind, T)>);

impl<T> Default for ByObject<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for ByObject<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (kind, what) in &self.0 {
            map.serialize_entry(kind.name(), what)?;
        }
        map.end()
    }
}

/// What a clone did about one kind of object. Objects are numbered from 1 in the order in which they were seen; null
/// stands for none, and two tasks that have none are equal to kcmp(2), too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The parent's object.
    pub parent: Option<u32>,
    /// The child's.
    pub child: Option<u32>,
    /// What the flags asked for; null where no flag speaks of it.
    pub asked: Option<Asked>,
    /// What came of it.
    pub got: Got,
    /// Where that isn't what the flags asked for, or more must be said: in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// What clone flags ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Got {
    /// The parent's own object.
    Shared,
    /// Another object.
    Own,
    /// None at all.
    None,
}

/// What a fork copied, and what it left shared until a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_surveyed: Option<NotSurveyed>,
}

/// The part of an address space that a survey at a fork left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NotSurveyed {
    /// Its first address.
    pub from: Address,
    /// Private pages there of which nothing is known, by the kernel's count of anonymous memory, which is exact to some dozens
    /// of pages; null where this kernel has no such count.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cloned {
    /// The child's process.
    pub child_pid: u32,
    /// The child's thread.
    pub child_tid: u32,
    /// The fork's number, where it copied the address space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork: Option<u32>,
    /// Nanoseconds from the call to its return in the parent.
    pub dur: u64,
    /// Who was back in user mode first; null where the child isn't followed.
    pub first: Option<First>,
    /// vfork: nanoseconds for which the parent was held, from the child's birth on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// vfork: what let it go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub let_go: Option<LetGo>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum First {
    /// The task that cloned.
    Parent,
    /// The task that it made.
    Child,
}

/// What ends a vfork's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LetGo {
    /// The child's exec.
    Exec,
    /// The child's end.
    Exit,
    /// A signal that kills the parent.
    Signal,
}

/// A task that was there when memtrace attached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    /// The parent process, as memtrace's pid namespace has it; 0 where it isn't in it.
    pub ppid: u32,
    /// Its objects.
    pub objects: ByObject<u32>,
    /// For a process's first thread: pages of 4 KiB that are present in its address space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// And those among them that are private: anonymous, in private mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<u64>,
}

/// A task uses objects that other traced tasks use, too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Since when: `clone`, `attach`, or the system call by which it joined.
    pub by: &'static str,
    /// The objects.
    pub objects: ByObject<Joined>,
}

/// An object that is shared from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// The object.
    pub number: u32,
    /// Other threads that use it, the first of them if they are many.
    pub with: Vec<u32>,
    /// How many they are.
    pub with_count: u32,
}

/// A task has stopped using objects that other traced tasks still use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unshare {
    /// What ended it: `exec`, `exit`, or the system call.
    pub by: &'static str,
    /// The objects.
    pub objects: ByObject<Left>,
}

/// An object that is no longer used by a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The object.
    pub number: u32,
    /// The one that the task uses now.
    pub now: Option<u32>,
    /// Since when it had used the old one.
    pub since: u64,
    /// Other threads that still use it, the first of them if they are many.
    pub with: Vec<u32>,
    /// How many they are.
    pub with_count: u32,
}
