//! What memtrace must know about the running kernel before it can look at it.

pub mod btf;
pub mod clock;
pub mod fentry;
pub mod layout;
pub mod zero_page;
