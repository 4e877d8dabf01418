//! Pages that the kernel wants itself, and has faulted in without an exception.

use anyhow::Result;
use nix::unistd::{Pid, getpid, gettid};
use serde::{Deserialize, Serialize};

use super::memory::frame_of;
use super::report::note;
use super::witness::now;

/// Pages that a system call had the kernel want.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    /// The system call.
    pub call: String,
    /// Who made it.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Whose memory it is.
    pub owner: u32,
    /// Of each page its address, and its frame before and after, by pagemap.
    pub pages: Vec<(u64, Option<u64>, Option<u64>)>,
    /// When it began, in ns of `CLOCK_MONOTONIC`.
    pub from: u64,
    /// When it was over.
    pub until: u64,
}

/// Makes a system call that has the kernel want the pages at `addrs` of `owner`'s, and reports them in a note `name`.
pub fn wanted(
    name: &str,
    call: &str,
    owner: Pid,
    addrs: &[u64],
    make: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let frames = || addrs.iter().map(|&addr| frame_of(owner, addr));
    let before = frames().collect::<Result<Vec<_>>>()?;
    let from = now()?;
    make()?;
    let until = now()?;
    let after = frames().collect::<Result<Vec<_>>>()?;
    let pages = addrs.iter().zip(before).zip(after);
    let wanted = Wanted {
        call: call.to_owned(),
        pid: getpid().as_raw() as u32,
        tid: gettid().as_raw() as u32,
        owner: owner.as_raw() as u32,
        pages: pages
            .map(|((&addr, before), after)| (addr, before, after))
            .collect(),
        from,
        until,
    };
    note(name, serde_json::to_value(wanted)?)
}
