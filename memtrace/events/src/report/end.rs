//! What is reported at the end: the accounts.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Name;

/// The last thing that is reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
    /// A row per process, in the order of their births.
    pub processes: Vec<Account>,
    /// The sum of them.
    pub total: Account,
    /// Lost records by kind; empty when none was lost.
    pub lost: std::collections::BTreeMap<Name, u64>,
    /// How often the kernel left a hook out, by hook, as it was still in it on that CPU for another task: for any task of the
    /// machine, as it doesn't say for which. Empty when it never did.
    pub missed: std::collections::BTreeMap<String, u64>,
    /// What became of the pages that each fork left shared, in the order of the forks.
    pub forks: Vec<ForkAccount>,
    /// The tasks with the objects that each used, in the order of their births.
    pub tasks: Vec<TaskLifetime>,
    /// Tasks that are not among them, as they were too many.
    pub tasks_left_out: u64,
    /// Events that had to be shown out of their time's order, with a later `ts`.
    pub late: u64,
}

/// A process's faults, and the kernel's own count of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// Process id; 0 for the sum, and for the row that stands for processes over the limit.
    pub pid: u32,
    /// Its last name.
    pub comm: Arc<str>,
    /// Faults by kind; kinds that didn't occur are left out.
    pub faults: std::collections::BTreeMap<Name, u64>,
    /// The kernel's count of minor faults: the sum of `task_struct.min_flt` of all its threads at their ends, less what is in
    /// `before_exec`.
    pub min_flt: u64,
    /// The kernel's count of major faults.
    pub maj_flt: u64,
    /// The kernel's count less the counted faults among `faults`.
    pub unobserved: i64,
    /// What `unobserved` is made of.
    pub unobserved_by: std::collections::BTreeMap<Name, i64>,
    /// Faults that the kernel had counted on memtrace's own child before it became the program.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub before_exec: u64,
    /// Whether records were lost that may have been about it: faults may be missing from all but the kernel's count.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub incomplete: bool,
    /// Whether it still lived when the trace ended: the kernel's count goes on.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub alive: bool,
}

/// What became of the pages that a fork left shared. Each page has one end:
/// `pages` = `by_child` + `by_parent` + `by_others` + `at_once` + `taken_over` + `given_up` (three) + `still_shared` +
/// `unknown`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForkAccount {
    /// The fork's number; 0 for the sum of those that are too many for a row each.
    pub number: u32,
    /// When it was.
    pub ts: u64,
    /// The process that forked.
    pub parent: u32,
    /// Its name then.
    pub parent_comm: Arc<str>,
    /// The process that it made.
    pub child: u32,
    /// Its last name.
    pub child_comm: Arc<str>,
    /// Nanoseconds that the call took, where its return was seen.
    #[serde(deserialize_with = "Option::deserialize")]
    pub dur: Option<u64>,
    /// Bytes of the child's page tables.
    pub table_bytes: u64,
    /// Private pages in swap at the fork: not among `pages`.
    pub swapped: u64,
    /// Pages of 4 KiB that were private and present in the parent.
    pub pages: u64,
    /// Copied as the child wrote first.
    pub by_child: u64,
    /// Copied as the parent wrote first.
    pub by_parent: u64,
    /// Copied by a grandchild or another process that had come to share the page.
    pub by_others: u64,
    /// Copies among these three that were made before the child's exec: the waste of fork and exec.
    pub before_exec: u64,
    /// Whether the child did exec.
    pub execed: bool,
    /// Copied by the fork itself: pinned.
    pub at_once: u64,
    /// The other side gave the page up; then it was written, and reused without a copy.
    pub taken_over: u64,
    /// One side gave the page up, and the other has not written it since.
    pub given_up: ReleasedPages,
    /// Shared to the end of the trace.
    pub still_shared: u64,
    /// It is not known what became of these: the page was changed in a way that memtrace does not see (swapped out, merged,
    /// written by the kernel without an exception), or records were lost.
    pub unknown: u64,
    /// Of `taken_over`, `given_up`, `still_shared` and `unknown` together, the most that may have been copied unseen: as many as
    /// the kernel took faults without an exception meanwhile.
    pub unseen: u64,
    /// Copies beyond these: of a page whose sharing had ended, as something in the kernel still held it.
    pub copied_again: u64,
    /// What was too much to be surveyed at the fork. Its pages come into `pages` one by one, as their faults tell of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_surveyed: Option<super::NotSurveyed>,
    /// Whether records were lost while its pages were shared: copies may be missing, and pages be taken for shared.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub incomplete: bool,
    /// When the last of its pages was settled; none while one isn't.
    #[serde(skip)]
    pub settled: Option<u64>,
    /// The same by region of the parent's memory.
    pub areas: Vec<Area>,
}

impl ForkAccount {
    /// Adds the numbers of another, but for its areas.
    pub fn add_numbers(&mut self, other: &Self) {
        if let Some(dur) = other.dur {
            *self.dur.get_or_insert_default() += dur;
        }
        self.table_bytes += other.table_bytes;
        self.swapped += other.swapped;
        self.pages += other.pages;
        self.by_child += other.by_child;
        self.by_parent += other.by_parent;
        self.by_others += other.by_others;
        self.before_exec += other.before_exec;
        self.at_once += other.at_once;
        self.taken_over += other.taken_over;
        self.given_up.exec += other.given_up.exec;
        self.given_up.exit += other.given_up.exit;
        self.given_up.munmap += other.given_up.munmap;
        self.still_shared += other.still_shared;
        self.unknown += other.unknown;
        self.unseen += other.unseen;
        self.copied_again += other.copied_again;
        self.not_surveyed = super::NotSurveyed::sum(self.not_surveyed, other.not_surveyed);
    }
}

/// By what a page was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleasedPages {
    /// An exec replaced the address space.
    pub exec: u64,
    /// The process ended.
    pub exit: u64,
    /// It was unmapped, discarded, or mapped over.
    pub munmap: u64,
}

/// A part of a fork's account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Area {
    /// What it is.
    pub region: super::Region,
    /// The mapped file, or the library.
    #[serde(deserialize_with = "Option::deserialize")]
    pub file: Option<Arc<str>>,
    /// Pages that were private and present.
    pub pages: u64,
    /// Copied by anyone, or by the fork itself.
    pub copied: u64,
    /// Reused without a copy.
    pub taken_over: u64,
    /// Given up unwritten.
    pub given_up: u64,
    /// Shared to the end.
    pub still_shared: u64,
    /// Not known.
    pub unknown: u64,
}

impl Area {
    /// One without a page.
    pub fn empty(region: super::Region, file: Option<Arc<str>>) -> Self {
        Self {
            region,
            file,
            pages: 0,
            copied: 0,
            taken_over: 0,
            given_up: 0,
            still_shared: 0,
            unknown: 0,
        }
    }
}

/// A task with the objects that it used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskLifetime {
    /// Its own number, from 1 in the order of the births: an id may come again, and an exec may give a task another's.
    pub number: u32,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Both in the initial pid namespace, where they are others there.
    #[serde(flatten)]
    pub global: Option<super::Global>,
    /// Its id until an exec gave it that of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_tid: Option<u32>,
    /// The thread whose child it is, by its id then: the one that made it, with `CLONE_PARENT` the parent of that one. null
    /// where it isn't traced, and for those that were there at attach.
    #[serde(deserialize_with = "Option::deserialize")]
    pub parent: Option<u32>,
    /// The number of that one's life; null, too, where it isn't kept.
    #[serde(deserialize_with = "Option::deserialize")]
    pub parent_number: Option<u32>,
    /// Its last name.
    pub comm: Arc<str>,
    /// From when it was traced.
    pub from: u64,
    /// When it ended, or, where word of that was lost, by when it had; null when it still runs.
    #[serde(deserialize_with = "Option::deserialize")]
    pub until: Option<u64>,
    /// The objects, in the order in which it began to use them.
    pub uses: Vec<Use>,
}

/// A task's use of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Use {
    /// The kind of the object.
    pub kind: super::ObjectKind,
    /// Its number.
    pub number: u32,
    /// From when.
    pub from: u64,
    /// Until when; null when it still does.
    #[serde(deserialize_with = "Option::deserialize")]
    pub until: Option<u64>,
}
