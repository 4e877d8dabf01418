//! The side channel by which a subject tells the test what it did: one JSON object a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context, Result};
pub use memtrace_events::Access;
use memtrace_events::ObjectKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pagemap::Frame;

/// The environment variable that names the report's file. Without it the report goes to stdout.
pub const REPORT: &str = "SUBJECT_REPORT";

/// What a subject reports. Times are ns of `CLOCK_MONOTONIC`, as memtrace's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// It touched a page of memory.
    Touch(Touch),
    /// A child touched memory that it must not, and died of it.
    Death(Death),
    /// It made a task.
    Task(Task),
    /// A child of its ended.
    Exit(Exit),
    /// What the kernel says a process cost.
    Usage(Usage),
    /// It made a system call on its address space.
    Call(Call),
    /// Two tasks were compared.
    Compared(Compared),
    /// It did something to many pages.
    Act(Act),
    /// Anything else, by name.
    Note(String, Value),
}

/// One touch of one page, and what the kernel told the subject about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Touch {
    /// In plain words, what is touched.
    pub name: String,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The address.
    pub addr: u64,
    /// How.
    pub access: Access,
    /// Whether `addr` is the very address that faults, and the only one. If not, it is a page among others.
    pub exact: bool,
    /// The frame before, from /proc/self/pagemap.
    pub before: Option<u64>,
    /// The frame after.
    pub after: Option<u64>,
    /// By how much `ru_minflt` of the thread grew.
    pub minor: u64,
    /// By how much `ru_majflt` of the thread grew.
    pub major: u64,
    /// A time before the touch, and before rusage was asked.
    pub from: u64,
    /// A time after it, and after rusage was asked again.
    pub until: u64,
    /// Times between these: rusage had been asked, and was not asked again yet.
    pub within: (u64, u64),
    /// The mapped file and the address's offset in it, from /proc/self/maps.
    pub file: Option<(String, u64)>,
    /// Where the program's code begins and ends: the instruction that touches is there.
    pub code: (u64, u64),
}

/// A child that died of touching `addr`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Death {
    /// In plain words, what was touched.
    pub name: String,
    /// The child.
    pub pid: u32,
    /// The address.
    pub addr: u64,
    /// How.
    pub access: Access,
    /// The signal that ended the child.
    pub signal: u32,
    /// As in [`Touch`].
    pub code: (u64, u64),
    /// A time before the child was made.
    pub from: u64,
    /// A time after its end.
    pub until: u64,
}

/// A task that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// In plain words, how.
    pub name: String,
    /// The system call; empty where the C library chooses it.
    pub call: String,
    /// The flags by name; none where the C library chooses them.
    pub flags: Option<Vec<String>>,
    /// The signal that the parent gets at its end, 0 for none.
    pub exit_signal: i32,
    /// The maker.
    pub pid: u32,
    /// The new task's process.
    pub child_pid: u32,
    /// The new task.
    pub child_tid: u32,
    /// What it shares with its maker, as kcmp(2) says.
    pub shared: BTreeMap<ObjectKind, bool>,
}

impl Task {
    /// Whether these are the names of its flags, in any order.
    pub fn has_flags<'a>(&self, names: impl Iterator<Item = &'a str>) -> bool {
        let own: BTreeSet<_> = self.flags.iter().flatten().map(String::as_str).collect();
        own == names.collect()
    }
}

/// A task that ended: with a code, or by a signal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exit {
    /// In plain words, how.
    pub name: String,
    /// The process.
    pub pid: u32,
    /// Its exit code.
    pub code: Option<u32>,
    /// The signal that ended it.
    pub signal: Option<u32>,
}

/// Faults as the kernel counted them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Usage {
    /// In plain words, whose.
    pub name: String,
    /// The process; 0 for a sum over several.
    pub pid: u32,
    /// `ru_minflt`.
    pub minor: u64,
    /// `ru_majflt`.
    pub major: u64,
}

/// A system call on the address space.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// In plain words, what for.
    pub name: String,
    /// Its event's `type`.
    pub call: String,
    /// The thread.
    pub tid: u32,
    /// The fields that its event must have.
    pub fields: BTreeMap<String, Value>,
    /// What it returned: a negative number is an errno.
    pub ret: i64,
    /// A time before the call.
    pub from: u64,
    /// A time after it.
    pub until: u64,
}

/// What two tasks have in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compared {
    /// In plain words, after what.
    pub name: String,
    /// A task.
    pub one: u32,
    /// Another.
    pub other: u32,
    /// When they were compared; both were at rest.
    pub at: u64,
    /// By the kind of object: whether it is the same, or both have none, as kcmp(2) says, and for
    /// namespaces the links in /proc.
    pub same: BTreeMap<ObjectKind, bool>,
}

/// What was done to many pages, one after the other, while nobody else did anything to them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Act {
    /// What.
    pub deed: Action,
    /// The process that did it; after a fork, the child.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// A time before it.
    pub from: u64,
    /// A time after it.
    pub until: u64,
    /// The pages, with their frames before and after. Of a fork: the parent's frame, then the child's; of an exec and
    /// an exit: no frames after.
    pub pages: Vec<(u64, Option<Frame>, Option<Frame>)>,
    /// Pages of all the machine that the kernel has moved to other frames up to the end of this.
    pub migrated: u64,
}

/// What is done to pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// They were there from the beginning.
    Begin,
    /// They came to a process by a fork.
    Fork {
        /// Of this process.
        parent: u32,
        /// How many private pages the child had when it began to run, in all of its memory.
        private: u64,
        /// Bytes of its page tables then.
        table_bytes: u64,
    },
    /// Each was written.
    Write,
    /// They were unmapped.
    Unmap,
    /// Their contents were given back.
    Discard,
    /// Fresh anonymous memory was mapped over them.
    Over,
    /// They were moved, as a whole, to this address.
    Move(u64),
    /// They went with an exec.
    Exec,
    /// They went with the process.
    Exit,
}

/// Tells that this kernel, or machine, doesn't have `what`.
pub fn without(what: &str, why: impl std::fmt::Display) -> Result<()> {
    note("without", serde_json::json!([what, why.to_string()]))
}

/// Adds a [`Fact::Note`] to the report.
pub fn note(name: &str, value: impl Into<Value>) -> Result<()> {
    report(&Fact::Note(name.to_owned(), value.into()))
}

/// Adds `fact` to the report, in one write, so that several processes can report.
pub fn report(fact: &Fact) -> Result<()> {
    let line = serde_json::to_string(fact)? + "\n";
    match std::env::var_os(REPORT) {
        Some(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("cannot write the report {}", path.display())),
        None => Ok(std::io::stdout().write_all(line.as_bytes())?),
    }
}
