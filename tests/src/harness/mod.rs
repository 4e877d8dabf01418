//! Runs memtrace on a program and reads what it says.

mod check;
mod event;
mod expect;
mod memtrace;
mod redis;
mod run;
mod trace;
pub mod truth;

pub use event::*;
pub use expect::Seen;
pub use memtrace::{Memtrace, subject};
pub use redis::{Redis, RedisServer};
pub use run::{Run, Running, command, untraced, wait_for};
pub use trace::Trace;
