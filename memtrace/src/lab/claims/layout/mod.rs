//! The layout of a process's memory: L1 to L14.

use crate::lab::claim::Claim;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[];
