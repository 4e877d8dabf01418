//! What the kernel side of memtrace and its user side agree on.
//!
//! The hooks (this package's binary) write [`record`]s; user space decodes them. [`layout`] is what user space
//! tells the hooks about the running kernel before they are loaded, [`control`] what it asks of them. [`fault`] holds the one function that gives a
//! fault its kind: user space calls it on each record, the hooks call it where they only count (`--summary`).
//!
//! Nothing here needs aya, the standard library or a kernel: it is plain data and arithmetic.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "what the hooks call must be part of them: a BPF function of its own takes five arguments at most"
)]

#[cfg(not(target_arch = "bpf"))]
extern crate alloc;

pub mod arch;
pub mod compat;
pub mod control;
pub mod fault;
pub mod layout;
pub mod pte;
pub mod record;
pub mod syscall;
