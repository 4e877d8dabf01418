//! Where this workspace and its target directory are, and how cargo is called in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, anyhow};
use cargo_metadata::MetadataCommand;
use nix::sys::statvfs::statvfs;

/// Less than this on the disk, in bytes, and a failure is most likely the disk's.
const FULL_DISK: u64 = 64 << 20;

pub(crate) struct Workspace {
    /// The folder of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, as an absolute path.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo, which has to have started this program.
    pub(crate) fn find() -> Result<Self> {
        let own = env::var_os("CARGO_MANIFEST_DIR")
            .context("xtask is started by cargo: run it as `cargo xtask`")?;
        let metadata = MetadataCommand::new()
            .manifest_path(Path::new(&own).join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cannot read the workspace's Cargo.toml")?;
        Ok(Self {
            root: metadata.workspace_root.into(),
            target: metadata.target_directory.into(),
        })
    }

    /// Where set-up installs the tools that the build calls.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Where Debian's packages are fetched to and unpacked.
    pub(crate) fn debian(&self) -> PathBuf {
        self.target.join("debian")
    }

    /// What the guests of `cargo xtask kernels` are made of, and what they said.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.target.join("kernels")
    }

    /// A program that `cargo build --release` leaves.
    pub(crate) fn release(&self, program: &str) -> PathBuf {
        self.target.join("release").join(program)
    }

    /// `cargo SUBCOMMAND` in this workspace; it finds the tools that set-up has installed.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let path = env::var_os("PATH").unwrap_or_default();
        let tools = self.tools().join("bin");
        let path = env::join_paths(std::iter::once(tools).chain(env::split_paths(&path)))
            .with_context(|| format!("{} cannot be put in PATH", self.target.display()))?;
        command
            .arg(subcommand)
            .current_dir(&self.root)
            .env("PATH", path)
            .env("CARGO_TARGET_DIR", &self.target);
        Ok(command)
    }

    /// Fails with a clear line if nothing can be written to the target directory.
    pub(crate) fn check_writable(&self) -> Result<()> {
        fs::create_dir_all(&self.target)
            .and_then(|()| tempfile::tempfile_in(&self.target))
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 4096]))
            .map_err(|error| {
                anyhow!(
                    "cannot write in {}: {error}; make that folder yours and free some room, \
                     or set CARGO_TARGET_DIR to another one",
                    self.target.display()
                )
            })
    }

    /// Adds the remedy to an error if the disk is full: few tools say so themselves.
    pub(crate) fn blame_full_disk(&self, error: Error) -> Error {
        let free = statvfs(&self.target)
            .map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
        match free {
            Ok(free) if free < FULL_DISK => error.context(format!(
                "the disk of {} is full ({} MiB free): free 3 GiB and run this again",
                self.target.display(),
                free >> 20
            )),
            _ => error,
        }
    }
}
