//! Page faults, and what caused a copy.

use serde::Deserialize;

use super::hex;
use crate::subject::report::Access;

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
    /// Of what is not known in full.
    pub detail: Option<String>,
    /// By how many ns the event's `ts` is later than the fault's beginning.
    #[serde(default)]
    pub late: u64,
    /// With fentry: how long the fault took.
    pub dur: Option<u64>,
    /// With fentry, if there were any.
    pub retries: Option<u64>,
    /// With fentry, if there were retries.
    pub waited: Option<u64>,
    /// In mode `gup`.
    pub call: Option<String>,
    #[serde(default)]
    pub unshare: bool,
    /// Where the memory is another process's.
    pub owner: Option<i32>,
    /// Of a copy, and of nothing else.
    #[serde(flatten)]
    pub cause: Option<Cause>,
}

/// Why a write had to copy a page.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct Cause {
    pub cause: String,
    pub fork: Option<ForkRef>,
    pub sharers: Vec<i32>,
    pub sharer_count: usize,
    #[serde(deserialize_with = "Option::deserialize")]
    pub map_count: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the schema describes them")]
pub struct ForkRef {
    pub number: u32,
    pub parent: i32,
    pub child: i32,
    pub ago: u64,
}
