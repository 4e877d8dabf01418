//! The command line.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, value_parser};

mod help;

use self::help::{ATTACH_HELP, DOCTOR_HELP, LAB_HELP, RUN_HELP};
use crate::filter::EventFilter;
use crate::output::{Format, ReportFormat, Visible};
use crate::probe::Backend;
use crate::size;
use crate::target::status;

/// The greatest process id that there can be.
const MAX_PID: i64 = i32::MAX as i64;

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

    /// Trace processes that run already, and leave them alone afterwards
    ///
    /// All threads of the processes are traced, and all that they start from then on. What exists at that moment is shown
    /// first: the tasks, what they share, their mappings; what happens follows. The processes are not stopped, neither
    /// now nor at the end, and don't notice.
    ///
    /// A PID is a process's id as ps shows it where memtrace runs: in a container, the container's.
    Attach(Attach),

    /// Decide by experiments what the books say of processes and memory
    ///
    /// For each claim a small program runs under trace, and what the kernel did is held against what the book says:
    /// confirmed, refuted, or qualified (right in one case and wrong in another). The verdict is made from the events of that
    /// run, and /proc must agree.
    Lab(Lab),

    /// Check what this kernel grants memtrace, and what to do about the rest
    ///
    /// Each thing that memtrace can use is tried for itself: the kernel's type information, eBPF, tracepoints, the direct
    /// map, and so on. At last a small program is traced, to see whether all of it together works. Then it says what
    /// memtrace can show here and what not. Without root only some of that can be tried.
    Doctor(Doctor),

    /// The program that doctor traces.
    #[command(hide = true)]
    DoctorSubject,

    /// What continues memtrace when it has stopped with PROG.
    #[command(hide = true)]
    StopGuard {
        /// PROG's id.
        prog: u32,
    },
}

/// How the kernel is looked at.
#[derive(Args, Debug)]
pub struct Kernel {
    /// Take the kernel's types from this BTF file, which must be of exactly the running kernel, where that doesn't show
    /// them itself (in /sys/kernel/btf/vmlinux)
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,

    /// How page faults are observed; by default fentry where the kernel grants it
    #[arg(long, value_enum, value_name = "NAME")]
    pub backend: Option<Backend>,
}

/// What is shown of a trace, and where.
#[derive(Args, Debug)]
pub struct OutputArgs {
    /// Write the trace to FILE instead of stderr; what is there is replaced once the trace begins. Give it again for each
    /// further output; `-` is stderr
    #[arg(short, long = "output", value_name = "FILE")]
    pub outputs: Vec<PathBuf>,

    /// How to write it; by default as FILE ends, or text. With several outputs it is for those whose ending doesn't say it
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Show only the tables at the end; the kernel counts the faults
    #[arg(long)]
    pub summary: bool,

    /// Show only these events; `fault` stands for all kinds of faults
    #[arg(
        long,
        value_name = "KIND,...",
        value_delimiter = ',',
        value_parser = EventFilter::parser(),
        conflicts_with = "summary"
    )]
    only: Vec<EventFilter>,

    /// Show each fault on a line of its own, also where neighbouring pages fault alike (text only)
    #[arg(long)]
    pub no_fold: bool,

    /// Show diagnostics of the kernel's side of memtrace
    #[arg(short, long)]
    pub verbose: bool,

    /// Let SIZE bytes of events wait in the kernel for memtrace, such as 1M or 256M: 32M by default, 8M with --summary.
    /// The next power of two is taken. More loses less where much happens at once
    #[arg(long, value_name = "SIZE", value_parser = size::of_buffer)]
    pub buffer: Option<u32>,

    #[command(flatten)]
    pub kernel: Kernel,
}

/// Options of `memtrace run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_HELP, override_usage = "memtrace run [OPTIONS] [--] PROG [ARGS]...")]
pub struct Run {
    #[command(flatten)]
    pub shown: OutputArgs,

    /// Trace the first process alone, nothing that it starts
    #[arg(long)]
    pub no_follow: bool,

    /// Run PROG as this user; `root` keeps root and its environment as they are. Another than who typed sudo is kept from
    /// the terminal where the kernel would let PROG type there: see doctor
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// The program to run, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROG")]
    pub command: Vec<OsString>,
}

/// Options of `memtrace attach`.
#[derive(Args, Debug)]
#[command(after_help = ATTACH_HELP)]
pub struct Attach {
    /// Trace the descendants that the processes have already, too
    #[arg(long)]
    pub tree: bool,

    /// End the trace after this time: 10s, 1m30s, 500ms; a bare number is seconds
    #[arg(long, value_name = "T", value_parser = duration)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub shown: OutputArgs,

    /// The processes to trace, by their ids
    #[arg(required = true, value_name = "PID", value_parser = value_parser!(u32).range(1..=MAX_PID))]
    pub pids: Vec<u32>,
}

/// Options of `memtrace lab`.
#[derive(Args, Debug)]
#[command(after_help = LAB_HELP)]
pub struct Lab {
    /// Explain each result: the claim, the experiment, what was seen, and why that decides it
    #[arg(long)]
    pub explain: bool,

    /// With --explain: the program's source, too
    #[arg(long, requires = "explain")]
    pub source: bool,

    /// How to write it: to be read (text), or an object a line (json)
    #[arg(long, value_enum, default_value = "text")]
    pub format: ReportFormat,

    /// The claims to decide, by their ids; all by default. `list` shows which there are
    #[arg(value_name = "ID")]
    pub claims: Vec<String>,

    #[command(flatten)]
    pub kernel: Kernel,
}

/// Options of `memtrace doctor`.
#[derive(Args, Debug)]
#[command(after_help = DOCTOR_HELP)]
pub struct Doctor {
    /// How to write it: to be read (text), or one object (json)
    #[arg(long, value_enum, default_value = "text")]
    pub format: ReportFormat,

    #[command(flatten)]
    pub kernel: Kernel,
}

impl Cli {
    /// Reads the command line. What is wrong with it, or the help that it asks for, is printed; then the exit status
    /// comes back.
    pub fn read() -> Result<Self, ExitCode> {
        Self::of(&env::args_os().collect::<Vec<_>>()).map_err(|answer| {
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

impl Cli {
    /// Reads these words. In what is said of a wrong one all is seen.
    fn of(words: &[OsString]) -> Result<Self, clap::Error> {
        Self::try_parse_from(words).map_err(|answer| {
            let seen = words
                .iter()
                .map(|word| Visible(&word.to_string_lossy()).to_string());
            Self::try_parse_from(seen).err().unwrap_or(answer)
        })
    }
}

impl OutputArgs {
    /// The events to show.
    pub fn only(&self) -> EventFilter {
        if self.only.is_empty() {
            EventFilter::ALL
        } else {
            self.only.iter().copied().collect()
        }
    }
}

/// Reads a time.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        humantime::parse_duration(&format!("{text}s"))
    } else {
        humantime::parse_duration(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str, args: &[&str]) -> Result<Command, clap::Error> {
        let words = ["memtrace", command].into_iter();
        Ok(Cli::try_parse_from(words.chain(args.iter().copied()))?.command)
    }

    fn run(args: &[&str]) -> Result<Run, clap::Error> {
        match read("run", args)? {
            Command::Run(run) => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    fn attach(args: &[&str]) -> Result<Attach, clap::Error> {
        match read("attach", args)? {
            Command::Attach(attach) => Ok(attach),
            other => panic!("{other:?}"),
        }
    }

    fn error(args: &[&str]) -> String {
        run(args).expect_err("a usage error").to_string()
    }

    fn attach_error(args: &[&str]) -> String {
        attach(args).expect_err("a usage error").to_string()
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_buffer_that_the_kernel_would_not_take_is_refused() {
        let run = run(&["--buffer", "3M", "ls"]).expect("valid");
        assert_eq!(run.shown.buffer, Some(4 << 20));
        let error = error(&["--buffer", "2G", "ls"]);
        assert!(
            error.contains("--buffer") && error.contains("1G"),
            "{error}"
        );
    }

    #[test]
    fn options_before_prog_are_ours_and_after_it_its_own() {
        let run = run(&["-v", "-o", "f", "ls", "-v", "--summary", "--", "-o"]).expect("valid");
        assert!(run.shown.verbose && !run.shown.summary);
        assert_eq!(run.shown.outputs, ["f"].map(PathBuf::from));
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
        let chosen = |args: &[&str]| run(args).expect("valid").shown.only();
        assert_eq!(chosen(&["ls"]), EventFilter::ALL);
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
        assert!(error(&["--format", "xml", "ls"]).contains("[possible values: text, json"));
        assert!(error(&["--summary", "--only", "exec", "ls"]).contains("'--summary'"));
    }

    #[test]
    fn all_of_a_wrong_word_is_seen() {
        for words in [
            &["run", "--\x1b[2J\n", "ls"][..],
            &["run", "--format", "\u{202e}\u{7f}", "ls"],
            &["attach", "1\u{200b}"],
            &["attach", "--duration", "3\u{9b}m", "1"],
        ] {
            let words = ["memtrace"].iter().chain(words).map(OsString::from);
            let error = Cli::of(&words.collect::<Vec<_>>())
                .expect_err("a usage error")
                .to_string();
            let odd = |c: char| !c.is_ascii_graphic() && ![' ', '\n'].contains(&c);
            assert!(!error.contains(odd) && error.contains('\\'), "{error:?}");
        }
    }

    #[test]
    fn attach_takes_processes_and_options_in_any_order() {
        let attach = attach(&["4711", "--tree", "1", "-o", "f", "2147483647"]).expect("valid");
        assert_eq!(attach.pids, [4711, 1, 2_147_483_647]);
        assert!(attach.tree && !attach.shown.no_fold);
        assert_eq!(attach.shown.outputs, ["f"].map(PathBuf::from));
        assert_eq!(attach.duration, None);
    }

    #[test]
    fn a_time_has_units_or_is_in_seconds() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("0", 0),
            ("1.5", 1500),
            ("10s", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1m 30", 90_000),
            ("1h", 3_600_000),
        ] {
            let attach = attach(&[&format!("--duration={text}"), "1"]).expect("valid");
            assert_eq!(
                attach.duration,
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "soon",
            "-1",
            "-1s",
            "1e3",
            "10x",
            "inf",
            "99999999999999999999",
        ] {
            let error = attach_error(&[&format!("--duration={text}"), "1"]);
            assert!(error.contains("--duration"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_process_id_is_named() {
        for text in ["0", "x", "12x", "", "1.5", "2147483648", "99999999999999"] {
            let error = attach_error(&["1", text]);
            assert!(
                error.contains(&format!("'{text}' for '<PID>...'")),
                "{error}"
            );
        }
        assert!(attach_error(&["--tree"]).contains("<PID>..."));
        assert!(attach_error(&["-1"]).contains("'-1'"));
    }

    #[test]
    fn attach_has_the_options_of_run_that_are_about_the_output() {
        let shared = [
            "--format",
            "json",
            "--no-fold",
            "-v",
            "--only",
            "exec",
            "-o",
            "f",
        ];
        let of_run = run(&[&shared[..], &["ls"]].concat()).expect("valid").shown;
        let of_attach = attach(&[&shared[..], &["1"]].concat())
            .expect("valid")
            .shown;
        assert_eq!(format!("{of_run:?}"), format!("{of_attach:?}"));
        assert!(attach(&["--summary", "1"]).expect("valid").shown.summary);
        assert!(attach_error(&["--summary", "--only", "exec", "1"]).contains("'--summary'"));
        assert!(attach_error(&["--user", "nobody", "1"]).contains("'--user'"));
    }
}
