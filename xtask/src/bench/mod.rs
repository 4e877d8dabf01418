//! How much slower programs run when they are watched: by memtrace, and by its peers. And what that costs all others.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{self, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::command::{as_root, cannot_start, run, say, way_to_root};
use crate::memtrace;
use crate::workspace::Workspace;

mod against;
mod beside;
mod document;
mod end;
mod figure;
mod goals;
mod kept;
mod load;
mod machine;
mod owned;
mod report;
mod results;
mod rounds;
mod servers;
mod statistics;
mod tool;
mod traced;
mod tracefs;
mod usage;
mod watcher;

use kept::About;
use load::Load;
use machine::Machine;
use report::Report;
use rounds::Rounds;
use tool::Places;

/// Below cargo's target directory.
const KEPT: &str = "bench/results.json";

const HELP: &str = "\
How it is measured:
  Each round gives every tool one turn with the load, in a shuffled order. Two turns are without a
  tool: \"untraced\".
  A figure is compared with the same round's untraced run. The report tells the median of these
  comparisons, and the range in which the true one lies, at 95 %.
  The second untraced run is compared like a tool: it shows the machine's noise.

Goals:
  met        the whole interval is within the goal
  MISSED     the whole interval is beyond it; only this makes the exit status 1
  undecided  neither: take more rounds, or a quieter machine; fewer than 6 rounds decide nothing

What isn't installed (perf, bpftrace, strace, trace-cmd; PostgreSQL, Redis, nginx) is named in the
report, and left out. All loads take an hour and more. Have the machine do nothing else meanwhile.

Examples:
  cargo xtask bench cow-storm                        one load, some minutes
  cargo xtask bench cow-storm idle --against HEAD~1  beside the commit before, which is built first
  cargo xtask bench; cargo xtask bench --document    all of it, then into the README";

#[derive(Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Options {
    /// How often each load runs with each tool [default: 15; tools that no goal is about 6 times].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Measure another build of memtrace in the same rounds: a git revision, which is built in target/bench/against, or a
    /// program.
    #[arg(long, value_name = "REV|PROGRAM")]
    against: Option<String>,
    /// Keep all runs, and what is made of them, in this file [default: target/bench/results.json].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure nothing: write the README's tables from the file that an earlier call has kept, of all loads.
    #[arg(long, conflicts_with_all = ["rounds", "against", "loads"])]
    document: bool,
    /// Only these loads (start is always measured, to begin with) [default: all].
    #[arg(value_enum, value_name = "LOAD")]
    loads: Vec<Load>,
}

#[derive(Args)]
pub(crate) struct AsRoot {
    #[arg(long)]
    release: PathBuf,
    #[arg(long)]
    scratch: PathBuf,
    #[arg(long)]
    revision: String,
    /// What to call the program that `--against` names here.
    #[arg(long)]
    against_name: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// Builds as this user, then becomes the measuring part as root. Returns only if it can't, or is to measure nothing.
pub(crate) fn perform(workspace: &Workspace, options: &Options) -> Result<()> {
    let json = match &options.json {
        Some(file) => path::absolute(file).context("--json")?,
        None => workspace.target.join(KEPT),
    };
    if options.document {
        return document::write(workspace, &json);
    }
    way_to_root()?;
    // Better now than after an hour.
    let folder = json.parent().context("--json names no file")?;
    fs::create_dir_all(folder)
        .and_then(|()| tempfile::tempfile_in(folder))
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    memtrace::build(workspace)?;
    let mut cargo = workspace.cargo("build")?;
    run(cargo.args(["--release", "--package", "tests", "--bin", "bench-load"]))?;

    let scratch = workspace.target.join("bench");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let other = options.against.as_deref();
    let other = other
        .map(|what| against::find(workspace, what))
        .transpose()?;
    let xtask = env::current_exe().context("cannot tell where xtask itself is")?;
    let mut measuring = as_root(&xtask, &[])?;
    measuring
        .arg("bench-as-root")
        .arg("--release")
        .arg(workspace.release(""))
        .arg("--scratch")
        .arg(&scratch)
        .arg("--revision")
        .arg(against::revision(workspace)?)
        .arg("--json")
        .arg(json)
        .args(options.rounds.map(|rounds| format!("--rounds={rounds}")));
    if let Some(other) = other {
        measuring
            .arg("--against")
            .arg(other.program)
            .arg("--against-name")
            .arg(other.name);
    }
    measuring.args(options.loads.iter().map(|load| OsString::from(load.name())));
    say("as root: the loads, untraced and traced in turn");
    Err(measuring.exec()).with_context(|| cannot_start(&measuring))
}

impl AsRoot {
    /// Runs everything; then prints the report on stdout, and keeps it all.
    pub(crate) fn measure(self) -> Result<()> {
        owned::heed_signals()?;
        if let Err(error) = tracefs::provide() {
            say(format_args!("{error:#}: bpftrace and trace-cmd will fail"));
        }
        let scratch = tempfile::tempdir_in(&self.scratch)
            .with_context(|| format!("cannot write in {}", self.scratch.display()))?;
        let places = Places {
            release: self.release,
            scratch: scratch.path().to_path_buf(),
            other: self.options.against.map(PathBuf::from),
        };
        let about = About {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            revision: self.revision,
            against: self.against_name,
            machine: Machine::this(),
        };
        let loads = if self.options.loads.is_empty() {
            Load::value_variants()
        } else {
            &self.options.loads
        };
        let results = Rounds::new(&places).measure(loads, self.options.rounds)?;
        let goals = goals::judge(&results);
        let report = Report {
            about: &about,
            results: &results,
            goals: &goals,
        };
        print!("{report}");
        if let Some(json) = &self.options.json {
            kept::write(json, &about, &results, &goals)?;
            println!("\nkept in {}", json.display());
        }
        let missed = goals::missed(&goals);
        if missed > 0 {
            bail!("{missed} of the goals missed");
        }
        Ok(())
    }
}
