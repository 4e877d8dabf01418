//! The offsets that the hooks need, from BTF; and what memtrace can't do without.

use std::path::Path;

use anyhow::{Result, bail};
use memtrace_ebpf::layout::Layout;

use super::btf::Btf;

/// Members that some supported kernel lacks; the hooks do without them.
const OPTIONAL: [&str; 16] = [
    // 6.1 and later have the first, those before the other two.
    "mm_mt_root",
    "mm_rb_root",
    "vma_rb",
    "mm_lock_seq",
    "task_io",
    "task_sysvsem",
    "task_stack",
    "task_thread_pointer",
    "task_fault_code",
    "task_policy",
    "task_static_prio",
    "task_rt_priority",
    "siginfo_code",
    "siginfo_address",
    "nsproxy_time",
    "folio_entire_map_count",
];

/// What the kernel's type information says.
pub struct Types {
    /// The offsets.
    pub layout: Layout,
    /// The id of the function that was asked for.
    pub function: Option<u32>,
}

/// Reads all offsets, and the id of a function, from the BTF file at `path`.
///
/// # Errors
/// The file can't be read, or the kernel lacks a member that memtrace can't do without: the message names it.
pub fn read(path: &Path, function: &str) -> Result<Types> {
    let mut structures: Vec<&str> = Layout::MEMBERS.iter().map(|(_, name, _)| *name).collect();
    structures.dedup();
    let btf = Btf::open(path, &structures)?;
    let mut layout = Layout::EMPTY;
    for (index, (field, structure, paths)) in Layout::MEMBERS.iter().enumerate() {
        let offset = paths.iter().find_map(|path| btf.offset_of(structure, path));
        match offset {
            Some(offset) => layout.set(index, offset),
            None if OPTIONAL.contains(field) => {}
            None => bail!(
                "this kernel's struct {structure} has no member {}: memtrace doesn't know this kernel (supported: 6.1 and later, x86-64 and arm64)",
                paths.join(" or ")
            ),
        }
    }
    Ok(Types {
        layout,
        function: btf.function(function),
    })
}
