//! How much slower programs run when they are watched: by memtrace, and by its peers.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::command::{as_root, cannot_start, run, say, way_to_root};
use crate::memtrace;
use crate::workspace::Workspace;

mod load;
mod measure;
mod report;
mod results;
mod tool;

use load::Load;
use measure::measure;
use results::Results;
use tool::{Places, Tool};

#[derive(Args)]
pub(crate) struct Options {
    /// How often each program runs under each tool [default: 15 times cow-storm, 5 times the others].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Another build of memtrace, to be measured in the same rounds: one of the commit before, for instance.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Only these programs.
    #[arg(value_enum)]
    loads: Vec<Load>,
}

#[derive(Args)]
pub(crate) struct AsRoot {
    #[arg(long)]
    release: PathBuf,
    #[arg(long)]
    scratch: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// Builds as this user, then becomes the measuring part as root. Returns only if it can't.
pub(crate) fn perform(workspace: &Workspace, options: &Options) -> Result<()> {
    way_to_root()?;
    memtrace::build(workspace)?;
    let mut cargo = workspace.cargo("build")?;
    run(cargo.args(["--release", "--package", "tests", "--bin", "bench-load"]))?;

    let scratch = workspace.target.join("bench");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let xtask = env::current_exe().context("cannot tell where xtask itself is")?;
    // The tools start elsewhere.
    let against = options
        .against
        .as_ref()
        .map(|other| {
            fs::canonicalize(other).with_context(|| format!("--against {}", other.display()))
        })
        .transpose()?;
    let mut measuring = as_root(&xtask, &[])?;
    measuring
        .arg("bench-as-root")
        .arg("--release")
        .arg(workspace.release(""))
        .arg("--scratch")
        .arg(&scratch)
        .args(options.rounds.map(|rounds| format!("--rounds={rounds}")))
        .args(
            against
                .iter()
                .flat_map(|other| ["--against".as_ref(), other.as_os_str()]),
        )
        .args(options.loads.iter().map(|load| OsString::from(load.name())));
    say("as root: the programs, untraced and traced in turn");
    Err(measuring.exec()).with_context(|| cannot_start(&measuring))
}

impl AsRoot {
    /// Runs everything, the tools in turn within each round so that what else the machine does
    /// falls on all of them alike; then prints the report on stdout.
    pub(crate) fn measure(self) -> Result<()> {
        let scratch = tempfile::tempdir_in(&self.scratch)
            .with_context(|| format!("cannot write in {}", self.scratch.display()))?;
        let places = Places {
            release: self.release,
            scratch: scratch.path().to_path_buf(),
            other: self.options.against.clone(),
        };
        let mut results = Results::default();
        let mut tools = Vec::new();
        let asked = |tool: &Tool| !tool.is_other() || places.other.is_some();
        for tool in Tool::ALL.into_iter().filter(asked) {
            match tool.find(&places) {
                Ok(_) => tools.push(tool),
                Err(reason) => results.absent(tool, reason),
            }
        }

        let loads = if self.options.loads.is_empty() {
            Load::value_variants()
        } else {
            &self.options.loads
        };
        // The first shows, too, which tools can't run here at all.
        let rest = loads.iter().filter(|&&load| load != Load::Start);
        for &load in std::iter::once(&Load::Start).chain(rest) {
            let rounds = self.options.rounds.unwrap_or(load.rounds());
            for round in 1..=rounds {
                say(format_args!("{}, round {round} of {rounds}", load.name()));
                for &tool in &tools {
                    if tool.takes(load)
                        && !results.has_failed(tool, Load::Start)
                        && !results.has_failed(tool, load)
                    {
                        take_turn(tool, load, &places, &mut results);
                    }
                }
            }
        }
        print!("{results}");
        let missed = results.missed_goals();
        if missed > 0 {
            bail!("{missed} of the goals missed");
        }
        Ok(())
    }
}

/// Runs one program under one tool, and says on stderr what came of it.
fn take_turn(tool: Tool, load: Load, places: &Places, results: &mut Results) {
    match measure(tool, load, places) {
        Ok(measured) => {
            let ms = measured.ns as f64 / 1e6;
            let start = match load {
                Load::Start => " from its start to the program's",
                _ => "",
            };
            let end = measured.end.map_or(String::new(), |end| {
                format!(", {} faults, {} records lost", end.faults, end.lost)
            });
            eprintln!("    {:22} {ms:9.1} ms{start}{end}", tool.name());
            results.add(tool, load, measured);
        }
        Err(reason) => {
            eprintln!("    {:22} failed: {reason:#}", tool.name());
            results.fail(tool, load, &reason);
        }
    }
}
