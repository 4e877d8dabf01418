//! The live tests: how they are built, and what they are told.

use std::env;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Artifact, Message, TargetKind};

use crate::command::{cannot_start, capture, typed};
use crate::programs::Programs;
use crate::workspace::Workspace;

/// The test that `cargo xtask soak` runs.
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
