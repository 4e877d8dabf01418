//! Page faults, and what caused a copy.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Address, FaultKind};

/// A page fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    #[serde(serialize_with = "fault_kind")]
    pub kind: FaultKind,
    /// What the address belongs to.
    pub region: Region,
    /// In a library: which part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The mapped file.
    pub file: Option<Arc<str>>,
    /// The address's page's offset in the file, in bytes.
    pub offset: Option<u64>,
    /// Bytes of the page that is mapped now, or would be.
    pub page_size: u64,
    /// Frame before.
    pub pfn_before: Option<u64>,
    /// Frame after.
    pub pfn_after: Option<u64>,
    /// Whether the kernel counted it, and how.
    pub counted: Option<Counted>,
    /// The signal that it ended in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// For kind `other`: what is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'static str>,
    /// For a fault that was seen to be handled: how.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub handled: Option<Handled>,
    /// For a copy: why the page was shared, and with whom.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Cause>>,
    /// Set when the fault took so long that others had to be shown first: the nanoseconds by which `ts` is later
    /// than the fault's beginning.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn fault_kind<S: Serializer>(kind: &FaultKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// How memory was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Handled {
    /// Nanoseconds from the fault's beginning until the kernel had handled it; null when that was not seen.
    pub dur: Option<u64>,
    /// How often the kernel had to begin anew.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
    /// Nanoseconds in those attempts: waiting for a page to be read, or for a handler of userfaultfd.
    #[serde(skip_serializing_if = "is_zero")]
    pub waited: u64,
    /// Without an exception: the system call in which the kernel wanted the page, or [`NO_CALL`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<&'static str>,
    /// A page that is only read had to become nobody else's (`FAULT_FLAG_UNSHARE`).
    #[serde(skip_serializing_if = "is_false")]
    pub unshare: bool,
    /// The process whose memory it is, where that isn't the one that the fault was counted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
}

/// How the kernel counted a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// In `min_flt`.
    Minor,
    /// In `maj_flt`.
    Major,
}

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Rodata => "rodata",
            Self::Data => "data",
            Self::Bss => "bss",
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::ThreadStack => "thread-stack",
            Self::Anon => "anon",
            Self::File => "file",
            Self::Lib => "lib",
            Self::Shm => "shm",
            Self::Vdso => "vdso",
            Self::Unmapped => "unmapped",
            Self::Unknown => "unknown",
        }
    }
}

/// A part of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Rodata => "rodata",
            Self::Data => "data",
            Self::Bss => "bss",
        }
    }
}

/// Why a write had to copy a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "so it is called in JSON")]
pub struct Cause {
    /// What had made the page shared.
    pub cause: Because,
    /// The fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork: Option<ForkRef>,
    /// Traced processes that map the old frame on, the first of them if they are many.
    pub sharers: Vec<u32>,
    /// How many they are.
    pub sharer_count: u32,
    /// How many page-table entries mapped the old frame when the write came, the writer's own among them, by the
    /// kernel's count (`_mapcount` of `struct page`); null where it can't be read.
    pub map_count: Option<u32>,
}

/// What makes a private page shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
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

impl Because {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Reference => "reference",
            Self::ForkBefore => "fork-before",
            Self::PageCache => "page-cache",
            Self::Ksm => "ksm",
            Self::Unknown => "unknown",
        }
    }
}

/// A fork, as a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
