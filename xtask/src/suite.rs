//! All the tests: those that need no root first, then the ones on the live kernel, then on others.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{as_root, cannot_start, outside_cargo, run, say};
use crate::kernels;
use crate::live;
use crate::memtrace;
use crate::programs;
use crate::workspace::Workspace;

/// Runs them, or those of which the names contain the filter.
pub(crate) fn test_all(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    memtrace::build(workspace)?;

    say("the tests that need no root");
    run(&mut unit_tests(workspace, filter)?)?;

    say("the programs that the live tests trace");
    let programs = programs::ensure(workspace)?;

    say("building the live tests");
    let built = live::build(workspace.cargo("test")?, live::LIVE)?;
    run(outside_cargo(&built.unit_tests).args(filter))?;
    let live = live::names(outside_cargo(&built.tests).args(filter))?;
    let variables = live::variables(workspace, programs);
    let mut failed = Vec::new();
    // A module at a time.
    for tests in live.chunk_by(|one, next| module(one) == module(next)) {
        let name = module(&tests[0]);
        say(format_args!("as root: the live tests of {name}"));
        let mut command = as_root(&built.tests, &variables)?;
        // Where cargo would run them.
        command
            .current_dir(workspace.root.join("tests"))
            .arg("--exact")
            .args(tests);
        let status = command.status().with_context(|| cannot_start(&command))?;
        if !status.success() {
            failed.push(format!("{name} ({status})"));
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    match filter {
        None => {
            say("the live tests on other kernels");
            kernels::test(workspace)?;
            say("all tests passed");
        }
        Some(name)
            if live.is_empty()
                && live::names(outside_cargo(&built.unit_tests).arg(name))?.is_empty()
                && live::names(unit_tests(workspace, filter)?.arg("--"))?.is_empty() =>
        {
            bail!("no test, and no module of tests, has `{name}` in its name");
        }
        Some(name) => say(format_args!("no test with `{name}` in its name failed")),
    }
    Ok(())
}

/// The module of a live test, `module::function`.
fn module(test: &str) -> &str {
    test.split_once("::").map_or(test, |(module, _)| module)
}

/// The command for the tests that need no root.
fn unit_tests(workspace: &Workspace, filter: Option<&str>) -> Result<Command> {
    let mut cargo = workspace.cargo("test")?;
    cargo
        .args(["--workspace", "--exclude", "tests"])
        .args(filter);
    Ok(cargo)
}
