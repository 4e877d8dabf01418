//! The hooks as they were built: two BPF objects of the same source.

use aya::include_bytes_aligned;

/// For a kernel that lets hooks load from its memory directly.
pub(super) static DIRECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe-direct"));
/// For one where a helper must read it.
pub(super) static BY_HELPERS: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe-by-helpers"));
