//! The offsets that the hooks need, from BTF; and what memtrace can't do without.

use std::path::Path;

use anyhow::{Result, bail};
use memtrace_ebpf::layout::Layout;

use super::{btf::Btf, require::version, same};

/// Members that some supported kernel lacks; the hooks do without them.
const OPTIONAL: &[&str] = &[
    "mm_anonymous",
    "mm_lock_seq",
    "task_io",
    "task_sysvsem",
    "signal_exec_task",
    "task_pending",
    "task_stack",
    "task_thread_pointer",
    "task_fault_code",
    "task_policy",
    "task_static_prio",
    "task_rt_priority",
    "files_table",
    "table_size",
    "table_files",
    "file_private",
    "inode_size",
    "inode_private",
    "nsproxy_time",
    "folio_entire_map_count",
    "page_entire_map_count",
    "page_double_map",
    "backing_mnt",
    "backing_dentry",
];

/// Members that stand in for each other, the newer ones first: a kernel that has all of one side lacks nothing.
const EITHER: [(&[&str], &[&str]); 2] = [
    // Linux 6.1.
    (&["mm_mt_root"], &["mm_rb_root", "vma_rb"]),
    // Linux 6.2.
    (
        &["folio_entire_map_count"],
        &["page_entire_map_count", "page_double_map"],
    ),
];

/// Enumerators that were macros before, of which BTF doesn't tell, and what they were then.
const MACROS: [(&str, u32); 4] = [
    // Linux 5.14 (`include/linux/mm.h` before).
    ("fault_flag_write", 0x1),
    ("fault_flag_user", 0x40),
    ("fault_flag_instruction", 0x100),
    // Linux 5.19: no fault had it before.
    ("fault_flag_unshare", 0),
];

/// A function of kernels whose hugetlbfs numbers the pages of a file one by one: until 6.7, which numbers them by what each
/// holds of 4 KiB ("mm/filemap: remove hugetlb special casing in filemap.c").
pub const ONE_BY_ONE: &str = "linear_hugepage_index";

/// The bits that may be `FMODE_BACKING` (`include/linux/fs.h`) of a kernel with this release. A macro, of which BTF doesn't
/// tell: it is of 6.5, and 6.14 moved it. Later releases of 6.12 have that, too.
pub fn backing_bits(release: &str) -> u32 {
    const FIRST: u32 = 1 << 25;
    const MOVED: u32 = 1 << 24;
    match version(release) {
        Some(version) if version < (6, 12) => FIRST,
        Some(version) if version < (6, 14) => FIRST | MOVED,
        _ => MOVED,
    }
}

/// What the type information holds of that which memtrace needs.
pub struct Types {
    /// The offsets and constants.
    pub numbers: Numbers,
    /// All of the types.
    pub btf: Btf,
}

/// The offsets and constants of a kernel.
pub struct Numbers {
    /// All of them.
    pub layout: Layout,
    /// How many are told.
    pub found: usize,
    /// Members that memtrace can't do without, and that aren't there: `mm_struct.pgd`.
    pub missing: Vec<String>,
    /// Members that the hooks do without.
    pub done_without: Vec<String>,
}

/// Reads all that memtrace needs from the running kernel's type information, or from a BTF file of it.
///
/// # Errors
/// It can't be read, the file is of another kernel, or the kernel lacks a member that memtrace can't do without: the
/// message names it.
pub fn read(file: Option<&Path>) -> Result<Types> {
    let types = look(file)?;
    if let Some(member) = types.numbers.missing.first() {
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
    Ok(Types {
        numbers: Numbers::told(|name, path| btf.number_of(name, path)),
        btf,
    })
}

impl Numbers {
    /// Those that are told by the name of a structure and a member's path, or of an enumeration and an enumerator.
    fn told(number_of: impl Fn(&str, &str) -> Option<u32>) -> Self {
        let mut layout = Layout::EMPTY;
        let mut found = 0;
        let mut absent = Vec::new();
        for (index, (field, structure, paths)) in Layout::MEMBERS.iter().enumerate() {
            let offset = paths.iter().find_map(|path| number_of(structure, path));
            if let Some(offset) = offset {
                layout.set(index, offset);
                found += 1;
            } else if let Some((_, number)) = MACROS.iter().find(|(name, _)| name == field) {
                layout.set(index, *number);
            } else {
                absent.push((*field, format!("{structure}.{}", paths.join(" or "))));
            }
        }
        for (newer, older) in EITHER {
            let is_whole = |side: &[&str]| !absent.iter().any(|(field, _)| side.contains(field));
            let unneeded = if is_whole(newer) {
                older
            } else if is_whole(older) {
                newer
            } else {
                continue;
            };
            absent.retain(|(field, _)| !unneeded.contains(field));
        }
        let (done_without, missing): (Vec<_>, Vec<_>) = absent
            .into_iter()
            .partition(|(field, _)| OPTIONAL.contains(field));
        let names = |members: Vec<(_, String)>| members.into_iter().map(|(_, name)| name).collect();
        Self {
            layout,
            found,
            missing: names(missing),
            done_without: names(done_without),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a kernel with all but these fields of [`Layout`].
    fn without(fields: &[&str]) -> Numbers {
        Numbers::told(|structure, path| {
            let is_it = |(_, name, paths): &&(&str, &str, &[&str])| {
                *name == structure && paths.contains(&path)
            };
            let (field, ..) = Layout::MEMBERS.iter().find(is_it).expect("one of them");
            (!fields.contains(field)).then_some(1)
        })
    }

    #[test]
    fn a_kernel_of_either_age_lacks_nothing() {
        let newer = without(&[
            "mm_rb_root",
            "vma_rb",
            "page_entire_map_count",
            "page_double_map",
        ]);
        let older = without(&["mm_mt_root", "folio_entire_map_count"]);
        for numbers in [newer, older] {
            assert!(numbers.missing.is_empty(), "{:?}", numbers.missing);
            assert!(
                numbers.done_without.is_empty(),
                "{:?}",
                numbers.done_without
            );
        }
    }

    #[test]
    fn a_kernel_of_neither_age_is_told_what_it_lacks() {
        let numbers = without(&[
            "mm_mt_root",
            "vma_rb",
            "folio_entire_map_count",
            "page_double_map",
        ]);
        assert_eq!(
            numbers.missing,
            ["mm_struct.mm_mt.ma_root", "vm_area_struct.vm_rb"]
        );
        assert_eq!(
            numbers.done_without,
            ["folio._entire_mapcount", "pageflags.PG_double_map"]
        );
    }

    #[test]
    fn macros_of_old_have_their_numbers() {
        let numbers = without(&["fault_flag_user", "fault_flag_unshare"]);
        assert_eq!(
            (
                numbers.layout.fault_flag_user,
                numbers.layout.fault_flag_unshare
            ),
            (0x40, 0)
        );
        assert!(numbers.missing.is_empty() && numbers.done_without.is_empty());
    }

    #[test]
    fn a_bit_that_was_moved_is_that_of_the_release() {
        for (release, bits) in [
            ("6.7.12", 1 << 25),
            ("6.12.48+deb13-amd64", 1 << 25 | 1 << 24),
            ("6.14.0", 1 << 24),
            ("7.3.1-cloud", 1 << 24),
            ("something", 1 << 24),
        ] {
            assert_eq!(backing_bits(release), bits, "{release}");
        }
    }

    #[test]
    fn what_is_needed_and_absent_is_named() {
        let numbers = without(&["task_state", "mm_lock_seq"]);
        assert_eq!(numbers.missing, ["task_struct.__state or state"]);
        assert_eq!(numbers.done_without, ["mm_struct.mm_lock_seq"]);
        assert_eq!(numbers.found, Layout::MEMBERS.len() - 2);
    }
}
