//! Files that were mapped: their paths, and which of them are code.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use memtrace_ebpf::record::{PATH_DELETED, PATH_TRUNCATED, Path};

/// Files by their identity. An identity that is used again is announced again with its new path. Bounded by what is
/// mapped at one time, roughly: a new file takes the place of a gone one.
#[derive(Default)]
pub struct Files {
    paths: HashMap<u64, Arc<str>>,
    code: HashSet<u64>,
}

impl Files {
    /// Learns a path.
    pub fn announce(&mut self, path: &Path, components: &[u8]) {
        self.code.remove(&path.file);
        self.paths.insert(path.file, text(path, components).into());
    }

    /// The path of a file; `None` for no file, or one that was never announced.
    pub fn path(&self, file: u64) -> Option<Arc<str>> {
        self.paths.get(&file).cloned()
    }

    /// Learns that a file is mapped to be executed.
    pub fn is_executed(&mut self, file: u64) {
        self.code.insert(file);
    }

    /// Whether a file is a program's or a library's: it has been mapped to be executed.
    pub fn is_code(&self, file: u64) -> bool {
        self.code.contains(&file)
    }
}

/// Puts the path together from its components, which come from the file upwards.
fn text(path: &Path, components: &[u8]) -> String {
    let components = components.strip_suffix(b"\0").unwrap_or(components);
    let mut text = String::new();
    if path.head.flags & PATH_TRUNCATED != 0 {
        text.push_str("...");
    }
    for component in components.split(|byte| *byte == 0).rev() {
        text.push('/');
        text.push_str(&String::from_utf8_lossy(component));
    }
    if path.head.flags & PATH_DELETED != 0 {
        // As /proc/PID/maps shows it.
        text.push_str(" (deleted)");
    }
    text
}

#[cfg(test)]
mod tests {
    use memtrace_ebpf::record::Header;

    use super::*;

    #[test]
    fn a_path_is_put_together_from_its_end() {
        let mut path = Path::default();
        assert_eq!(text(&path, b"true\0bin\0usr\0"), "/usr/bin/true");
        assert_eq!(text(&path, b""), "/");
        path.head = Header {
            flags: PATH_DELETED,
            ..Header::default()
        };
        assert_eq!(text(&path, b"memfd:x\0"), "/memfd:x (deleted)");
        path.head.flags = PATH_TRUNCATED;
        assert_eq!(text(&path, b"b\0a\0"), ".../a/b");
    }
}
