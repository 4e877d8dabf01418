//! What is traced: a program that is started here, as the user who wants it run, and behaves as it would without
//! memtrace; or processes that exist.

mod bss;
mod existing;
mod inherit;
mod signals;
mod spawn;
pub mod status;
mod user;

pub use bss::bss;
pub use existing::{traceable, with_descendants};
pub use inherit::{Inherited, hurry};
pub use signals::{Interrupt, Signals};
pub use spawn::{SpawnError, spawn};
pub use user::{Credentials, require_root};
