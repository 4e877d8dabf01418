//! Records that the lab alone asks for ([`crate::control::Config::detail`]).

use bytemuck::{Pod, Zeroable};

use super::Header;

/// Return addresses that a [`BirthDetail`] has, at the most.
pub const CALLERS: usize = 16;

/// More of a birth, at the same time as its [`super::Birth`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BirthDetail {
    /// Time, and the parent thread.
    pub head: Header,
    /// The child's thread.
    pub child_tid: u32,
    /// How many of the callers are known.
    pub depth: u32,
    /// The parent's and the child's `task_struct`.
    pub tasks: [u64; 2],
    /// The parent's and the child's kernel stack; 0 where this kernel doesn't tell.
    pub stacks: [u64; 2],
    /// Return addresses in the kernel, the innermost first.
    pub callers: [u64; CALLERS],
}

/// A thread gets the CPU of [`Header::cpu`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SwitchIn {
    /// Time and thread.
    pub head: Header,
    /// Its `task_struct`.
    pub task: u64,
    /// Its kernel stack.
    pub stack: u64,
    /// Its address space.
    pub mm: u64,
    /// Its thread pointer.
    pub thread_pointer: u64,
    /// Its priority by its nice value, 120 for nice 0; 0 where this kernel doesn't tell.
    pub static_prio: i32,
    /// Its priority under `SCHED_FIFO` and `SCHED_RR`; 0 under others.
    pub rt_priority: u32,
    /// `SCHED_*`
    pub policy: u32,
    /// Not used.
    pub pad: u32,
}

/// In [`Header::flags`] of a [`SwitchOut`]: it could go on, another had to run. Otherwise it waits for something, or has ended.
pub const SWITCH_OUT_RUNNABLE: u8 = 1 << 0;

/// A thread leaves its CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SwitchOut {
    /// Time and thread.
    pub head: Header,
}
