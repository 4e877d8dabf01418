//! Births, execs, ends of tasks, and the objects that they share. Objects go by the names of their kinds.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::hex;

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
    /// Of a process: whose child it is.
    pub ppid: Option<i32>,
    pub shared: Shared,
    /// The child's ids in the initial pid namespace, where they are others there.
    pub child_global_pid: Option<i32>,
    pub child_global_tid: Option<i32>,
    pub objects: BTreeMap<String, Row>,
    /// Of a clone that copied the address space: its number.
    pub fork: Option<u32>,
    /// And what it copied.
    pub copied: Option<Copied>,
    pub followed: bool,
}

/// What a clone did about one kind of object; the objects by number.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Row {
    #[serde(deserialize_with = "Option::deserialize")]
    pub parent: Option<u32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub child: Option<u32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub asked: Option<String>,
    pub got: String,
    pub note: Option<String>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Copied {
    pub pages: u64,
    pub at_once: u64,
    pub swapped: u64,
    pub table_bytes: u64,
    pub not_surveyed: Option<NotSurveyed>,
}

/// What a survey at a fork left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct NotSurveyed {
    #[serde(deserialize_with = "hex")]
    pub from: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    pub pages: Option<u64>,
}

/// A clone has returned in the parent.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Cloned {
    pub child_pid: i32,
    pub child_tid: i32,
    pub fork: Option<u32>,
    pub dur: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    pub first: Option<String>,
    pub held: Option<u64>,
    pub let_go: Option<String>,
}

/// A task was there at attach.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Task {
    pub ppid: i32,
    pub objects: BTreeMap<String, u32>,
    pub resident: Option<u64>,
    pub private: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Share {
    pub by: String,
    pub objects: BTreeMap<String, Joined>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Joined {
    pub number: u32,
    pub with: Vec<i32>,
    pub with_count: usize,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Unshare {
    pub by: String,
    pub objects: BTreeMap<String, Left>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Left {
    pub number: u32,
    #[serde(deserialize_with = "Option::deserialize")]
    pub now: Option<u32>,
    pub since: u64,
    pub with: Vec<i32>,
    pub with_count: usize,
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
    /// The thread's id before, where the exec changed it.
    pub old_tid: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Exit {
    #[serde(deserialize_with = "Option::deserialize")]
    pub code: Option<i32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub signal: Option<i32>,
    #[serde(default)]
    pub core: bool,
    pub thread: bool,
    /// The thread whose exec ended it.
    pub by_exec: Option<i32>,
}
