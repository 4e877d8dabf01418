//! The first line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Name;

/// The first thing that is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// The version of the JSON form.
    pub schema: u32,
    /// memtrace's own version.
    pub version: Name,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The program and its arguments; empty for an attach.
    pub command: Vec<String>,
    /// The processes that memtrace was attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<u32>,
    /// How page faults are observed: `tracepoints`, or `fentry`.
    pub backend: Name,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
    /// The same moment in nanoseconds of `CLOCK_REALTIME`, since 1970; 0 in a trace from before this was told.
    #[serde(default)]
    pub realtime: u64,
}
