//! The same tests on the machine's own kernel, for a column beside those of the guests.

use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::plan::{self, Plan};
use super::report::Ended;
use crate::command::{as_root, cannot_start, say};
use crate::live;
use crate::memtrace;
use crate::programs;
use crate::workspace::Workspace;

/// Runs them as root, one after the other.
pub(crate) fn run(workspace: &Workspace) -> Result<Vec<Ended>> {
    memtrace::build(workspace)?;
    let tests = live::build(workspace.cargo("test")?, live::LIVE)?.tests;
    let variables = live::variables(workspace, programs::ensure(workspace)?);
    say("as root: the same tests here");
    plan::programs(Plan::All, &["tracepoints"])
        .iter()
        .map(|program| {
            let backend = program.backend.map(|name| (plan::BACKEND, name.into()));
            let variables: Vec<_> = variables.iter().cloned().chain(backend).collect();
            let mut command = as_root(&tests, &variables)?;
            command
                .current_dir(workspace.root.join("tests"))
                .args(&program.arguments);
            let start = Instant::now();
            let output = command.output().with_context(|| cannot_start(&command))?;
            let status = output.status;
            ensure!(status.signal() != Some(2), "interrupted");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            Ok(Ended {
                name: program.name.clone(),
                status: status
                    .code()
                    .map_or_else(|| status.to_string(), |code| code.to_string()),
                milliseconds: start.elapsed().as_millis() as u64,
                output: said.lines().map(str::to_owned).collect(),
            })
        })
        .collect()
}
