//! Building static programs, for this machine's architecture or another.

use std::env;
use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::command::{capture, say};
use crate::programs;
use crate::workspace::Workspace;

/// What memtrace can be built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Target {
    #[value(name = "x86_64-unknown-linux-gnu")]
    X86_64,
    #[value(name = "aarch64-unknown-linux-gnu")]
    Aarch64,
}

impl Target {
    /// As Rust calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Its architecture, as Rust and the GNU tools call it.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Its architecture, as Debian's packages have it in their names.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// A program that `cargo build --release` leaves for it.
    pub(crate) fn release(self, workspace: &Workspace, program: &str) -> PathBuf {
        let release = workspace.target.join(self.name()).join("release");
        release.join(program)
    }

    /// The name of an environment variable that is about this target alone.
    pub(crate) fn variable(self, of: &str) -> String {
        let name = self.name().to_uppercase().replace('-', "_");
        format!("CARGO_TARGET_{name}_{of}")
    }
}

/// `cargo SUBCOMMAND` for the target, its programs static: so they run on a machine with any C library, or none.
pub(crate) fn cargo(workspace: &Workspace, subcommand: &str, target: Target) -> Result<Command> {
    let mut cargo = workspace.cargo(subcommand)?;
    cargo
        .args(["--target", target.name()])
        .env(target.variable("RUSTFLAGS"), "-Ctarget-feature=+crt-static");
    if target.architecture() != ARCH {
        let gcc = gcc(workspace, target)?;
        cargo.env(target.variable("LINKER"), &gcc);
        // The crate cc, which compiles the lab's programs, asks for the compiler so.
        cargo.env(format!("CC_{}", target.name().replace('-', "_")), &gcc);
    }
    if !has_std(workspace, target)? {
        say(format_args!(
            "no library of Rust's for {} here: building it, too",
            target.name()
        ));
        cargo
            .args(["-Z", "build-std=std,panic_abort"])
            // Stable cargo takes -Z only so. Only where it must: it opens unstable features to every crate.
            .env("RUSTC_BOOTSTRAP", "1");
    }
    Ok(cargo)
}

/// Whether rustup has installed Rust's library for the target.
fn has_std(workspace: &Workspace, target: Target) -> Result<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = capture(
        Command::new(rustc)
            .args(["--print", "target-libdir", "--target", target.name()])
            .current_dir(&workspace.root),
    )?;
    Ok(Path::new(folder.trim_end()).is_dir())
}

/// The C compiler for another architecture: what is there, else Debian's, unpacked in the target directory.
fn gcc(workspace: &Workspace, target: Target) -> Result<PathBuf> {
    let architecture = target.architecture();
    let program = format!("{architecture}-linux-gnu-gcc");
    let private = workspace.debian().join("bin").join(&program);
    let found = || {
        which::which(&program)
            .ok()
            .or_else(|| private.is_file().then(|| private.clone()))
    };
    if let Some(found) = found() {
        say(format_args!("{program}: {}", found.display()));
        return Ok(found);
    }
    say(format_args!(
        "{program}: not here, fetching Debian's packages, 44 MB"
    ));
    let packages = [
        format!("gcc-{}-linux-gnu", architecture.replace('_', "-")),
        format!("libc6-dev-{}-cross", target.debian()),
    ];
    let strip = format!("{architecture}-linux-gnu-strip");
    let remedy = || {
        format!(
            "there is no {program} to link with; remedy: `apt-get install {}`",
            packages.join(" ")
        )
    };
    let packages = packages.each_ref().map(String::as_str);
    // Its linker scripts have absolute names.
    let programs = [
        (program.as_str(), "--sysroot=\"$root\""),
        (strip.as_str(), ""),
    ];
    programs::fetch(&workspace.debian(), &packages, &programs).with_context(remedy)?;
    found().with_context(remedy)
}
