//! fork, vfork, clone, exec: F1 to F18.

use crate::lab::claim::Claim;

mod f09;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[f09::CLAIM];
