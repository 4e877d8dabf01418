//! Files that were mapped: their paths, and which of them are code.

use std::sync::Arc;

use rustc_hash::FxHashMap as HashMap;

use memtrace_ebpf::record::{PATH_DELETED, PATH_TRUNCATED, Path};

/// Paths that are kept at the most. The kernel side remembers a quarter of that as announced, the last used, and
/// announces a file again that it has forgotten: so what it remembers is among what is kept here.
const KEPT: usize = 32_768;

/// Files by their identity. An identity that is used again is announced again with its new path.
#[derive(Default)]
pub struct Files {
    known: HashMap<u64, Known>,
    /// Counts the uses.
    clock: u64,
}

struct Known {
    path: Arc<str>,
    /// It has been mapped to be executed.
    code: bool,
    used: u64,
}

impl Files {
    /// Learns a path.
    pub fn announce(&mut self, path: &Path, components: &[u8]) {
        if self.known.len() >= KEPT {
            self.forget_oldest();
        }
        let known = Known {
            path: text(path, components).into(),
            code: false,
            used: self.clock,
        };
        self.known.insert(path.file, known);
    }

    /// The path of a file; `None` for no file, or one that was never announced.
    pub fn path(&mut self, file: u64) -> Option<Arc<str>> {
        self.clock += 1;
        let known = self.known.get_mut(&file)?;
        known.used = self.clock;
        Some(known.path.clone())
    }

    /// Learns that a file is mapped to be executed.
    pub fn is_executed(&mut self, file: u64) {
        if let Some(known) = self.known.get_mut(&file) {
            known.code = true;
        }
    }

    /// Whether a file is a program's or a library's: it has been mapped to be executed.
    pub fn is_code(&self, file: u64) -> bool {
        self.known.get(&file).is_some_and(|known| known.code)
    }

    /// Keeps the half that was used last.
    fn forget_oldest(&mut self) {
        let mut uses: Vec<u64> = self.known.values().map(|known| known.used).collect();
        let (_, median, _) = uses.select_nth_unstable(KEPT / 2);
        let median = *median;
        self.known.retain(|_, known| known.used > median);
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
    fn what_is_kept_is_bounded_and_recent() {
        let mut files = Files::default();
        let announce = |files: &mut Files, file| {
            let path = Path {
                file,
                ..Path::default()
            };
            files.announce(&path, format!("{file}\0").as_bytes());
        };
        announce(&mut files, 1);
        files.is_executed(1);
        for file in 2..100_000 {
            announce(&mut files, file);
            assert!(files.path(file).is_some());
            assert_eq!(
                files.path(1).as_deref(),
                Some("/1"),
                "a file in use is kept"
            );
        }
        assert!(files.is_code(1));
        assert!(files.path(2).is_none());
        assert!(files.known.len() <= KEPT);
    }

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
