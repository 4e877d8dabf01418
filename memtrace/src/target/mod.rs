//! What is traced: a program that is started here, as the user who wants it run, and behaves as it would without
//! memtrace; or processes that exist.

mod bss;
mod early;
mod existing;
mod inherit;
mod interpreter;
mod interrupt;
mod mask;
mod signals;
mod spawn;
pub mod status;
mod stops;
pub mod terminal;
mod user;

pub use bss::bss;
pub use early::{end_at_signals, keep_signals};
pub use existing::{traceable, with_descendants};
pub use inherit::{Inherited, hurry, outlive_limits};
pub use interpreter::interpreters;
pub use interrupt::{Interrupt, ReceivedSignal, STOP};
pub use mask::Mask;
pub use signals::{Signals, are_waiting};
pub use spawn::{SpawnError, program, spawn};
pub use stops::{Stops, guard};
pub use user::{Credentials, require_root};
