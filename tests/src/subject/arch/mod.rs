//! What the subjects do otherwise on each architecture: a file for each, with the same names in it.

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod native;

pub use native::*;
