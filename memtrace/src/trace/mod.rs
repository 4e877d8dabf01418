//! From records to events: the model of what is traced. Pure: it reads no clock, no file, no kernel.

pub mod account;
mod bss;
mod call;
mod fault;
mod files;
mod lives;
mod losses;
mod matrix;
pub mod model;
mod names;
mod objects;
pub mod order;
mod ranges;
mod region;
pub mod sharing;
#[cfg(test)]
mod tests;

pub use memtrace_events as event;
