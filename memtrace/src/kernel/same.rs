//! Whether a BTF file is of the running kernel. BTF doesn't say which kernel it is of, so what can be held against the
//! running one is: where members lie by its own type information, if it shows any, and how large its caches of
//! structures are (`/sys/kernel/slab`). A file that stands both may still be another's; then the trial of the direct
//! map fails, which needs a dozen offsets to be right.

use std::{fs, path::Path};

use anyhow::{Result, bail};
use memtrace_ebpf::layout::Layout;

use super::btf::{Btf, RUNNING};

/// Where the kernel shows its caches of structures: a folder for each, or a link where several share one.
const CACHES: &str = "/sys/kernel/slab";
/// Structures that have a cache of their own in some kernels, and its name.
const CACHED: [(&str, &str); 5] = [
    ("inode", "inode_cache"),
    ("dentry", "dentry"),
    ("sighand_struct", "sighand_cache"),
    ("file", "filp"),
    ("vm_area_struct", "vm_area_struct"),
];

/// Fails, naming what differs, if the BTF in the file at `path` is of another kernel than the running one, whose own
/// BTF is `running`.
pub fn require(path: &Path, file: &Btf, running: Option<&Btf>) -> Result<()> {
    let Some(difference) = running
        .and_then(|running| other_offset(file, running))
        .or_else(|| other_size(file, size_of_cache))
    else {
        return Ok(());
    };
    let remedy = if running.is_some() {
        "leave --btf out, as this kernel shows its own type information"
    } else {
        "give that of exactly this kernel"
    };
    bail!(
        "--btf {:?} is of another kernel: {difference}; {remedy}",
        path.to_string_lossy()
    )
}

/// The first member that lies elsewhere by the one than by the other. What a file leaves out is no difference: there are
/// files with only what some program needs.
fn other_offset(file: &Btf, running: &Btf) -> Option<String> {
    Layout::MEMBERS.iter().find_map(|member| {
        let structure = member.structure;
        let offset = |btf: &Btf| {
            let mut paths = member.paths.iter();
            paths.find_map(|path| btf.offset_of(structure, path))
        };
        let (theirs, ours) = (offset(file)?, offset(running)?);
        let member = member.paths[0];
        (theirs != ours).then(|| {
            format!(
                "{structure}.{member} lies at byte {theirs} by the file and at {ours} by {RUNNING}"
            )
        })
    })
}

/// The first structure that has another size than the running kernel's cache of them says.
fn other_size(file: &Btf, cache: impl Fn(&str) -> Option<u32>) -> Option<String> {
    CACHED.iter().find_map(|(structure, name)| {
        let (theirs, ours) = (file.size_of(structure)?, cache(name)?);
        (theirs != ours).then(|| {
            format!(
                "struct {structure} has {theirs} bytes by the file and {ours} by {CACHES}/{name}"
            )
        })
    })
}

/// The size of the structures in a cache; nothing where the kernel doesn't show it, and where structures of other kinds are in
/// there, too (`__kmem_cache_alias` in `mm/slub.c`: it is then as large as the largest).
fn size_of_cache(name: &str) -> Option<u32> {
    let folder = Path::new(CACHES).join(name);
    if folder.is_symlink() {
        return None;
    }
    let size = fs::read_to_string(folder.join("object_size")).ok()?;
    size.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::sample;

    #[test]
    fn a_member_or_a_size_tells_another_kernel() {
        let of = |pgd: u32, size: u32| sample("mm_struct", &[("pgd", pgd)], size);
        let (file, other) = (of(24, 64), of(32, 64));
        assert_eq!(other_offset(&file, &of(24, 80)), None);
        let words = other_offset(&file, &other).expect("another kernel");
        assert!(
            words.starts_with("mm_struct.pgd lies at byte 24 by the file and at 32"),
            "{words}"
        );
        // What only one of them has is no difference.
        assert_eq!(
            other_offset(&file, &sample("mm_struct", &[("owner", 8)], 64)),
            None
        );

        let file = sample("inode", &[("i_ino", 8)], 616);
        assert_eq!(other_size(&file, |_| Some(616)), None);
        assert_eq!(other_size(&file, |_| None), None);
        let words = other_size(&file, |name| (name == "inode_cache").then_some(600));
        let words = words.expect("another kernel");
        assert!(
            words.starts_with("struct inode has 616 bytes by the file and 600"),
            "{words}"
        );
    }

    #[test]
    fn the_line_names_the_file_and_the_remedy() {
        let path = Path::new("some.btf");
        let (file, running) = (
            sample("mm_struct", &[("pgd", 8)], 64),
            sample("mm_struct", &[("pgd", 16)], 64),
        );
        let error = require(path, &file, Some(&running))
            .expect_err("another kernel")
            .to_string();
        assert!(
            error.starts_with("--btf \"some.btf\" is of another kernel: "),
            "{error}"
        );
        assert!(
            error.ends_with("leave --btf out, as this kernel shows its own type information"),
            "{error}"
        );
        assert!(require(path, &file, Some(&file)).is_ok());
    }
}
