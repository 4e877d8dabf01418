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
    let tests = live::build(workspace.cargo("test")?)?.tests;
    let (live, pure): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| test.is_live);
    if live.is_empty() {
        bail!("the package tests has no live test: there should be some in tests/tests");
    }
    let variables = live::variables(workspace, programs);
    let mut failed = Vec::new();
    let mut any = false;
    for test in pure.iter().chain(&live) {
        // A whole file, or those in it that have such a name.
        let filter = filter.filter(|name| !test.name.contains(name));
        if filter.is_some() && live::names(outside_cargo(&test.executable).args(filter))?.is_empty()
        {
            continue;
        }
        any = true;
        let mut command = if test.is_live {
            say(format_args!("as root: the live tests of {}", test.name));
            as_root(&test.executable, &variables)?
        } else {
            outside_cargo(&test.executable)
        };
        // Where cargo would run them.
        command
            .current_dir(workspace.root.join("tests"))
            .args(filter);
        let status = command.status().with_context(|| cannot_start(&command))?;
        if !status.success() {
            failed.push(format!("{} ({status})", test.name));
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
        Some(name) if !any && live::names(unit_tests(workspace, filter)?.arg("--"))?.is_empty() => {
            bail!("no test, and no file of tests, has `{name}` in its name");
        }
        Some(name) => say(format_args!("no test with `{name}` in its name failed")),
    }
    Ok(())
}

/// The command for the tests that need no root.
fn unit_tests(workspace: &Workspace, filter: Option<&str>) -> Result<Command> {
    let mut cargo = workspace.cargo("test")?;
    cargo
        .args(["--workspace", "--exclude", "tests"])
        .args(filter);
    Ok(cargo)
}
