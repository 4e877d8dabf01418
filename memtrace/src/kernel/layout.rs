//! The offsets that the hooks need, from BTF; and what memtrace can't do without.

use std::path::Path;

use anyhow::{Result, bail};
use memtrace_ebpf::layout::Layout;

use super::{btf::Btf, same};

/// Members that some supported kernel lacks; the hooks do without them.
const OPTIONAL: [&str; 18] = [
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
    // The same: 6.2 and later, and before.
    "folio_entire_map_count",
    "page_entire_map_count",
    "page_double_map",
];

/// What the type information holds of that which memtrace needs.
pub struct Types {
    /// The offsets.
    pub layout: Layout,
    /// How many of them are there.
    pub found: usize,
    /// Members that memtrace can't do without, and that aren't there: `mm_struct.pgd`.
    pub missing: Vec<String>,
    /// Members that the hooks do without.
    pub done_without: Vec<String>,
    /// All of the types.
    pub btf: Btf,
}

/// Reads all that memtrace needs from the running kernel's type information, or from a BTF file of it.
///
/// # Errors
/// It can't be read, the file is of another kernel, or the kernel lacks a member that memtrace can't do without: the
/// message names it.
pub fn read(file: Option<&Path>) -> Result<Types> {
    let types = look(file)?;
    if let Some(member) = types.missing.first() {
        bail!(
            "this kernel's types have no {member}: memtrace doesn't know this kernel (it knows Linux 5.10 to 7.3)"
        );
    }
    Ok(types)
}

/// The same, whatever is missing.
///
/// # Errors
/// It can't be read, or the file is of another kernel.
pub fn look(file: Option<&Path>) -> Result<Types> {
    let mut structures: Vec<&str> = Layout::MEMBERS.iter().map(|(_, name, _)| *name).collect();
    structures.dedup();
    let btf = match file {
        None => Btf::running(&structures)?,
        Some(path) => {
            let btf = Btf::file(path, &structures)?;
            same::require(path, &btf, Btf::running(&structures).ok().as_ref())?;
            btf
        }
    };
    Ok(types_in(btf))
}

fn types_in(btf: Btf) -> Types {
    let mut types = Types {
        layout: Layout::EMPTY,
        found: 0,
        missing: Vec::new(),
        done_without: Vec::new(),
        btf,
    };
    for (index, (field, structure, paths)) in Layout::MEMBERS.iter().enumerate() {
        let offset = paths
            .iter()
            .find_map(|path| types.btf.number_of(structure, path));
        if let Some(offset) = offset {
            types.layout.set(index, offset);
            types.found += 1;
            continue;
        }
        let list = if OPTIONAL.contains(field) {
            &mut types.done_without
        } else {
            &mut types.missing
        };
        list.push(format!("{structure}.{}", paths.join(" or ")));
    }
    types
}
