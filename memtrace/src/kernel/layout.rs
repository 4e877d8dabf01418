//! The offsets that the hooks need, from BTF; and what memtrace can't do without.

use std::path::Path;

use anyhow::{Result, bail};
use memtrace_ebpf::layout::{Fallback, Layout, Member};

use super::{
    btf::Btf,
    require::{supported, version},
    same,
};

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
    let types = read_partial(file)?;
    if let Some(member) = types.numbers.missing.first() {
        bail!(
            "this kernel's types have no {member}: memtrace doesn't know this kernel (it knows {})",
            supported()
        );
    }
    Ok(types)
}

/// The same, whatever is missing.
///
/// # Errors
/// It can't be read, or the file is of another kernel.
pub fn read_partial(file: Option<&Path>) -> Result<Types> {
    let mut structures: Vec<&str> = Layout::MEMBERS
        .iter()
        .map(|member| member.structure)
        .collect();
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
        for (index, member) in Layout::MEMBERS.iter().enumerate() {
            let mut paths = member.paths.iter();
            if let Some(offset) = paths.find_map(|path| number_of(member.structure, path)) {
                layout.set(index, offset);
                found += 1;
            } else if let Fallback::Number(number) = member.fallback {
                layout.set(index, number);
            } else {
                absent.push(member);
            }
        }
        let is_replaced = |member: &&Member| match member.fallback {
            Fallback::Members(others) | Fallback::MembersOrNone(others) => {
                !absent.iter().any(|absent| others.contains(&absent.field))
            }
            _ => false,
        };
        let (done_without, missing): (Vec<&Member>, Vec<_>) = absent
            .iter()
            .copied()
            .filter(|member| !is_replaced(member))
            .partition(|member| {
                matches!(
                    member.fallback,
                    Fallback::DoWithout | Fallback::MembersOrNone(_)
                )
            });
        let names = |members: Vec<&Member>| {
            let name =
                |member: &Member| format!("{}.{}", member.structure, member.paths.join(" or "));
            members.into_iter().map(name).collect()
        };
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
            let is_it =
                |member: &&Member| member.structure == structure && member.paths.contains(&path);
            let member = Layout::MEMBERS.iter().find(is_it).expect("one of them");
            (!fields.contains(&member.field)).then_some(1)
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
