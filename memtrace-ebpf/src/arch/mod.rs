//! What memtrace knows of processors: a file for each architecture, all with the same names in it. Those of the
//! architecture that is built for are the names of this module; nothing else says what an entry's bits mean, what a system call's
//! number is, or what a register is called.
//!
//! Functions of an entry give 0 or 1 without a branch: the verifier would follow each way.

pub mod aarch64;
pub mod error_code;
pub mod x86_64;

#[cfg(any(bpf_target_arch = "aarch64", target_arch = "aarch64"))]
pub use aarch64::*;
#[cfg(any(bpf_target_arch = "x86_64", target_arch = "x86_64"))]
pub use x86_64::*;

/// The number of an address's page, whatever tag a user's has in its upper byte.
#[inline(always)]
pub const fn page(address: u64) -> u64 {
    address << 8 >> (8 + 12)
}

#[cfg(test)]
mod tests;
