//! Has the kernel side find the direct map: see the hook of the same name.

use anyhow::{Result, bail, ensure};
use aya::maps::{Array, MapData};
use memtrace_ebpf::control::{DirectMap, PROBE_MAGIC};

use super::call::ask;
use crate::kernel::zero_page::Sample;

/// The words of a [`DirectMap`].
pub const WORDS: usize = size_of::<DirectMap>() / 8;
/// GiB below `mm->pgd` that are tried: more than any machine's memory.
const LIMIT: u64 = 1 << 16;
/// The hook.
pub(super) const FIND_DIRECT_MAP: &str = "find_direct_map";

/// Tells all hooks to do nothing more.
///
/// # Errors
/// The kernel refuses it.
pub fn stop(map: &mut Array<&mut MapData, [u64; WORDS]>) -> Result<()> {
    let mut known: DirectMap = bytemuck::cast(map.get(&0, 0)?);
    known.stopped = 1;
    Ok(map.set(0, bytemuck::cast::<_, [u64; WORDS]>(known), 0)?)
}

/// Calls the hook until it has found the direct map, which comes back. It must be attached.
///
/// # Errors
/// No base is right: this kernel's page tables are not where memtrace looks for them.
pub fn find(map: &Array<&mut MapData, [u64; WORDS]>, sample: &Sample) -> Result<DirectMap> {
    let mut first = 0;
    while first < LIMIT {
        let magic = PROBE_MAGIC ^ sample.frames[0];
        let found = ask(FIND_DIRECT_MAP, [magic, first, sample.address(), 0], || {
            let found: DirectMap = bytemuck::cast(map.get(&0, 0)?);
            Ok((found.levels != 0 || found.untried > first).then_some(found))
        })?;
        if found.levels != 0 {
            ensure!(
                found.vmemmap != 0,
                "the kernel's array of struct page wasn't found: memtrace doesn't know this kernel's memory model (it needs CONFIG_SPARSEMEM_VMEMMAP)"
            );
            return Ok(found);
        }
        first = found.untried;
    }
    bail!(
        "the kernel's direct map wasn't found, so page tables can't be read (a kernel locked down for confidentiality refuses it: boot without lockdown=confidentiality)"
    )
}
