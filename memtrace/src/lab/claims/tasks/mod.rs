//! Processes and threads: T1 to T9.

use crate::lab::claim::Claim;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[];
