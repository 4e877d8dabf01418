//! The kernel side, from here: loading and attaching the hooks, and reading what they write.

mod adopt;
mod backend;
mod call;
mod direct_map;
mod ends;
mod fault_log;
mod hooks;
mod kfunc;
mod live;
mod load;
mod log;
mod missed;
mod object;
mod preempt;
mod read;
mod threads;
mod timer;

pub use adopt::{Adoption, Part};
pub use backend::{Backend, FUNCTION, prefers_tracepoints};
pub use hooks::tracepoints;
pub use live::Live;
pub use load::{Options, Probe, Traced, locate_direct_map};
pub use preempt::Functions as Undisturbed;
