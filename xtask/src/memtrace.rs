//! Building memtrace, and running it on a program.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::command::{as_root, cannot_start, run as run_command, say, way_to_root};
use crate::cross::{self, Target};
use crate::setup;
use crate::workspace::Workspace;

/// What `cargo xtask run` traces when no program is given: a binary of the package `tests`.
const BUNDLED: &str = "fork-write";

/// Sets up, then leaves `target/release/memtrace`, with the BPF object inside.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    setup::perform(workspace)?;
    say("building memtrace");
    run_command(
        workspace
            .cargo("build")?
            .args(["--release", "--package", "memtrace"]),
    )?;
    say(format_args!(
        "memtrace: {}",
        workspace.release("memtrace").display()
    ));
    Ok(())
}

/// The same for that target: one static file, in `target/TARGET/release/memtrace`.
pub(crate) fn build_for(workspace: &Workspace, target: Target) -> Result<()> {
    setup::perform(workspace)?;
    let mut cargo = cross::cargo(workspace, "build", target)?;
    say(format_args!("building memtrace for {}", target.name()));
    run_command(cargo.args(["--release", "--package", "memtrace"]))?;
    say(format_args!(
        "memtrace: {}",
        target.release(workspace, "memtrace").display()
    ));
    Ok(())
}

/// Builds, then becomes `memtrace run -- PROGRAM`, so that its exit status is memtrace's own.
/// Returns only if that can't be started.
pub(crate) fn run(workspace: &Workspace, program: &[OsString]) -> Result<()> {
    // Better now than after minutes of building.
    way_to_root()?;
    build(workspace)?;
    let bundled;
    let program = if program.is_empty() {
        say(format_args!(
            "no PROG given: building the bundled {BUNDLED}"
        ));
        let mut cargo = workspace.cargo("build")?;
        run_command(cargo.args(["--release", "--package", "tests", "--bin", BUNDLED]))?;
        bundled = [workspace.release(BUNDLED).into_os_string()];
        &bundled
    } else {
        program
    };
    let no_color = env::var_os("NO_COLOR").map(|value| ("NO_COLOR", value));
    let mut memtrace = as_root(&workspace.release("memtrace"), no_color.as_slice())?;
    memtrace.args(["run", "--"]).args(program);
    say(format_args!(
        "as root: memtrace run -- {}",
        program.join(" ".as_ref()).display()
    ));
    Err(memtrace.exec()).with_context(|| cannot_start(&memtrace))
}
