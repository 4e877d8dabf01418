//! tracefs, for the peers that need it.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where the tools look for it.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Mounts it for this program, and for what it starts, alone: the machine is left as it is. Where it is mounted there is nothing
/// to do.
pub(super) fn provide() -> Result<()> {
    if PLACES
        .iter()
        .any(|place| Path::new(place).join("events").exists())
    {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("no namespace of mounts of its own")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("the mounts can't be kept apart")?;
    mount(
        Some("tracefs"),
        PLACES[0],
        Some("tracefs"),
        MsFlags::empty(),
        none,
    )
    .with_context(|| format!("tracefs can't be mounted on {}", PLACES[0]))
}
