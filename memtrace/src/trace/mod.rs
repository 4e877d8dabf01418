//! From records to events: the model of what is traced. Pure: it reads no clock, no file, no kernel.

mod account;
mod call;
pub mod event;
mod fault;
mod files;
pub mod model;
mod names;
pub mod order;
pub mod record;
mod region;
#[cfg(test)]
mod tests;
