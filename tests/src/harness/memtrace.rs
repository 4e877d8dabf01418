//! memtrace's command line.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::run::{Run, Running, command, forget_sudo};
use super::trace::Trace;
use crate::subject::report::{Fact, REPORT};

/// How often a program is traced at most.
const TRACES: u32 = 3;

/// A run of memtrace in the making.
#[derive(Debug)]
pub struct Memtrace {
    binary: PathBuf,
    options: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    folder: TempDir,
}

impl Memtrace {
    /// memtrace without options. An error, with the remedy, where live tests can't run.
    pub fn new() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "live tests need root: run `cargo xtask test`"
        );
        let binary = env::var_os("MEMTRACE").map_or_else(|| release("memtrace"), PathBuf::from);
        ensure!(
            binary.exists(),
            "{} is missing: run `cargo xtask test`",
            binary.display()
        );
        let folder = TempDir::new()?;
        // PROG may run as another user, who must reach its report.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let report = folder.path().join("report");
        fs::write(&report, "")?;
        fs::set_permissions(&report, Permissions::from_mode(0o666))?;
        Ok(Self {
            binary,
            options: Vec::new(),
            variables: Vec::new(),
            folder,
        })
    }

    /// With these options.
    #[must_use]
    pub fn options<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options
            .extend(options.into_iter().map(|option| option.as_ref().to_owned()));
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// memtrace itself.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A folder for this run, which others may enter; it goes with `self`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command: `memtrace run OPTIONS -- PROGRAM...`.
    pub fn command<S: AsRef<OsStr>>(&self, program: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.words("run");
        command.arg("--").args(program);
        command.env(REPORT, self.report());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the subject `patient`, and waits until it is ready. It goes on when the file is there that comes with it.
    pub fn start_patient(&self) -> Result<(Running, PathBuf)> {
        let file = self.folder().join("go on");
        let mut running =
            Running::start(&mut self.command([subject("patient"), file.clone().into()]))?;
        running.until("the program's start", || self.note("ready"))?;
        Ok((running, file))
    }

    /// The command `memtrace` of a user without rights.
    pub fn of_nobody(&self) -> Result<Command> {
        const NOBODY: u32 = 65_534;
        // The usual place may be in a folder that is closed to others.
        let binary = self.folder().join("memtrace");
        fs::copy(&self.binary, &binary)?;
        let mut command = command([&binary])?;
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        Ok(command)
    }

    /// The command: `memtrace attach OPTIONS PID...`.
    pub fn attach(&self, pids: impl IntoIterator<Item = impl ToString>) -> Command {
        let mut command = self.words("attach");
        command.args(pids.into_iter().map(|pid| pid.to_string()));
        command
    }

    /// The command: `memtrace lab OPTIONS ARGS...`.
    pub fn lab(&self, args: &[&str]) -> Command {
        let mut command = self.words("lab");
        command.args(args);
        command
    }

    fn words(&self, what: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(what);
        // Which backend is to be tested; else memtrace chooses.
        if let Some(backend) = env::var_os("MEMTRACE_BACKEND") {
            command.arg("--backend").arg(backend);
        }
        command.args(&self.options).stdin(Stdio::null());
        forget_sudo(&mut command);
        command
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, program: impl IntoIterator<Item = S>) -> Result<Run> {
        Run::of(&mut self.command(program))
    }

    /// Runs it to its end, with JSON into a file, and reads that. The trace is checked as all must be. One that may be incomplete,
    /// as the kernel has left hooks out, decides nothing: it is made again, and only the last is taken as it is.
    pub fn trace<S: AsRef<OsStr>>(self, program: impl IntoIterator<Item = S>) -> Result<Trace> {
        let this = self.with_json();
        let program: Vec<S> = program.into_iter().collect();
        for _ in 1..TRACES {
            let trace = this.read(this.run(&program)?)?;
            if trace.end.missed.is_empty() {
                return Ok(trace);
            }
            fs::write(this.report(), "")?;
        }
        this.read(this.run(&program)?)
    }

    /// With JSON into the file that [`Self::read`] reads.
    #[must_use]
    pub fn with_json(self) -> Self {
        let file = self.json_file();
        self.options([
            OsStr::new("--format"),
            OsStr::new("json"),
            OsStr::new("-o"),
            file.as_os_str(),
        ])
    }

    /// Where the JSON goes.
    pub fn json_file(&self) -> PathBuf {
        self.folder.path().join("trace.json")
    }

    /// Reads what a run [`Self::with_json`] left.
    pub fn read(&self, run: Run) -> Result<Trace> {
        let json = fs::read_to_string(self.json_file())
            .with_context(|| format!("no trace; memtrace said: {}", run.stderr))?;
        Trace::read(&json, self.facts()?, run)
    }

    /// Where the subject reports.
    fn report(&self) -> PathBuf {
        self.folder.path().join("report")
    }

    /// What the subject has reported so far.
    pub fn facts(&self) -> Result<Vec<Fact>> {
        facts(&self.report())
    }

    /// What the subject has reported as a note of that name, if it has.
    pub fn note(&self, name: &str) -> Result<Option<Value>> {
        note(&self.report(), name)
    }
}

impl Trace {
    /// Traces a subject, given by its name and arguments. It must end well.
    pub fn run<const N: usize>(words: [&str; N]) -> Result<Self> {
        Self::program(subject_command(&words)?)
    }

    /// Traces several subjects in one run, one after the other, each given by its name and arguments. All must end well.
    pub fn in_turn(subjects: &[&[&str]]) -> Result<Self> {
        let words = [&["in-turn"][..], &subjects.join(&",")].concat();
        Self::program(subject_command(&words)?)
    }

    /// Traces any program, which must end well.
    pub fn program<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Result<Self> {
        let trace = Memtrace::new()?.trace(words)?;
        let command = &trace.start.command;
        ensure!(trace.run.code() == Some(0), "{command:?}: {:?}", trace.run);
        trace.check_accounts()?;
        Ok(trace)
    }
}

/// A subject's path, and its arguments.
pub fn subject_command(words: &[&str]) -> Result<Vec<OsString>> {
    let (name, args) = words.split_first().context("no subject given")?;
    Ok([subject(name)]
        .into_iter()
        .chain(args.iter().map(Into::into))
        .collect())
}

/// What is in a report so far. Of a line that is being written, a part may be there; it is left for later.
pub(super) fn facts(report: &Path) -> Result<Vec<Fact>> {
    let report = fs::read_to_string(report)?;
    let whole = report.rfind('\n').map_or(0, |end| end + 1);
    report[..whole]
        .lines()
        .map(|line| serde_json::from_str(line).context("a line of the report"))
        .collect()
}

/// The note of that name in a report, if it is there.
pub(super) fn note(report: &Path, name: &str) -> Result<Option<Value>> {
    Ok(facts(report)?.into_iter().find_map(|fact| match fact {
        Fact::Note(this, value) if this == name => Some(value),
        _ => None,
    }))
}

/// Where the subject `name` is.
pub fn subject(name: &str) -> OsString {
    env::var_os("MEMTRACE_SUBJECTS")
        .map_or_else(|| release(name), |folder| Path::new(&folder).join(name))
        .into()
}

fn release(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/release")
        .join(name)
}
