//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;
use crate::select::Only;
use crate::target::status;

const RUN_HELP: &str = "\
Examples:
  sudo memtrace run ls -l
          Show what happens in memory while ls runs
  sudo memtrace run --summary make -j2
          Show only how many faults of each kind every process took
  sudo memtrace run --only cow-copy,clone -- redis-server --save 60 1
          Show who copies pages after a fork
  sudo memtrace run -o trace.json --format json python3 prog.py
          Keep the whole trace in a file, an object a line

Exit status:
  PROG's own, or 128+N when signal N ended it; 127 when PROG is not found, 126 when it can't be
  run, 125 when memtrace itself fails.

Ctrl-C reaches PROG as it would without memtrace, which shows its tables once PROG has ended.
SIGTERM or SIGHUP to memtrace ends the trace, and PROG goes on.";

/// Shows what the kernel really does with a program's memory and tasks, as it happens.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What memtrace can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program and show each of its page faults, forks, execs and mappings
    ///
    /// PROG starts when every hook is in place, so nothing of it is missed; all that it starts is followed. What
    /// memtrace prints goes to stderr, or to a file with -o: PROG keeps stdin, stdout and stderr for itself. Options after
    /// PROG are PROG's own.
    ///
    /// Under sudo, PROG runs as the user who typed sudo: with their user and group ids, groups, HOME, USER, LOGNAME and
    /// SHELL, and without sudo's own variables. The rest of the environment, PATH too, is what sudo lets through. Outside
    /// sudo PROG runs as root.
    Run(Run),
}

/// Options of `memtrace run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_HELP, override_usage = "memtrace run [OPTIONS] [--] PROG [ARGS]...")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Run {
    /// Write the trace to FILE instead of stderr
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// How to write it: to be read (text), or an object a line (json)
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,

    /// Show only the table at the end; the kernel counts, no event leaves it
    #[arg(long)]
    pub summary: bool,

    /// Show only these events; `fault` stands for all kinds of faults
    #[arg(
        long,
        value_name = "KIND,...",
        value_delimiter = ',',
        value_parser = Only::parser(),
        conflicts_with = "summary"
    )]
    only: Vec<Only>,

    /// Trace the first process alone, nothing that it starts
    #[arg(long)]
    pub no_follow: bool,

    /// Show each fault on a line of its own, also where neighbouring pages fault alike (text only)
    #[arg(long)]
    pub no_fold: bool,

    /// Run PROG as this user; `root` keeps root and its environment as they are
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Show diagnostics of the kernel's side of memtrace
    #[arg(short, long)]
    pub verbose: bool,

    /// The program to run, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROG")]
    pub command: Vec<OsString>,
}

impl Cli {
    /// Reads the command line. What is wrong with it, or the help that it asks for, is printed; then the exit status
    /// comes back.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|answer| {
            // Where not even this can be written there is no one left to tell.
            let _ = answer.print();
            if answer.use_stderr() {
                ExitCode::from(status::FAILED)
            } else {
                ExitCode::SUCCESS
            }
        })
    }
}

impl Run {
    /// The events to show.
    pub fn only(&self) -> Only {
        if self.only.is_empty() {
            Only::ALL
        } else {
            self.only.iter().copied().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Run, clap::Error> {
        let Command::Run(run) =
            Cli::try_parse_from(["memtrace", "run"].iter().chain(args))?.command;
        Ok(run)
    }

    fn error(args: &[&str]) -> String {
        run(args).expect_err("a usage error").to_string()
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn options_before_prog_are_ours_and_after_it_its_own() {
        let run = run(&["-v", "-o", "f", "ls", "-v", "--summary", "--", "-o"]).expect("valid");
        assert!(run.verbose && !run.summary);
        assert_eq!(run.output, Some("f".into()));
        assert_eq!(run.command, ["ls", "-v", "--summary", "--", "-o"]);
    }

    #[test]
    fn two_dashes_end_our_options_and_are_not_progs() {
        assert_eq!(
            run(&["--", "-odd", "x"]).expect("valid").command,
            ["-odd", "x"]
        );
        assert_eq!(
            run(&["--", "ls", "--", "x"]).expect("valid").command,
            ["ls", "--", "x"]
        );
    }

    #[test]
    fn only_takes_a_list() {
        let chosen = |args: &[&str]| run(args).expect("valid").only();
        assert_eq!(chosen(&["ls"]), Only::ALL);
        let (cow, exec) = (
            chosen(&["--only", "cow-copy", "ls"]),
            chosen(&["--only", "exec", "ls"]),
        );
        assert_ne!(cow, exec);
        let both = [cow, exec].into_iter().collect();
        assert_eq!(chosen(&["--only", "cow-copy,exec", "ls"]), both);
        assert_eq!(chosen(&["--only", "exec", "--only=cow-copy", "ls"]), both);
    }

    #[test]
    fn a_bad_kind_is_named_and_the_right_ones_listed() {
        let error = error(&["--only", "exec,cow", "ls"]);
        assert!(
            error.contains("'cow'") && !error.contains("'exec,cow'"),
            "{error}"
        );
        for name in ["fault", "clone", "lost", "zero-read", "cow-copy", "other"] {
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn usage_errors_name_what_is_wrong() {
        assert!(error(&["--sumary", "ls"]).contains("'--sumary'"));
        assert!(error(&["-o", "f"]).contains("PROG"));
        assert!(error(&["--format", "xml", "ls"]).contains("[possible values: text, json]"));
        assert!(error(&["--summary", "--only", "exec", "ls"]).contains("'--summary'"));
    }
}
