//! What the notes do not claim, and a course would want next: X1 and on.

use crate::lab::claim::Claim;

/// In the order of their numbers.
pub const CLAIMS: &[Claim] = &[];
