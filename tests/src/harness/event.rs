//! memtrace's JSON, as its schema has it: a field that the schema requires and a line lacks is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::subject::report::Access;

/// The first line.
#[derive(Debug, Deserialize)]
pub struct Start {
    /// The schema's version.
    pub schema: u32,
    /// The kernel's release.
    pub kernel: String,
    /// The traced command.
    pub command: Vec<String>,
}

/// A line between the first and the last.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Event {
    pub ts: u64,
    pub pid: i32,
    pub tid: i32,
    pub comm: String,
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
pub enum What {
    Fault(Fault),
    Clone(Clone),
    Exec(Exec),
    Exit(Exit),
    Brk(Brk),
    Mmap(Range),
    Munmap(Range),
    Mprotect(Range),
    Mremap(Range),
    Madvise(Range),
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Fault {
    #[serde(deserialize_with = "hex")]
    pub addr: u64,
    #[serde(deserialize_with = "hex")]
    pub ip: u64,
    pub access: Access,
    pub mode: String,
    pub kind: String,
    pub region: String,
    pub part: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub file: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub offset: Option<u64>,
    pub page_size: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    pub pfn_before: Option<u64>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub pfn_after: Option<u64>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub counted: Option<String>,
    /// By how many ns the event's `ts` is later than the fault's beginning.
    #[serde(default)]
    pub late: u64,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Clone {
    pub call: String,
    pub thread: bool,
    pub child_pid: i32,
    pub child_tid: i32,
    pub flags: Vec<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub exit_signal: Option<i32>,
    pub shared: Shared,
}

/// What two tasks share: a name for each thing.
pub type Shared = BTreeMap<String, bool>;

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Exec {
    pub file: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub exe: Option<String>,
    pub args: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Exit {
    #[serde(deserialize_with = "Option::deserialize")]
    pub code: Option<i32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub signal: Option<i32>,
    pub thread: bool,
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
    /// Of mmap: "call" or "exec".
    pub by: Option<String>,
}

/// The last line.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct End {
    pub processes: Vec<Account>,
    pub total: Account,
    pub lost: BTreeMap<String, u64>,
}

/// The account of a process, or of all.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Account {
    pub pid: i32,
    pub comm: String,
    pub faults: BTreeMap<String, u64>,
    pub min_flt: i64,
    pub maj_flt: i64,
    pub unobserved: i64,
    pub unobserved_by: BTreeMap<String, i64>,
}

fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no address")))
}
