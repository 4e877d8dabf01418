//! Events that only the lab gets: how a task came to be, who has a CPU when, and what a call that makes a task returns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Address, Name};

/// More of a birth: it follows its [`super::Clone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BirthDetail {
    /// The child's process.
    pub child_pid: u32,
    /// The child's thread.
    pub child_tid: u32,
    /// The `task_struct` of each.
    pub task: Both,
    /// The kernel stack of each.
    pub kernel_stack: Both,
    /// Return addresses in the kernel, the innermost first.
    pub callers: Vec<Address>,
}

/// The numbers of an object of the parent's and of one of the child's; none where the kernel doesn't tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Both {
    /// The parent's.
    #[serde(deserialize_with = "Option::deserialize")]
    pub parent: Option<u32>,
    /// The child's.
    #[serde(deserialize_with = "Option::deserialize")]
    pub child: Option<u32>,
}

/// A thread gets a CPU. What the kernel doesn't tell is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchIn {
    /// The CPU.
    pub cpu: u32,
    /// Its `task_struct`.
    #[serde(deserialize_with = "Option::deserialize")]
    pub task: Option<u32>,
    /// Its kernel stack.
    #[serde(deserialize_with = "Option::deserialize")]
    pub kernel_stack: Option<u32>,
    /// Its address space; none, too, while an exec replaces it, and at the end.
    #[serde(deserialize_with = "Option::deserialize")]
    pub mm: Option<u32>,
    /// Its thread pointer: where its thread-local data are.
    pub tls: Address,
    /// `SCHED_OTHER` and the like.
    #[serde(deserialize_with = "Option::deserialize")]
    pub policy: Option<Name>,
    /// Its nice value.
    #[serde(deserialize_with = "Option::deserialize")]
    pub nice: Option<i32>,
    /// Its priority under `SCHED_FIFO` and `SCHED_RR`; 0 under others.
    pub rt_priority: u32,
}

/// A thread leaves its CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchOut {
    /// The CPU.
    pub cpu: u32,
    /// Whether it could go on, but another had to run. If not it waits for something, or has ended.
    pub runnable: bool,
}

/// A call that makes a task returns to user mode, in one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Return {
    /// `fork`, `vfork`, `clone` or `clone3`.
    pub call: Name,
    /// Whether it is the child.
    pub in_child: bool,
    /// What it returns.
    pub ret: i64,
    /// The instruction that it returns to.
    pub ip: Address,
}
