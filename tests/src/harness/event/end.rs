//! The last line: the accounts.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The last line.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct End {
    pub processes: Vec<Account>,
    pub total: Account,
    pub lost: BTreeMap<String, u64>,
    pub missed: BTreeMap<String, u64>,
    pub forks: Vec<ForkAccount>,
    pub tasks: Vec<Life>,
    pub tasks_left_out: u64,
    pub late: u64,
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
    #[serde(default)]
    pub before_exec: i64,
    #[serde(default)]
    pub incomplete: bool,
}

/// What became of the pages that a fork left shared.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct ForkAccount {
    pub number: u32,
    pub ts: u64,
    pub parent: i32,
    pub parent_comm: String,
    pub child: i32,
    pub child_comm: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub dur: Option<u64>,
    pub table_bytes: u64,
    pub swapped: u64,
    pub pages: u64,
    pub by_child: u64,
    pub by_parent: u64,
    pub by_others: u64,
    pub before_exec: u64,
    pub execed: bool,
    pub at_once: u64,
    pub taken_over: u64,
    pub given_up: GivenUp,
    pub still_shared: u64,
    pub unknown: u64,
    pub unseen: u64,
    pub copied_again: u64,
    pub not_surveyed: Option<super::NotSurveyed>,
    #[serde(default)]
    pub incomplete: bool,
    pub areas: Vec<Area>,
}

/// Pages that were given up, by how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct GivenUp {
    pub exec: u64,
    pub exit: u64,
    pub munmap: u64,
}

/// A part of a fork's account.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Area {
    pub region: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub file: Option<String>,
    pub pages: u64,
    pub copied: u64,
    pub taken_over: u64,
    pub given_up: u64,
    pub still_shared: u64,
    pub unknown: u64,
}

/// A task with the objects that it used.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Life {
    pub number: usize,
    pub pid: i32,
    pub tid: i32,
    /// Its id until an exec changed it.
    pub born_tid: Option<i32>,
    pub global_pid: Option<i32>,
    pub global_tid: Option<i32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub parent: Option<i32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub parent_number: Option<usize>,
    pub comm: String,
    pub from: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    pub until: Option<u64>,
    pub uses: Vec<Use>,
}

/// A task's use of an object.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Use {
    pub kind: String,
    pub number: u32,
    pub from: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    pub until: Option<u64>,
}
