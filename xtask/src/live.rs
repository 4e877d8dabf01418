//! All the tests: those that need no root first, then the ones on the live kernel.

use std::env;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Artifact, Message, TargetKind};

use crate::command::{as_root, cannot_start, capture, outside_cargo, run, say, typed};
use crate::kernels;
use crate::memtrace;
use crate::programs::{self, Programs};
use crate::workspace::Workspace;

/// The test that `cargo xtask soak` runs.
pub(crate) const SOAK: &str = "soak";

/// Of the invoker's environment, what the tests look at themselves.
const PASSED_ON: [&str; 3] = ["CI", "RUST_BACKTRACE", "RUST_TEST_THREADS"];

pub(crate) fn test_all(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    memtrace::build(workspace)?;

    say("the tests that need no root");
    run(&mut unit_tests(workspace, filter)?)?;

    say("the programs that the live tests trace");
    let programs = programs::ensure(workspace)?;

    say("building the live tests");
    let tests = build(workspace.cargo("test")?)?.tests;
    let (live, pure): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| test.is_live);
    if live.is_empty() {
        bail!("the package tests has no live test: there should be some in tests/tests");
    }
    let variables = variables(workspace, programs);
    let mut failed = Vec::new();
    let mut any = false;
    for test in pure.iter().chain(&live) {
        // A whole file, or those in it that have such a name.
        let filter = filter.filter(|name| !test.name.contains(name));
        if filter.is_some() && names(outside_cargo(&test.executable).args(filter))?.is_empty() {
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
        Some(name) if !any && names(unit_tests(workspace, filter)?.arg("--"))?.is_empty() => {
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

/// The names of the tests that a command would run.
pub(crate) fn names(command: &mut Command) -> Result<Vec<String>> {
    let list = capture(command.args(["--list", "--format=terse"]))?;
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// What the live tests are told, beside the environment that root has.
pub(crate) fn variables(
    workspace: &Workspace,
    programs: Programs,
) -> Vec<(&'static str, OsString)> {
    let mut variables = own_variables(workspace);
    variables.extend([
        ("MEMTRACE_REDIS_SERVER", programs.redis_server.into()),
        ("PATH", programs.path),
    ]);
    variables
}

/// The same, for those that trace no programs but the workspace's own.
pub(crate) fn own_variables(workspace: &Workspace) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![
        ("MEMTRACE", workspace.release("memtrace").into()),
        ("MEMTRACE_SUBJECTS", workspace.release("").into()),
    ];
    for name in PASSED_ON {
        variables.extend(env::var_os(name).map(|value| (name, value)));
    }
    variables
}

/// What the build of the package `tests` leaves.
#[derive(Default)]
pub(crate) struct Built {
    /// By name.
    pub(crate) tests: Vec<TestProgram>,
    /// The programs that the live tests trace.
    pub(crate) subjects: Vec<PathBuf>,
}

pub(crate) struct TestProgram {
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    /// It needs root; the unit tests of the package's library do not.
    pub(crate) is_live: bool,
}

/// Builds the package `tests` as this user, by that `cargo test`: all but what is for `cargo xtask soak`.
pub(crate) fn build(cargo: Command) -> Result<Built> {
    let mut built = build_tests(cargo, "*")?;
    built.tests.retain(|test| test.name != SOAK);
    Ok(built)
}

/// Builds the tests of which the names match.
pub(crate) fn build_tests(mut cargo: Command, names: &str) -> Result<Built> {
    cargo
        .args(["--package", "tests", "--release", "--lib", "--test", names])
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped());
    let mut building = cargo.spawn().with_context(|| cannot_start(&cargo))?;
    let mut built = Built::default();
    if let Some(messages) = building.stdout.take() {
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) =
                message.context("cannot read what cargo says")?
            {
                built.add(artifact);
            }
        }
    }
    let status = building.wait().with_context(|| cannot_start(&cargo))?;
    if !status.success() {
        bail!("`{}` failed ({status})", typed(&cargo));
    }
    built.tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(built)
}

impl Built {
    fn add(&mut self, artifact: Artifact) {
        let Some(executable) = artifact.executable.map(PathBuf::from) else {
            return;
        };
        let kinds = &artifact.target.kind;
        if artifact.profile.test {
            self.tests.push(TestProgram {
                is_live: kinds.contains(&TargetKind::Test),
                name: artifact.target.name,
                executable,
            });
        } else if kinds.contains(&TargetKind::Bin) {
            self.subjects.push(executable);
        }
    }
}
