//! Everything a developer of memtrace runs: set-up, build, run, test, check, benchmarks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod apt;
mod bench;
mod check;
mod command;
mod cross;
mod cycles;
mod kernels;
mod library;
mod live;
mod memtrace;
mod programs;
mod setup;
mod soak;
mod suite;
mod table;
mod workspace;

use cross::Target;
use workspace::Workspace;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Everything a developer of memtrace runs."
)]
struct Cli {
    #[command(subcommand)]
    task: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get what the build needs and isn't there yet: bpf-linker and the sources of core.
    Setup,
    /// Set up, then leave memtrace in target/release/memtrace.
    Build {
        /// For that target, as one static file in target/TARGET/release/memtrace.
        #[arg(long, value_enum)]
        target: Option<Target>,
    },
    /// Set up, build, then trace PROG, or a small program that forks and writes.
    Run {
        /// The program to trace and its arguments.
        #[arg(last = true, value_name = "PROG ARGS")]
        program: Vec<OsString>,
    },
    /// Set up, build, then run all tests; the live ones as root.
    Test {
        /// Only the tests whose name, or whose file's name, contains this.
        filter: Option<String>,
    },
    /// Set up, build, then put memtrace under load for some minutes, case by case, as root.
    Soak {
        /// Only these cases, or groups of them; a wrong name shows all there are.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Set up, build, then run the live tests on other kernels, in QEMU, and print a table.
    Kernels(kernels::Options),
    /// Set up, then formatting, clippy, of the BPF side too, the documentation, and `cycles`.
    Check,
    /// Find modules of a folder that use each other in a circle: there must be none.
    Cycles {
        /// Look in these [default: the folders that are kept free of them].
        #[arg(value_name = "FOLDER")]
        folders: Vec<PathBuf>,
    },
    /// Set up, build, then compare programs untraced, under memtrace and under its peers.
    Bench(bench::Options),
    /// The measuring part of `bench`, which needs root.
    #[command(hide = true)]
    BenchAsRoot(bench::AsRoot),
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Command) -> Result<()> {
    if let Command::BenchAsRoot(bench) = task {
        return bench.measure();
    }
    let workspace = Workspace::find()?;
    let done = match task {
        Command::Setup => setup::perform(&workspace),
        Command::Build { target: None } => memtrace::build(&workspace),
        Command::Build {
            target: Some(target),
        } => memtrace::build_for(&workspace, target),
        Command::Run { program } => memtrace::run(&workspace, &program),
        Command::Test { filter } => suite::test_all(&workspace, filter.as_deref()),
        Command::Soak { names } => soak::perform(&workspace, &names),
        Command::Cycles { folders } => cycles::perform(&workspace, &folders),
        Command::Check => check::perform(&workspace),
        Command::Kernels(options) => kernels::perform(&workspace, &options),
        Command::Bench(options) => bench::perform(&workspace, &options),
        Command::BenchAsRoot(_) => Ok(()),
    };
    done.map_err(|error| workspace.blame_full_disk(error))
}
