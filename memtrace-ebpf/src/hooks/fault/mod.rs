//! Page faults, from where they begin to where they are seen to be over.
//!
//! With tracepoints alone nothing says when a fault ends. But the next thing that a thread does comes after: its next
//! fault, its next system call or the return from one, its end. There the page-table entry is read again. A thread
//! that does none of these is looked at by the tick.
//!
//! The hooks on exceptions ([`exception`]), on the kernel's function that handles faults ([`handled`]) and on signals
//! ([`signal`]) note a fault that [begins](begin) in the thread's state, with what is at its [`address`]. All hooks may [`end`] it:
//! then it is [counted](count), and [sent](emit) if it is to be.

pub(crate) mod address;
pub(crate) mod begin;
pub(crate) mod count;
pub(crate) mod emit;
pub(crate) mod end;
pub(crate) mod exception;
pub(crate) mod handled;
pub(crate) mod kind;
pub(crate) mod signal;
