//! The live tests: how they are built, and what they are told.

use std::env;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, TargetKind};

use crate::command::{cannot_start, capture, typed};
use crate::programs::Programs;
use crate::workspace::Workspace;

/// The tests of `cargo xtask test` and of the guests.
pub(crate) const LIVE: &str = "live";
/// Those of `cargo xtask soak`.
pub(crate) const SOAK: &str = "soak";

/// Of the invoker's environment, what the tests look at themselves.
const PASSED_ON: [&str; 3] = ["CI", "RUST_BACKTRACE", "RUST_TEST_THREADS"];

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
pub(crate) struct Built {
    /// The tests, by the name that was asked for. They need root.
    pub(crate) tests: PathBuf,
    /// The unit tests of the package's library, which do not.
    pub(crate) unit_tests: PathBuf,
    /// The programs that the tests trace.
    pub(crate) subjects: Vec<PathBuf>,
}

/// Builds [`LIVE`] or [`SOAK`] of the package `tests` as this user, by that `cargo test`.
pub(crate) fn build(mut cargo: Command, name: &str) -> Result<Built> {
    cargo
        .args(["--package", "tests", "--release", "--lib", "--test", name])
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped());
    let mut building = cargo.spawn().with_context(|| cannot_start(&cargo))?;
    let (mut tests, mut unit_tests, mut subjects) = (None, None, Vec::new());
    if let Some(messages) = building.stdout.take() {
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) =
                message.context("cannot read what cargo says")?
            {
                let kinds = &artifact.target.kind;
                match artifact.executable.map(PathBuf::from) {
                    Some(program) if kinds.contains(&TargetKind::Test) => tests = Some(program),
                    Some(program) if artifact.profile.test => unit_tests = Some(program),
                    Some(program) if kinds.contains(&TargetKind::Bin) => subjects.push(program),
                    _ => {}
                }
            }
        }
    }
    let status = building.wait().with_context(|| cannot_start(&cargo))?;
    if !status.success() {
        bail!("`{}` failed ({status})", typed(&cargo));
    }
    let missing = || format!("cargo built no test `{name}` of the package tests");
    Ok(Built {
        tests: tests.with_context(missing)?,
        unit_tests: unit_tests.with_context(missing)?,
        subjects,
    })
}
