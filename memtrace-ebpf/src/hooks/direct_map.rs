//! Where the kernel's direct map of all memory is, and what else is found out at start.

use aya_ebpf::{macros::map, maps::Array};
use memtrace_ebpf::control::DirectMap;

/// User space and [`crate::hooks::find_direct_map`] fill it in before any trace.
#[map]
static DIRECT_MAP: Array<DirectMap> = Array::with_max_entries(1, 0);

/// The direct map, if it has been found.
#[inline(always)]
pub(crate) fn direct_map() -> Option<&'static mut DirectMap> {
    let slot = DIRECT_MAP.get_ptr_mut(0)?;
    // SAFETY: the map gives a valid pointer. What may change once other hooks are attached are single words, each true at any time.
    Some(unsafe { &mut *slot })
}
