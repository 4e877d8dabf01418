//! What is built for the guests: memtrace, as one static file, and the live tests with the programs that they trace. The
//! tests are those that run here, so the libraries that they were linked with go along.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::catalogue::Architecture;
use super::fetch::Fetcher;
use super::initramfs::{self, Packed};
use crate::command::{capture, outside_cargo, run, say};
use crate::live;
use crate::workspace::Workspace;

/// What programs in C and Rust are linked with, beside their linker.
const LIBRARIES: [&str; 3] = ["libc.so.6", "libgcc_s.so.1", "libm.so.6"];

/// What was built for an architecture.
pub(crate) struct Built {
    /// Packed for all guests of the architecture.
    pub(crate) initramfs: PathBuf,
    /// The names of the live tests.
    pub(crate) tests: Vec<String>,
}

/// Builds for that architecture, and packs it.
pub(crate) fn build(
    workspace: &Workspace,
    fetcher: &mut Fetcher,
    architecture: Architecture,
) -> Result<Built> {
    let target = architecture.target();
    say(format_args!("building memtrace for the guests ({target})"));
    let mut cargo = workspace.cargo("build")?;
    cargo.args(["--release", "--package", "memtrace", "--target", target]);
    let variable = target.to_uppercase().replace('-', "_");
    cargo.env(
        format!("CARGO_TARGET_{variable}_RUSTFLAGS"),
        "-Ctarget-feature=+crt-static",
    );
    run(&mut cargo)?;
    let memtrace = workspace.target.join(target).join("release/memtrace");

    say("building the live tests");
    let mut built = live::build(workspace)?;
    built.tests.retain(|test| test.is_live);

    let packing = Packing::new(workspace, architecture)?;
    let mut packed = vec![
        packing.stripped(&memtrace, "bin/memtrace")?,
        Packed {
            file: fetcher.busybox(architecture)?,
            place: "bin/busybox".to_owned(),
        },
    ];
    for test in &built.tests {
        packed.push(packing.stripped(&test.executable, &format!("tests/{}", test.name))?);
    }
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
        .join(format!("common-{}.cpio", architecture.debian()));
    initramfs::write(&initramfs, &packed, &links)?;
    let tests = built.tests.into_iter().map(|test| test.name).collect();
    Ok(Built { initramfs, tests })
}

/// The GNU tools for an architecture, and where stripped programs go.
struct Packing {
    architecture: Architecture,
    /// What the names of the tools begin with.
    tools: String,
    folder: PathBuf,
}

impl Packing {
    fn new(workspace: &Workspace, architecture: Architecture) -> Result<Self> {
        let gnu = architecture.gnu();
        let tools = if gnu == ARCH {
            String::new()
        } else {
            format!("{gnu}-linux-gnu-")
        };
        let folder = workspace
            .kernels()
            .join(format!("stripped-{}", architecture.debian()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self {
            architecture,
            tools,
            folder,
        })
    }

    /// That program without symbols: they are most of it, and all of it is in the guest's memory.
    fn stripped(&self, program: &Path, place: &str) -> Result<Packed> {
        let file = self.folder.join(place.replace('/', "-"));
        let mut strip = outside_cargo(format!("{}strip", self.tools));
        run(strip.arg("-o").args([&file, program]))?;
        Ok(Packed {
            file,
            place: place.to_owned(),
        })
    }

    /// Packs the libraries, and returns the links that lead to them from where linkers look: Debian's in a folder of
    /// the architecture's, others in /lib64.
    fn libraries(&self, packed: &mut Vec<Packed>) -> Result<Vec<(String, String)>> {
        let gnu = self.architecture.gnu();
        let folder = format!("lib/{gnu}-linux-gnu");
        let (linker, link, target) = match self.architecture {
            Architecture::X86_64 => ("ld-linux-x86-64.so.2", "lib64", folder.clone()),
            Architecture::Arm64 => {
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
        let mut gcc = Command::new(format!("{}gcc", self.tools));
        let path = PathBuf::from(capture(gcc.arg(format!("-print-file-name={name}")))?.trim_end());
        // What it doesn't find it prints as it is.
        ensure!(path.is_absolute(), "{}gcc has no {name}", self.tools);
        Ok(path)
    }
}
