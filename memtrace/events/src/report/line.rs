//! A line of a trace in JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{End, Event, Start};

/// A line: the first, the last, or one between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Line {
    /// The first.
    Start(Start),
    /// The last.
    End(End),
    /// One between them.
    #[serde(untagged)]
    Event(Event),
}
