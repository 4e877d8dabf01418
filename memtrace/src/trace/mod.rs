//! From records to events: the model of what is traced. Pure: it reads no clock, no file, no kernel.

pub mod event;
pub mod record;
