//! What is built for the guests: memtrace, and the live tests with the programs that they trace. The tests are those that run
//! here, so the libraries that they were linked with go along.

use std::env::{self, consts::ARCH};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::fetch::Fetcher;
use super::initramfs::{self, Packed};
use crate::command::{capture, outside_cargo, run, say};
use crate::cross::{self, Target};
use crate::live;
use crate::memtrace;
use crate::workspace::Workspace;

/// What programs in C and Rust are linked with, beside their linker.
const LIBRARIES: [&str; 3] = ["libc.so.6", "libgcc_s.so.1", "libm.so.6"];

/// Builds for that target, and packs it for all guests of its architecture. memtrace is one static file, as it is for other machines; or, where it is tested here, too,
/// the `same` file: to build another takes minutes.
pub(crate) fn build(
    workspace: &Workspace,
    fetcher: &mut Fetcher,
    target: Target,
    same: bool,
) -> Result<PathBuf> {
    let memtrace = if same && target.architecture() == ARCH {
        memtrace::build(workspace)?;
        workspace.release("memtrace")
    } else {
        memtrace::build_for(workspace, target)?;
        target.release(workspace, "memtrace")
    };
    say(format_args!("building the live tests ({})", target.name()));
    let built = if target.architecture() == ARCH {
        live::build(workspace.cargo("test")?, live::LIVE)?
    } else {
        let mut cargo = cross::cargo(workspace, "test", target)?;
        // Some look at how a program's libraries are mapped.
        cargo.env(target.variable("RUSTFLAGS"), "-Ctarget-feature=-crt-static");
        live::build(cargo, live::LIVE)?
    };

    let packing = Packing::new(workspace, target)?;
    let mut packed = vec![
        packing.stripped(&memtrace, "bin/memtrace")?,
        packing.stripped(&built.tests, "bin/live")?,
        Packed {
            file: fetcher.busybox(target)?,
            place: "bin/busybox".to_owned(),
        },
    ];
    for subject in &built.subjects {
        let name = subject.file_name().unwrap_or_default().to_string_lossy();
        let place = match &*name {
            "init" => "init".to_owned(),
            name => format!("subjects/{name}"),
        };
        packed.push(packing.stripped(subject, &place)?);
    }
    let links = packing.libraries(&mut packed)?;
    let initramfs = workspace
        .kernels()
        .join(format!("common-{}.cpio", target.debian()));
    initramfs::write(&initramfs, &packed, &links)?;
    Ok(initramfs)
}

/// The GNU tools for an architecture, and where stripped programs go.
struct Packing {
    target: Target,
    gcc: PathBuf,
    strip: PathBuf,
    folder: PathBuf,
}

impl Packing {
    fn new(workspace: &Workspace, target: Target) -> Result<Self> {
        let folder = workspace
            .kernels()
            .join(format!("stripped-{}", target.debian()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self {
            target,
            gcc: tool(workspace, target, "gcc")?,
            strip: tool(workspace, target, "strip")?,
            folder,
        })
    }

    /// That program without symbols: they are most of it, and all of it is in the guest's memory.
    fn stripped(&self, program: &Path, place: &str) -> Result<Packed> {
        let file = self.folder.join(place.replace('/', "-"));
        let mut strip = outside_cargo(&self.strip);
        run(strip.arg("-o").args([&file, program]))?;
        Ok(Packed {
            file,
            place: place.to_owned(),
        })
    }

    /// Packs the libraries, and returns the links that lead to them from where linkers look: Debian's in a folder of
    /// the architecture's, others in /lib64.
    fn libraries(&self, packed: &mut Vec<Packed>) -> Result<Vec<(String, String)>> {
        let gnu = self.target.architecture();
        let folder = format!("lib/{gnu}-linux-gnu");
        let (linker, link, target) = match self.target {
            Target::X86_64 => ("ld-linux-x86-64.so.2", "lib64", folder.clone()),
            Target::Aarch64 => {
                let linker = "ld-linux-aarch64.so.1";
                (
                    linker,
                    "lib/ld-linux-aarch64.so.1",
                    format!("{gnu}-linux-gnu/{linker}"),
                )
            }
        };
        for library in LIBRARIES.into_iter().chain([linker]) {
            packed.push(Packed {
                file: self.library(library)?,
                place: format!("{folder}/{library}"),
            });
        }
        Ok(vec![(link.to_owned(), target)])
    }

    /// Where the compiler finds a library.
    fn library(&self, name: &str) -> Result<PathBuf> {
        let mut gcc = outside_cargo(&self.gcc);
        let path = capture(gcc.arg(format!("-print-file-name={name}")))?;
        let path = PathBuf::from(path.trim_end());
        // What it doesn't find it prints as it is.
        ensure!(path.is_absolute(), "{} has no {name}", self.gcc.display());
        Ok(path)
    }
}

/// A GNU tool for the target: the machine's, or what was fetched to build for another architecture.
fn tool(workspace: &Workspace, target: Target, name: &str) -> Result<PathBuf> {
    let name = if target.architecture() == ARCH {
        name.to_owned()
    } else {
        format!("{}-linux-gnu-{name}", target.architecture())
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let fetched = workspace.debian().join("bin");
    let path = env::join_paths(env::split_paths(&path).chain([fetched]))?;
    which::which_in(&name, Some(path), &workspace.root).with_context(|| {
        format!("there is no {name} here: install Debian's packages gcc and binutils")
    })
}
