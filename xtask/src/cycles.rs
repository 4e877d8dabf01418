//! Cycles between the modules of a folder, of which there must be none.
//!
//! A module uses another where it names it, or something in it, in a path. What lies in a folder of the folder counts as that
//! one's; and among themselves its modules are looked at, too. A `mod.rs` is the face of its folder and no module in it: what it
//! takes from a module and others take from it counts as that module's. Tests are left out.

mod source;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use source::Source;

/// The folders that are kept free of cycles, with all that is in them: the code of each crate.
const FOLDERS: [&str; 5] = [
    "memtrace-ebpf/src",
    "memtrace/events/src",
    "memtrace/src",
    "tests/src",
    "xtask/src",
];

/// For each module of a folder the others that it uses, and a path by which it does.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// Looks in these folders, or in all that are to be without.
pub(crate) fn perform(workspace: &Workspace, folders: &[PathBuf]) -> Result<()> {
    let kept = FOLDERS.map(PathBuf::from);
    let folders = if folders.is_empty() { &kept } else { folders };
    let mut found = Vec::new();
    for folder in folders {
        found.extend(in_folder(&workspace.root.join(folder))?);
    }
    if !found.is_empty() {
        bail!("modules use each other:\n{}", found.join("\n"));
    }
    Ok(())
}

/// The cycles in a folder and those in it, each in some lines.
fn in_folder(folder: &Path) -> Result<Vec<String>> {
    let (source, top) = Source::around(folder)?;
    let folders: BTreeSet<&[String]> = source
        .modules()
        .flat_map(|module| (top.len()..module.len()).map(|depth| &module[..depth]))
        .filter(|folder| folder.starts_with(&top))
        .collect();
    let cycles = folders.into_iter().filter_map(|folder| {
        let steps = shortest_cycle(&uses(&source, folder))?;
        Some(format!(
            "  in {}:\n{}",
            [&["crate".to_owned()], folder].concat().join("::"),
            steps.join("\n")
        ))
    });
    Ok(cycles.collect())
}

/// Who uses whom in a folder.
fn uses(source: &Source, folder: &[String]) -> Uses {
    let mut uses = Uses::new();
    for (module, path) in source.uses() {
        let owner = source.owner(path);
        if let (Some([from, ..]), Some([to, ..])) =
            (module.strip_prefix(folder), owner.strip_prefix(folder))
            && from != to
        {
            let others = uses.entry(from.clone()).or_default();
            others.insert(to.clone(), path.join("::"));
        }
    }
    uses
}

/// The steps of the shortest way that leads back to where it began.
fn shortest_cycle(uses: &Uses) -> Option<Vec<String>> {
    let cycles = uses.keys().filter_map(|start| way_back(uses, start));
    let cycle = cycles.min_by_key(Vec::len)?;
    let steps = cycle.iter().map(|(from, to)| {
        let path = &uses[*from][*to];
        format!("    {from} uses {to}: crate::{path}")
    });
    Some(steps.collect())
}

/// The shortest way from a module back to it, as pairs of modules.
fn way_back<'a>(uses: &'a Uses, start: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut came_from = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(from) = next.pop_front() {
        for to in uses.get(from).into_iter().flat_map(BTreeMap::keys) {
            if came_from.contains_key(to.as_str()) {
                continue;
            }
            came_from.insert(to.as_str(), from);
            next.push_back(to);
        }
    }
    let mut way = Vec::new();
    let mut to = start;
    loop {
        let from = *came_from.get(to)?;
        way.insert(0, (from, to));
        if from == start {
            return Some(way);
        }
        to = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;

    /// What is said of a folder `src` with these files.
    fn of(files: &[(&str, &str)]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir()?;
        let src = folder.path().join("src");
        for (name, text) in files {
            let path = src.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&src))?;
            fs::write(path, text)?;
        }
        in_folder(&src)
    }

    #[test]
    fn a_cycle_is_told_step_by_step() -> Result<()> {
        let found = of(&[
            ("main.rs", "mod a; mod b; mod c; use a::A;"),
            ("a.rs", "use crate::{b::{self, B}, c}; pub struct A;"),
            ("b.rs", "fn f() { println!(\"{}\", crate::c::value()) }"),
            ("c.rs", "use super::A;"),
        ])?;
        let [told] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            told,
            "  in crate:\n    a uses c: crate::c\n    c uses a: crate::A"
        );
        Ok(())
    }

    #[test]
    fn tests_and_words_make_no_cycle() -> Result<()> {
        let found = of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; // and crate::b"),
            (
                "b.rs",
                "/// See crate::a.\npub struct B;\n#[cfg(test)]\nmod tests;\n#[cfg(test)] mod more { use crate::a::*; }",
            ),
            ("b/tests.rs", "use crate::a::A;"),
        ])?;
        assert!(found.is_empty(), "{found:?}");
        Ok(())
    }

    #[test]
    fn a_folder_is_one_module_outside_and_many_inside() -> Result<()> {
        let found = of(&[
            ("lib.rs", "mod out; mod sub;"),
            ("out.rs", "use crate::sub::inner::I;"),
            ("sub/mod.rs", "mod inner; mod other; pub use other::*;"),
            ("sub/inner.rs", "use super::O; pub struct I;"),
            (
                "sub/other.rs",
                "pub struct O; pub mod m { use super::super::inner::I; }",
            ),
        ])?;
        let [told] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(
            told.starts_with("  in crate::sub:\n    inner uses other: "),
            "{told}"
        );
        Ok(())
    }
}
