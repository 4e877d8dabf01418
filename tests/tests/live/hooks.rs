//! What memtrace has in the kernel.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, ensure};
use nix::unistd::Pid;
use tests::harness::wait_for;

/// A kind of thing, and its id: the BPF programs, maps and links of a process.
#[derive(Debug)]
pub struct Hooks(BTreeSet<(&'static str, u32)>);

impl Hooks {
    /// Those of a memtrace that traces; they are in the kernel.
    pub fn of(memtrace: Pid) -> Result<Self> {
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{memtrace}/fdinfo"))? {
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            for line in text.lines() {
                for kind in ["prog_id", "map_id", "link_id"] {
                    if let Some(id) = line.strip_prefix(kind).and_then(|id| id.strip_prefix(':')) {
                        held.insert((kind, id.trim().parse()?));
                    }
                }
            }
        }
        for kind in ["prog_id", "map_id"] {
            ensure!(
                held.iter().any(|(one, _)| *one == kind),
                "memtrace holds no {kind} while it traces"
            );
        }
        ensure!(held.is_subset(&all()), "{held:?} should be in the kernel");
        Ok(Self(held))
    }

    /// The ids of one kind.
    pub fn ids(&self, kind: &str) -> impl Iterator<Item = u32> {
        let of_kind = self.0.iter().filter(move |(one, _)| *one == kind);
        of_kind.map(|(_, id)| *id)
    }

    /// Waits until none of them is in the kernel any more: it lets go of them a little later.
    pub fn are_gone(&self) -> Result<()> {
        wait_for("the kernel to drop memtrace's programs and maps", || {
            Ok(self.0.is_disjoint(&all()).then_some(()))
        })
    }
}

/// All that is in the kernel. What goes while it is listed gives an error, and is left out.
fn all() -> BTreeSet<(&'static str, u32)> {
    let programs = aya::programs::loaded_programs().flatten();
    let maps = aya::maps::loaded_maps().flatten();
    let links = aya::programs::loaded_links().flatten();
    programs
        .map(|program| ("prog_id", program.id()))
        .chain(maps.map(|map| ("map_id", map.id())))
        .chain(links.map(|link| ("link_id", link.id())))
        .collect()
}
