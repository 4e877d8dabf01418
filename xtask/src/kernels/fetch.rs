//! What the guests are made of, from Debian: kernels, a busybox and QEMU. Each is fetched once, and what is there is
//! taken as it is; nothing is installed.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::catalogue::{Kernel, newest};
use crate::apt::{Apt, Status, unpack, unpack_folder};
use crate::command::{outside_cargo, say};
use crate::cross::Target;
use crate::workspace::Workspace;

/// The suite that busybox and QEMU are taken from.
const SUITE: &str = "trixie";
/// QEMU of this major version or later runs guests reliably: 7.2 crashes them at random.
const RELIABLE: u32 = 8;
const QEMU_PACKAGES: [&str; 2] = ["qemu-system-x86", "qemu-system-arm"];
/// Left out when a kernel is unpacked.
const SYMBOLS: &str = "System.map-*";

/// Fetches what is missing in the target directory.
pub(crate) struct Fetcher {
    debian: PathBuf,
    kernels: PathBuf,
    /// By suite and architecture, as their lists take a while.
    opened: BTreeMap<(&'static str, Target), Apt>,
}

impl Fetcher {
    pub(crate) fn new(workspace: &Workspace) -> Self {
        Self {
            debian: workspace.debian(),
            kernels: workspace.kernels(),
            opened: BTreeMap::new(),
        }
    }

    /// A kernel.
    pub(crate) fn linux(&mut self, kernel: &Kernel) -> Result<Linux> {
        let folder = self.kernels.join("linux").join(kernel.name);
        if let Some(linux) = Linux::fetched(&folder) {
            return Ok(linux);
        }
        say(format_args!(
            "Linux {}: fetching Debian's package",
            kernel.name
        ));
        let apt = self.apt(kernel.suite, kernel.target)?;
        let names = apt.packages(kernel.package)?;
        let name = newest(kernel, names.lines()).with_context(|| {
            let (begin, end) = (kernel.package, kernel.package_end());
            format!(
                "Debian's suite {} has no package {begin}*{end}",
                kernel.suite
            )
        })?;
        into_place(&folder, |partial| {
            let mut package = download(apt, name)?;
            unpack_folder(&package, kernel.folder, Some(SYMBOLS), partial)?;
            let (modules, overlayfs) = kernel.overlayfs(name);
            if modules != name {
                package = download(apt, &modules)?;
            }
            unpack_folder(&package, &overlayfs, None, partial)
        })?;
        apt.remove_downloads()?;
        Linux::fetched(&folder)
            .with_context(|| format!("{name} has no vmlinuz, or no overlayfs as a module"))
    }

    /// A busybox that needs no library.
    pub(crate) fn busybox(&mut self, target: Target) -> Result<PathBuf> {
        let folder = self.kernels.join(format!("busybox-{}", target.debian()));
        if !folder.exists() {
            say("busybox: fetching Debian's package");
            let apt = self.apt(SUITE, target)?;
            let package = download(apt, "busybox-static")?;
            into_place(&folder, |partial| unpack(&package, partial))?;
            apt.remove_downloads()?;
        }
        find(&folder, "busybox").with_context(|| format!("no busybox in {}", folder.display()))
    }

    /// A QEMU for guests of that architecture: the machine's own if it is a reliable one.
    pub(crate) fn qemu(&mut self, target: Target) -> Result<Qemu> {
        let program = format!("qemu-system-{}", target.architecture());
        if let Ok(found) = which::which(&program) {
            let qemu = Qemu(vec![found.into()]);
            if qemu.is_reliable() {
                return Ok(qemu);
            }
        }
        let root = self.kernels.join("qemu");
        if !root.exists() {
            say("QEMU: fetching Debian's packages, with all that they depend on");
            let apt = Apt::open(&self.debian, SUITE, Status::NothingInstalled)?;
            let packages = apt.download_with_dependencies(&QEMU_PACKAGES)?;
            into_place(&root, |partial| {
                packages
                    .iter()
                    .try_for_each(|package| unpack(package, partial))
            })?;
            apt.remove_downloads()?;
        }
        Qemu::fetched(&root, &program).with_context(|| {
            let root = root.display();
            format!("the QEMU in {root} is of no use: remove that folder and run this again")
        })
    }

    fn apt(&mut self, suite: &'static str, target: Target) -> Result<&Apt> {
        use std::collections::btree_map::Entry;
        Ok(match self.opened.entry((suite, target)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Apt::open_for(&self.debian, suite, target.debian())?)
            }
        })
    }
}

/// A kernel's files.
pub(crate) struct Linux {
    pub(crate) image: PathBuf,
    /// The module of overlayfs, perhaps compressed.
    pub(crate) overlayfs: PathBuf,
}

impl Linux {
    fn fetched(folder: &Path) -> Option<Self> {
        Some(Self {
            image: find(folder, "vmlinuz")?,
            overlayfs: find(folder, "overlay.ko")?,
        })
    }
}

/// How QEMU is called: the program, and the arguments that it needs wherever it lies.
#[derive(Clone, Debug)]
pub(crate) struct Qemu(pub(crate) Vec<OsString>);

impl Qemu {
    /// A QEMU below `root`, which is not the machine's root: started by the linker that came with it, so that it finds
    /// its libraries whatever the machine has, and told where its firmware is.
    fn fetched(root: &Path, program: &str) -> Result<Self> {
        let libraries = root.join(format!("usr/lib/{ARCH}-linux-gnu"));
        let linker = find(&libraries, "ld-linux").context("it came without a dynamic linker")?;
        let mut words = vec![linker.into(), "--library-path".into(), libraries.into()];
        words.push(root.join("usr/bin").join(program).into());
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            words.extend(["-L".into(), root.join(firmware).into()]);
        }
        let qemu = Self(words);
        ensure!(
            qemu.is_reliable(),
            "{program} doesn't tell a version from {RELIABLE} on"
        );
        Ok(qemu)
    }

    pub(crate) fn command(&self) -> Command {
        let mut words = self.0.iter();
        let mut command = outside_cargo(words.next().map_or("false".as_ref(), OsString::as_os_str));
        command.args(words);
        command
    }

    fn is_reliable(&self) -> bool {
        let output = self.command().arg("--version").output();
        output.is_ok_and(|output| {
            let version = major_version(&String::from_utf8_lossy(&output.stdout));
            version.is_some_and(|version| version >= RELIABLE)
        })
    }
}

/// 10 of `QEMU emulator version 10.0.13 (Debian ...)`.
fn major_version(line: &str) -> Option<u32> {
    let version = line.strip_prefix("QEMU emulator version ")?;
    version.split('.').next()?.parse().ok()
}

/// Fetches the newest version of a package.
fn download(apt: &Apt, package: &str) -> Result<PathBuf> {
    let versions = apt.versions(package)?;
    let newest = versions.first();
    let newest = newest.with_context(|| format!("Debian has no package {package} there"))?;
    apt.download(package, newest)
}

/// Lets `fill` fill a folder, which has its name only when it is complete, in place of one that lacks something.
fn into_place(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut partial = folder.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    fill(&partial)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&partial, folder)
        .with_context(|| format!("cannot move what was fetched to {}", folder.display()))
}

/// The file below a folder whose name begins so.
fn find(folder: &Path, begin: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut entries: Vec<_> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    let is_it = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Through links: a linker may be one.
        name.starts_with(begin) && path.is_file()
    };
    let is_folder = |path: &&PathBuf| path.is_dir() && !path.is_symlink();
    let here = entries.iter().find(is_it).cloned();
    here.or_else(|| {
        entries
            .iter()
            .filter(is_folder)
            .find_map(|path| find(path, begin))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemus_version_is_read() {
        assert_eq!(
            major_version("QEMU emulator version 10.0.13 (Debian 1:10.0.13)\nCopyright"),
            Some(10)
        );
        assert_eq!(major_version("QEMU emulator version 7.2.22"), Some(7));
        assert_eq!(major_version("ld.so: no such file"), None);
    }

    #[test]
    fn a_folder_that_was_not_filled_is_not_there() -> Result<()> {
        let place = tempfile::tempdir()?;
        let folder = place.path().join("6.12");
        let failed = into_place(&folder, |partial| {
            fs::write(partial.join("half"), "")?;
            anyhow::bail!("no more room")
        });
        assert!(failed.is_err() && !folder.exists());
        into_place(&folder, |partial| {
            Ok(fs::write(partial.join("vmlinuz-6.12"), "")?)
        })?;
        assert_eq!(
            find(place.path(), "vmlinuz"),
            Some(folder.join("vmlinuz-6.12"))
        );
        assert_eq!(find(place.path(), "half"), None);

        // Without the module it isn't a kernel yet.
        assert!(Linux::fetched(&folder).is_none());
        into_place(&folder, |partial| {
            fs::write(partial.join("vmlinuz-6.12"), "")?;
            Ok(fs::write(partial.join("overlay.ko.xz"), "")?)
        })?;
        assert!(Linux::fetched(&folder).is_some());
        Ok(())
    }
}
