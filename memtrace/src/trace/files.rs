//! Files that were mapped: their paths, and which of them are code.

use std::sync::Arc;

use rustc_hash::FxHashMap as HashMap;

use memtrace_ebpf::record::{PATH_DELETED, PATH_TRUNCATED, Path};

/// Paths that are kept at the most, and files of code. The kernel side remembers a quarter of that as told, the last used,
/// and tells a path again that it has forgotten: so what it remembers is among what is kept here.
pub const KEPT: usize = 32_768;

/// Paths by their numbers, and files by their identities: a file may have several paths.
#[derive(Default)]
pub struct Files {
    paths: Recent<Arc<str>>,
    /// Files that have been mapped to be executed.
    code: Recent<()>,
}

impl Files {
    /// Learns a path.
    pub fn told(&mut self, path: &Path, components: &[u8]) {
        self.paths.insert(path.path, text(path, components).into());
    }

    /// The path with this number; `None` for no file, or one that was never told.
    pub fn path(&mut self, path: u64) -> Option<Arc<str>> {
        self.paths.get(path).cloned()
    }

    /// Paths that are kept, for tests.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.paths.known.len()
    }

    /// Learns that a file is mapped to be executed.
    pub fn is_executed(&mut self, file: u64) {
        self.code.insert(file, ());
    }

    /// Whether a file is a program's or a library's: it has been mapped to be executed.
    pub fn is_code(&mut self, file: u64) -> bool {
        self.code.get(file).is_some()
    }
}

/// What was used last.
struct Recent<V> {
    known: HashMap<u64, (V, u64)>,
    /// Counts the uses.
    clock: u64,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self {
            known: HashMap::default(),
            clock: 0,
        }
    }
}

impl<V> Recent<V> {
    fn insert(&mut self, key: u64, value: V) {
        if self.known.len() >= KEPT {
            self.forget_oldest();
        }
        self.clock += 1;
        self.known.insert(key, (value, self.clock));
    }

    fn get(&mut self, key: u64) -> Option<&V> {
        self.clock += 1;
        let (value, used) = self.known.get_mut(&key)?;
        *used = self.clock;
        Some(value)
    }

    /// Keeps the half that was used last.
    fn forget_oldest(&mut self) {
        let mut uses: Vec<u64> = self.known.values().map(|(_, used)| *used).collect();
        let (_, median, _) = uses.select_nth_unstable(KEPT / 2);
        let median = *median;
        self.known.retain(|_, (_, used)| *used > median);
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
        let tell = |files: &mut Files, number| {
            let path = Path {
                path: number,
                ..Path::default()
            };
            files.told(&path, format!("{number}\0").as_bytes());
            files.is_executed(number);
        };
        tell(&mut files, 1);
        for number in 2..100_000 {
            tell(&mut files, number);
            assert!(files.path(number).is_some());
            assert_eq!(
                files.path(1).as_deref(),
                Some("/1"),
                "a path in use is kept"
            );
            assert!(files.is_code(1));
        }
        assert!(files.path(2).is_none() && !files.is_code(2));
        assert!(files.paths.known.len() <= KEPT && files.code.known.len() <= KEPT);
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
