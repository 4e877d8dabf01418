//! What must be clean before a commit: the formatting, clippy on both sides, the documentation, and modules without cycles.

use anyhow::Result;

use crate::command::{run, say};
use crate::cycles;
use crate::live;
use crate::setup;
use crate::workspace::Workspace;

pub(crate) fn perform(workspace: &Workspace) -> Result<()> {
    // Clippy builds memtrace's build script too, and that builds the BPF object.
    setup::perform(workspace)?;

    say("formatting");
    run(workspace.cargo("fmt")?.args(["--all", "--check"]))?;

    say("clippy");
    let mut clippy = workspace.cargo("clippy")?;
    // The soak is no test as others are, so not among the targets.
    clippy.args(["--workspace", "--all-targets", "--test", live::SOAK]);
    clippy.args(["--", "-D", "warnings"]);
    run(&mut clippy)?;

    for processor in ["x86_64", "aarch64"] {
        say(format_args!("clippy on the BPF side for {processor}"));
        let mut clippy = workspace.cargo("clippy")?;
        clippy
            .args(["--package", "memtrace-ebpf", "--features", "probe"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            // A folder of its own: the variables below would make cargo build the host's crates anew.
            .arg("--target-dir")
            .arg(workspace.target.join("bpf").join(processor))
            .args(["--", "-D", "warnings"])
            // As aya-build does it.
            .env(
                "RUSTFLAGS",
                format!("--cfg=bpf_target_arch=\"{processor}\""),
            )
            // Stable rustc takes -Z only so. Nowhere else: it opens unstable features to every crate.
            .env("RUSTC_BOOTSTRAP", "1");
        run(&mut clippy)?;
    }

    say("documentation");
    let mut doc = workspace.cargo("doc")?;
    doc.args(["--workspace", "--no-deps"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;

    say("cycles between modules");
    cycles::perform(workspace, &[])
}
