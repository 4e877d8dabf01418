//! Running a program to its end, within bounds.

use std::ffi::OsStr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

/// How long anything may take before it counts as hung. Far more than it needs, in a guest on a busy machine, too.
const LIMIT: Duration = Duration::from_mins(11);

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
    /// Runs `command` to its end.
    pub fn of(command: &mut Command) -> Result<Self> {
        Running::start(command)?.finish()
    }

    /// Its exit code; none if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails unless it, a memtrace, said one line, which names the thing, and ended with `code`.
    pub fn said_one_line(&self, code: i32, thing: &str) -> Result<()> {
        ensure!(self.code() == Some(code), "{code} expected: {self:?}");
        ensure!(
            self.stderr.lines().count() == 1,
            "one line expected: {}",
            self.stderr
        );
        ensure!(
            self.stderr.contains(thing),
            "{thing:?} should be named: {}",
            self.stderr
        );
        Ok(())
    }

    /// Fails unless it ended because of that signal: with the status that a shell would show for it, or, before it could do
    /// anything about signals, by the signal.
    pub fn was_ended_by(&self, signal: Signal) -> Result<()> {
        let number = signal as i32;
        ensure!(
            self.code() == Some(128 + number) || self.status.signal() == Some(number),
            "{self:?}"
        );
        Ok(())
    }
}

/// The command that has `outer` run `command`, which follows its arguments, in the environment that this one has.
pub fn within(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// A program that was started, in a process group of its own. Dropped before its end, it is killed with its group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

impl Running {
    /// Starts `command`. Its standard output and error are kept, in place of any that it has been given.
    pub fn start(command: &mut Command) -> Result<Self> {
        let (stdout, stderr) = (NamedTempFile::new()?, NamedTempFile::new()?);
        command
            .stdout(stdout.reopen()?)
            .stderr(stderr.reopen()?)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            child,
            stdout,
            stderr,
        })
    }

    /// The process that was started; its process group, too.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Where its standard error is kept.
    pub fn stderr(&self) -> PathBuf {
        self.stderr.path().to_owned()
    }

    /// Waits until `look` finds something. That the program ends before is an error.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait_for(what, || {
            let ended = self.child.try_wait()?;
            match (look()?, ended) {
                (None, Some(status)) => {
                    let stderr = std::fs::read(&self.stderr)?;
                    bail!(
                        "{status} before {what}; stderr: {}",
                        String::from_utf8_lossy(&stderr)
                    )
                }
                (found, _) => Ok(found),
            }
        })
    }

    /// Waits for its end. That it hangs is an error.
    pub fn finish(mut self) -> Result<Run> {
        let status = wait_for("the end of a program", || Ok(self.child.try_wait()?));
        let text = |file: &NamedTempFile| {
            std::fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        let (stdout, stderr) = (text(&self.stdout)?, text(&self.stderr)?);
        let status = status.with_context(|| format!("stderr so far: {stderr}"))?;
        Ok(Run {
            pid: self.child.id(),
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            killpg(self.pid(), Signal::SIGKILL).ok();
            self.child.wait().ok();
        }
    }
}

/// Runs a program as it is.
pub fn untraced<S: AsRef<OsStr>>(program: impl IntoIterator<Item = S>) -> Result<Run> {
    Run::of(&mut command(program)?)
}

/// The command that runs a program as it is.
pub fn command<S: AsRef<OsStr>>(program: impl IntoIterator<Item = S>) -> Result<Command> {
    let mut words = program.into_iter();
    let mut command = Command::new(words.next().context("no program given")?);
    command.args(words).stdin(Stdio::null());
    forget_sudo(&mut command);
    Ok(command)
}

/// Hides from `command` that the tests were started through sudo: memtrace would choose PROG's user by that.
pub(super) fn forget_sudo(command: &mut Command) {
    for name in ["SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND"] {
        command.env_remove(name);
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
