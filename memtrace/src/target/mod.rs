//! The program under trace: it is started here, as the user who wants it run, and behaves as it would without memtrace.

mod inherit;
mod signals;
mod spawn;
pub mod status;
mod user;

pub use inherit::Inherited;
pub use signals::{Interrupt, Signals};
pub use spawn::{SpawnError, spawn};
pub use user::{Credentials, require_root};
