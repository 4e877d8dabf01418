//! What the build needs beside cargo's crates, each step said as it is done.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{run, say, second_word};
use crate::library;
use crate::workspace::Workspace;

/// The newest bpf-linker that links with rustc's own LLVM; later ones want one of the system's.
const BPF_LINKER: &str = "0.10.4";

/// Gets what is missing. Where nothing is, nothing is downloaded.
pub(crate) fn perform(workspace: &Workspace) -> Result<()> {
    workspace.check_writable()?;
    bpf_linker(workspace)?;
    library::ensure(workspace)
}

fn bpf_linker(workspace: &Workspace) -> Result<()> {
    let own = workspace.tools().join("bin/bpf-linker");
    for found in [Some(own), which::which("bpf-linker").ok()]
        .into_iter()
        .flatten()
    {
        if version_of(&found).as_deref() == Some(BPF_LINKER) {
            say(format_args!("bpf-linker {BPF_LINKER}: {}", found.display()));
            return Ok(());
        }
    }
    say(format_args!(
        "bpf-linker {BPF_LINKER}: building it (a minute or two)"
    ));
    let mut cargo = workspace.cargo("install")?;
    cargo
        .arg(format!("bpf-linker@{BPF_LINKER}"))
        .args(["--locked", "--force", "--root"])
        .arg(workspace.tools())
        // Most of its work is LLVM's, which is compiled already: an optimised build takes twice as long.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    run(&mut cargo).with_context(|| {
        format!(
            "bpf-linker {BPF_LINKER} can't be had: see cargo's lines above; with the crate \
             registry within reach, run this again"
        )
    })?;
    let installed = workspace.tools().join("bin/bpf-linker");
    if version_of(&installed).as_deref() != Some(BPF_LINKER) {
        bail!(
            "{} does not start: remove the folder {} and run this again",
            installed.display(),
            workspace.tools().display()
        );
    }
    Ok(())
}

/// The version that `program --version` prints after its name; `None` if it does not even start.
fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    second_word(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert_eq!(version_of(Path::new("/no/such/program")), None);
    }
}
