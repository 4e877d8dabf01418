//! Page faults, and what caused a copy.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::{Address, FaultKind, Name};

/// A page fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// The address that was accessed.
    pub addr: Address,
    /// The instruction that accessed it.
    pub ip: Address,
    /// How it was accessed.
    pub access: Access,
    /// Whether the program itself or the kernel for it made the access.
    pub mode: Mode,
    /// What the kernel did about it.
    pub kind: FaultKind,
    /// What the address belongs to.
    pub region: Region,
    /// In a library: which part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The mapped file.
    #[serde(deserialize_with = "Option::deserialize")]
    pub file: Option<Arc<str>>,
    /// The address's page's offset in the file, in bytes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub offset: Option<u64>,
    /// Bytes of the page that is mapped now, or would be.
    pub page_size: u64,
    /// Frame before.
    #[serde(deserialize_with = "Option::deserialize")]
    pub pfn_before: Option<u64>,
    /// Frame after.
    #[serde(deserialize_with = "Option::deserialize")]
    pub pfn_after: Option<u64>,
    /// Whether the kernel counted it, and how.
    #[serde(deserialize_with = "Option::deserialize")]
    pub counted: Option<Counted>,
    /// The signal that it ended in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// For kind `other`: what is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Name>,
    /// For a fault that was seen to be handled: how.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub handled: Option<Handled>,
    /// For a copy: why the page was shared, and with whom.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Cause>>,
    /// Set when the fault took so long that others had to be shown first: the nanoseconds by which `ts` is later
    /// than the fault's beginning.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub late: u64,
}

/// How memory was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Exec,
}

/// Who made an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The program.
    User,
    /// The kernel, for the program.
    Kernel,
    /// Nobody: there was no exception. The kernel wanted the page itself (`get_user_pages`).
    Gup,
}

/// Stands for the name of a system call, outside of any.
pub const NO_CALL: &str = "kernel";

/// What is known of a fault where `handle_mm_fault` is hooked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Handled {
    /// Nanoseconds from the fault's beginning until the kernel had handled it; null when that was not seen.
    #[serde(deserialize_with = "Option::deserialize")]
    pub dur: Option<u64>,
    /// How often the kernel had to begin anew.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub retries: u64,
    /// Nanoseconds in those attempts: waiting for a page to be read, or for a handler of userfaultfd.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub waited: u64,
    /// Without an exception: the system call in which the kernel wanted the page, or [`NO_CALL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Name>,
    /// A page that is only read had to become nobody else's (`FAULT_FLAG_UNSHARE`).
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub unshare: bool,
    /// The process whose memory it is, where that isn't the one that the fault was counted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
}

/// How the kernel counted a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// In `min_flt`.
    Minor,
    /// In `maj_flt`.
    Major,
}

/// What an address belongs to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// The program's code.
    Text,
    /// The program's constants.
    Rodata,
    /// The program's initialised data.
    Data,
    /// The program's zeroed data.
    Bss,
    /// The memory below the program break.
    Heap,
    /// The first thread's stack.
    Stack,
    /// Another thread's stack.
    ThreadStack,
    /// Private anonymous memory.
    Anon,
    /// A mapped file.
    File,
    /// A shared library, the dynamic linker included.
    Lib,
    /// Shared memory.
    Shm,
    /// The kernel's own pages for programs: vdso and vvar.
    Vdso,
    /// Nothing is mapped there.
    Unmapped,
    /// The record that says what is mapped there was lost, or could not be read.
    Unknown,
}

impl Region {
    /// Its name in text.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A part of a library.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Code.
    Text,
    /// Constants.
    Rodata,
    /// Initialised data.
    Data,
    /// Zeroed data.
    Bss,
}

impl Part {
    /// Its name in text.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a write had to copy a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// What had made the page shared.
    pub cause: CowCause,
    /// The fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<ForkRef>,
    /// Traced processes that map the old frame on, the first of them if they are many.
    pub sharers: Vec<u32>,
    /// How many they are.
    pub sharer_count: u32,
    /// How many page-table entries mapped the old frame when the write came, the writer's own among them, by the
    /// kernel's count (`_mapcount` of `struct page`); null where it can't be read.
    #[serde(deserialize_with = "Option::deserialize")]
    pub map_count: Option<u32>,
}

/// What makes a private page shared.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum CowCause {
    /// A fork that was traced.
    Fork,
    /// Nobody shares it any more since a fork; but the kernel, or a device, held a reference to it.
    Reference,
    /// A fork before the trace.
    ForkBefore,
    /// It is a page of the page cache: a private mapping of a file.
    PageCache,
    /// KSM had merged it with an equal page.
    Ksm,
    /// None of these is known to have.
    Unknown,
}

impl CowCause {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A fork, as a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Fork")]
pub struct ForkRef {
    /// Counts the forks of the trace that copied an address space, from 1.
    pub number: u32,
    /// The process that forked.
    pub parent: u32,
    /// The process that it made.
    pub child: u32,
    /// Nanoseconds since.
    pub ago: u64,
}
