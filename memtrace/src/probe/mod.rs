//! The kernel side, from here: loading and attaching the hooks, and reading what they write.

mod adopt;
mod backend;
mod direct_map;
mod load;
mod log;
mod read;

pub use backend::Backend;
pub use load::{Options, Probe, Traced};
pub use read::Reader;
