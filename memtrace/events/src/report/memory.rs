//! Changes of an address space.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Address, Name, Region};

/// The heap's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Brk {
    /// Before.
    pub old: Address,
    /// After; the same when it was only asked for, or refused.
    pub new: Address,
}

/// Who mapped something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A system call.
    Call,
    /// The kernel, at an exec.
    Exec,
    /// It was there when memtrace attached.
    Attach,
}

/// Memory was mapped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mmap {
    /// Where it is; where it was wanted, when the call failed.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// `PROT_*` by name; empty for none.
    pub prot: Vec<Arc<str>>,
    /// `MAP_*` by name, unknown ones as a number.
    pub flags: Vec<Arc<str>>,
    /// The file.
    #[serde(deserialize_with = "Option::deserialize")]
    pub file: Option<Arc<str>>,
    /// Offset in the file in bytes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub offset: Option<u64>,
    /// The address, or a negative errno.
    pub ret: Returned,
    /// Who did it.
    pub by: By,
    /// Mapped by exec, or there at attach: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// There at attach: pages of 4 KiB that are present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// There at attach: pages among them that are private (anonymous).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<u64>,
}

/// What a call that gives an address returned: an address, or a negative errno as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Returned {
    /// It worked.
    Address(Address),
    /// The negative errno.
    Error(i64),
}

/// A call on a range: munmap, mseal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// First address.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// Protection was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mprotect {
    /// First address.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// `PROT_*` by name; empty for none.
    pub prot: Vec<Arc<str>>,
    /// The call, where it is another: `pkey_mprotect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Name>,
    /// Its protection key; -1 for what mprotect takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkey: Option<i32>,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// A mapping was moved or its size changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mremap {
    /// Where it was.
    pub addr: Address,
    /// Bytes before.
    pub old_len: u64,
    /// Bytes wanted.
    pub len: u64,
    /// `MREMAP_*` by name.
    pub flags: Vec<Arc<str>>,
    /// Where it is, or a negative errno.
    pub ret: Returned,
}

/// Advice was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Madvise {
    /// First address.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// `MADV_*` by name, or a number.
    pub advice: Arc<str>,
    /// The call, where it is another: `process_madvise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Name>,
    /// The process whose memory it is about; none for the caller's by madvise, and where it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// System V shared memory was attached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shmat {
    /// Where it is; where it was wanted, when the call failed.
    pub addr: Address,
    /// Bytes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub len: Option<u64>,
    /// The segment's id.
    pub id: i32,
    /// `SHM_*` by name.
    pub flags: Vec<Arc<str>>,
    /// The address, or a negative errno.
    pub ret: Returned,
}

/// System V shared memory was detached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shmdt {
    /// First address.
    pub addr: Address,
    /// Bytes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub len: Option<u64>,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// A shared mapping shows other parts of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RemapFilePages {
    /// First address.
    pub addr: Address,
    /// Bytes.
    pub len: u64,
    /// Offset in the file in bytes.
    pub offset: u64,
    /// `MAP_*` by name.
    pub flags: Vec<Arc<str>>,
    /// 0 or a negative errno.
    pub ret: i64,
}

/// Memory was locked, or may be paged again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lock {
    /// The call: `mlock`, `mlock2`, `mlockall`, `munlock`, `munlockall`.
    pub call: Name,
    /// First address; none for all memory.
    #[serde(deserialize_with = "Option::deserialize")]
    pub addr: Option<Address>,
    /// Bytes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub len: Option<u64>,
    /// `MLOCK_*` or `MCL_*` by name.
    pub flags: Vec<Arc<str>>,
    /// 0 or a negative errno.
    pub ret: i64,
}
