//! Runs memtrace on a program and reads what it says.

mod attach;
mod calls;
mod check;
mod expect;
mod memtrace;
pub mod proc;
mod redis;
mod run;
mod trace;
pub mod truth;

pub use attach::{AttachTarget, Attached};
pub use expect::{MatchedFault, faults_as_counted};
pub use memtrace::{Memtrace, subject, subject_command};
pub use redis::{HeldSave, Redis, RedisServer, TracedSave};
pub use run::{Run, Running, command, untraced, wait_for, within};
pub use trace::{OneTrace, Trace, without};
