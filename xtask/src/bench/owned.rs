//! A process that is ended with whoever started it, and an end by a signal that leaves none behind.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::command::cannot_start;

/// How often it is looked whether a process has ended.
const STEP: Duration = Duration::from_millis(10);
/// So long it has to end when it is asked to.
const ENDING: Duration = Duration::from_secs(10);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on a signal that would end this program has [`pause`] and [`Owned::wait`] fail instead, so that all that was
/// started is ended first.
pub(super) fn heed_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot heed signals")?;
    }
    Ok(())
}

/// Whether such a signal has come.
pub(super) fn interrupted() -> bool {
    INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Waits for that time.
pub(super) fn pause(time: Duration) -> Result<()> {
    let started = Instant::now();
    while let Some(left) = time.checked_sub(started.elapsed()) {
        if interrupted() {
            bail!("interrupted");
        }
        sleep(left.min(STEP));
    }
    Ok(())
}

/// Waits until `ready` gives something, but not for ever.
pub(super) fn until<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        if started.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        pause(STEP)?;
    }
}

/// A process, and with it all of its group. Dropped, they are ended.
pub(super) struct Owned {
    child: Child,
    /// It was waited for, so that its id may be another's by now.
    gone: bool,
    output: PathBuf,
    errors: PathBuf,
}

impl Owned {
    /// Starts it. What it prints goes to two files of that name in the scratch folder.
    pub(super) fn start(command: &mut Command, scratch: &Path, name: &str) -> Result<Self> {
        let output = scratch.join(format!("{name}.out"));
        let errors = scratch.join(format!("{name}.err"));
        let create = |file: &Path| {
            File::create(file).with_context(|| format!("cannot create {}", file.display()))
        };
        command
            .current_dir(scratch)
            .stdin(Stdio::null())
            .stdout(create(&output)?)
            .stderr(create(&errors)?)
            .process_group(0);
        let child = command.spawn().with_context(|| cannot_start(command))?;
        Ok(Self {
            child,
            gone: false,
            output,
            errors,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended. It is still in /proc then, with what it used.
    pub(super) fn has_ended(&self) -> Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(Pid::from_raw(self.pid() as i32)), flags);
        Ok(status.context("cannot wait for it")? != WaitStatus::StillAlive)
    }

    /// Waits for its end, with a look at it now and then; the last look is at what is left of it in /proc.
    pub(super) fn wait(&mut self, limit: Duration, mut look: impl FnMut()) -> Result<ExitStatus> {
        until("its end", limit, || {
            let ended = self.has_ended()?;
            look();
            Ok(ended.then_some(()))
        })?;
        // Its id is its own, and that of its group, until it is waited for.
        self.kill_group();
        let status = self.child.wait().context("cannot wait for it")?;
        self.gone = true;
        Ok(status)
    }

    /// What is left of the group ends. There may be nothing left of it.
    fn kill_group(&self) {
        let _ = killpg(Pid::from_raw(self.pid() as i32), Signal::SIGKILL);
    }

    /// The same; then what it printed, if it succeeded.
    pub(super) fn printed(mut self, limit: Duration, look: impl FnMut()) -> Result<String> {
        let status = self.wait(limit, look)?;
        if !status.success() {
            bail!("{status}: {}", self.last_words());
        }
        fs::read_to_string(&self.output).context("it printed no text")
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        if !self.has_ended()? {
            let pid = Pid::from_raw(self.pid() as i32);
            nix::sys::signal::kill(pid, signal).context("cannot ask it to end")?;
        }
        self.wait(ENDING, || ())
    }

    /// The last line that it wrote to stderr.
    pub(super) fn last_words(&self) -> String {
        last_line(&fs::read(&self.errors).unwrap_or_default())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.gone {
            self.kill_group();
            let _ = self.child.wait();
        }
    }
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("it says nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    fn shell(script: &str, folder: &Path) -> Result<Owned> {
        Owned::start(Command::new("sh").args(["-c", script]), folder, "sh")
    }

    #[test]
    fn what_it_prints_is_kept() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let printed = shell("echo 12", folder.path())?.printed(LIMIT, || ())?;
        assert_eq!(printed, "12\n");
        Ok(())
    }

    #[test]
    fn its_last_words_say_why_it_failed() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let failing = shell(
            "echo first >&2; echo ' cannot '  >&2; exit 3",
            folder.path(),
        )?;
        let error = failing.printed(LIMIT, || ()).expect_err("it fails");
        assert_eq!(error.to_string(), "exit status: 3: cannot");
        assert_eq!(last_line(b""), "it says nothing");
        Ok(())
    }

    #[test]
    fn it_is_ended_when_dropped_with_its_children() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("child");
        let script = "sleep 600 & echo $! > new; mv new child; wait";
        let owned = shell(script, folder.path())?;
        until("the child", LIMIT, || Ok(file.exists().then_some(())))?;
        let child = fs::read_to_string(file)?;
        drop(owned);
        let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
        // Whoever inherits it may take a while to wait for it.
        until("the child's end", LIMIT, || {
            let left = fs::read_to_string(&stat).unwrap_or_default();
            Ok((left.is_empty() || left.contains(") Z ")).then_some(()))
        })
    }

    #[test]
    fn it_ends_when_asked() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut owned = Owned::start(Command::new("sleep").arg("600"), folder.path(), "sleep")?;
        assert!(!owned.has_ended()?);
        assert_eq!(owned.end(Signal::SIGTERM)?.code(), None);
        Ok(())
    }
}
