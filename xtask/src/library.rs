//! The sources of Rust's library, in the toolchain. There is no prebuilt core for BPF: cargo builds
//! it (`-Z build-std=core`) from the sources of exactly this rustc.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::apt::{Apt, Status, unpack_folder};
use crate::command::{capture, run, say, second_word};
use crate::workspace::Workspace;

/// The Debian suite that has rust-src of the version that rust-toolchain.toml pins.
const SUITE: &str = "trixie-backports";

/// Makes the sources present: what is there, else rustup, else Debian's package.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let rustc = Rustc::ask(workspace)?;
    let library = rustc.library();
    let name = format!("library sources of Rust {}", rustc.version);
    if is_complete(&library) {
        say(format_args!("{name}: {}", library.display()));
        return Ok(());
    }
    if which::which("rustup").is_ok() {
        say(format_args!("{name}: asking rustup for them"));
        let mut rustup = Command::new("rustup");
        rustup
            .args(["component", "add", "rust-src"])
            .current_dir(&workspace.root);
        if run(&mut rustup).is_ok() && is_complete(&library) {
            return Ok(());
        }
        say("rustup can't get them here");
    }
    let partial = library.with_extension("partial");
    make_empty(&partial).map_err(|error| {
        anyhow!(
            "the {name} can't be put in the toolchain: {}: {error}; run `cargo xtask setup` once \
             as the owner of that folder",
            partial.display()
        )
    })?;
    say(format_args!(
        "{name}: fetching Debian's rust-src, 45 MB, from {SUITE}"
    ));
    from_debian(workspace, &rustc, &partial).with_context(|| {
        format!(
            "the {name} can't be had (remedy: put them in {}, or run `rustup component add \
             rust-src` where rustup can reach its server)",
            library.display()
        )
    })
}

/// The compiler that builds the workspace.
struct Rustc {
    /// Such as 1.95.0.
    version: String,
    sysroot: PathBuf,
}

impl Rustc {
    fn ask(workspace: &Workspace) -> Result<Self> {
        let rustc = |argument: &[&str]| {
            let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            capture(
                Command::new(rustc)
                    .args(argument)
                    .current_dir(&workspace.root),
            )
        };
        let version = rustc(&["--version"])?;
        let version = second_word(&version)
            .ok_or_else(|| anyhow!("cannot read a version in rustc's `{version}`"))?;
        Ok(Self {
            version: version.to_owned(),
            sysroot: PathBuf::from(rustc(&["--print", "sysroot"])?.trim_end()),
        })
    }

    fn library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }
}

/// Whether cargo can build core from this folder.
fn is_complete(library: &Path) -> bool {
    library.join("core/src/lib.rs").is_file() && library.join("Cargo.lock").is_file()
}

/// Takes the sources out of Debian's package of the same version, and nothing else of it.
fn from_debian(workspace: &Workspace, rustc: &Rustc, partial: &Path) -> Result<()> {
    let apt = Apt::open(&workspace.debian(), SUITE, Status::NothingInstalled)?;
    let version = apt
        .versions("rust-src")?
        .into_iter()
        .find(|version| upstream(version) == rustc.version)
        .with_context(|| format!("{SUITE} has no rust-src of version {}", rustc.version))?;
    let folder = format!("./usr/src/rustc-{}/library", rustc.version);
    let package = apt.download("rust-src", &version)?;
    // Debian adds the crates that std needs. Core needs none, and rustup's rust-src has none.
    unpack_folder(&package, &folder, Some("vendor"), partial)?;
    apt.remove_downloads()?;

    if !is_complete(partial) {
        bail!("Debian's rust-src {version} does not have what build-std needs");
    }
    let library = rustc.library();
    // Only now under its name, so that a half-unpacked library is never taken for a whole one.
    if library.exists() {
        fs::remove_dir_all(&library)
            .with_context(|| format!("cannot replace {}", library.display()))?;
    }
    fs::rename(partial, &library)
        .with_context(|| format!("cannot move the sources to {}", library.display()))?;
    say(format_args!(
        "rust-src {version} is in {}",
        library.display()
    ));
    Ok(())
}

/// Makes an empty folder, and those above it.
fn make_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
}

/// The upstream part of a Debian version: `1.95.0` of `1.95.0+dfsg1-1~bpo13+1`.
fn upstream(version: &str) -> &str {
    let version = version
        .split_once(':')
        .map_or(version, |(_epoch, rest)| rest);
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_versions_have_an_upstream_part() {
        assert_eq!(upstream("1.95.0+dfsg1-1~bpo13+1"), "1.95.0");
        assert_eq!(upstream("2:1.95.0-1"), "1.95.0");
        assert_eq!(upstream("1.95.0~beta.2-1"), "1.95.0");
        assert_eq!(upstream("1.95.0"), "1.95.0");
    }

    #[test]
    fn a_library_without_its_lock_file_is_incomplete() -> Result<()> {
        let folder = tempfile::tempdir()?;
        fs::create_dir_all(folder.path().join("core/src"))?;
        fs::write(folder.path().join("core/src/lib.rs"), "")?;
        assert!(!is_complete(folder.path()));
        fs::write(folder.path().join("Cargo.lock"), "")?;
        assert!(is_complete(folder.path()));
        Ok(())
    }

    #[test]
    fn a_left_over_folder_is_emptied() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let partial = folder.path().join("a/library.partial");
        make_empty(&partial)?;
        fs::write(partial.join("half"), "")?;
        make_empty(&partial)?;
        assert_eq!(fs::read_dir(&partial)?.count(), 0);
        Ok(())
    }
}
