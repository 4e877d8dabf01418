//! Running a program to its end, within bounds.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

/// How long anything may take before it counts as hung. Far more than it needs.
pub const LIMIT: Duration = Duration::from_secs(180);

/// A program that ran to its end.
#[derive(Debug)]
pub struct Run {
    /// The process that was started.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Run {
    /// Runs `command` in a process group of its own, which is killed should it hang. Standard output and error, unless
    /// the command has others, are kept.
    pub fn of(command: &mut Command) -> Result<Self> {
        let (stdout, stderr) = (NamedTempFile::new()?, NamedTempFile::new()?);
        command
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?);
        let mut child = start(command)?;
        let status = wait_with_limit(&mut child).with_context(|| format!("{command:?}"));
        let text = |file: NamedTempFile| -> Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(&file)?).into_owned())
        };
        let (stdout, stderr) = (text(stdout)?, text(stderr)?);
        let status = status.with_context(|| format!("stderr so far: {stderr}"))?;
        Ok(Self {
            pid: child.id(),
            status,
            stdout,
            stderr,
        })
    }

    /// Its exit code; none if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// Runs a program as it is.
pub fn untraced<S: AsRef<OsStr>>(program: impl IntoIterator<Item = S>) -> Result<Run> {
    let mut words = program.into_iter();
    let program = words.next().context("no program given")?;
    Run::of(Command::new(program).args(words).stdin(Stdio::null()))
}

/// Starts `command` in a process group of its own.
pub fn start(command: &mut Command) -> Result<Child> {
    command
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Waits for the end of a child from [`start`]; one that hangs is killed, with its group, and is an error.
pub fn wait_with_limit(child: &mut Child) -> Result<ExitStatus> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > end {
            // Gone already is fine.
            killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).ok();
            child.wait()?;
            bail!("hung: killed after {} s", LIMIT.as_secs());
        }
        sleep(Duration::from_millis(5));
    }
}

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("waited {} s in vain for {what}", LIMIT.as_secs());
        }
        sleep(Duration::from_millis(5));
    }
}
