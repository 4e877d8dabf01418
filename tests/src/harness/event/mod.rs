//! memtrace's JSON, as its schema has it: a field that the schema requires and a line lacks is an error.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

mod end;
mod fault;
mod task;

pub use end::{Account, Area, End, ForkAccount, GivenUp, Life, Use};
pub use fault::{Cause, Fault, ForkRef};
pub use task::{
    Clone, Cloned, Copied, Exec, Exit, Joined, Left, NotSurveyed, Row, Share, Shared, Task, Unshare,
};

/// The first line.
#[derive(Debug, Deserialize)]
pub struct Start {
    /// The schema's version.
    pub schema: u32,
    /// The kernel's release.
    pub kernel: String,
    /// What page faults are observed by.
    pub backend: String,
    /// The traced command; empty for an attach.
    pub command: Vec<String>,
    /// The processes that memtrace was attached to.
    #[serde(default)]
    pub attached: Vec<i32>,
}

/// A line between the first and the last.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Event {
    pub ts: u64,
    pub pid: i32,
    pub tid: i32,
    /// Both in the initial pid namespace, where they are others there.
    pub global_pid: Option<i32>,
    pub global_tid: Option<i32>,
    pub comm: String,
    /// For what a 32-bit call did: whose interface it is of.
    pub abi: Option<String>,
    #[serde(flatten)]
    pub what: What,
    /// The line itself.
    #[serde(skip)]
    pub line: Value,
}

/// What happened.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
#[expect(missing_docs, reason = "the schema describes them")]
#[expect(clippy::large_enum_variant, reason = "nearly all events are faults")]
pub enum What {
    Fault(Fault),
    Clone(Clone),
    Cloned(Cloned),
    Task(Task),
    Share(Share),
    Unshare(Unshare),
    Exec(Exec),
    /// A call that makes a task or runs a program has failed: tests look into the line.
    Failed {},
    Exit(Exit),
    Brk(Brk),
    Mmap(Mmap),
    Munmap(Range),
    Mprotect(Range),
    Mremap(Range),
    Madvise(Range),
    Mseal(Range),
    /// Of these, too, tests look into the line.
    Shmat {},
    Shmdt {},
    #[serde(rename = "remap_file_pages")]
    RemapFilePages {},
    Mlock {},
    Munlock {},
    /// What was lost: the last line has all of it.
    Lost {},
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Brk {
    #[serde(deserialize_with = "hex")]
    pub old: u64,
    #[serde(deserialize_with = "hex")]
    pub new: u64,
}

/// What all calls on a range of addresses have in common.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Range {
    #[serde(deserialize_with = "hex")]
    pub addr: u64,
    pub len: u64,
    /// A number, negative for an errno, or an address.
    pub ret: Value,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Mmap {
    #[serde(flatten)]
    pub range: Range,
    #[serde(deserialize_with = "Option::deserialize")]
    pub file: Option<String>,
    /// "call", "exec" or "attach".
    pub by: String,
    pub region: Option<String>,
    /// There at attach: pages that are present.
    pub resident: Option<u64>,
    /// There at attach: pages among them that are private.
    pub private: Option<u64>,
}

fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no address")))
}
