//! Runs the lab's programs under trace.

use std::{
    cell::RefCell,
    ffi::OsString,
    fs::{self, Permissions},
    future::pending,
    io,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    process::{Child, Command},
    time::{Instant, sleep_until, timeout},
};

use super::{
    elf::Elf,
    observed::{Mark, Observed, Snapshot},
    programs::Program,
    snapshot::{parse, snapshot},
    symbols,
};
use crate::{
    cli::Kernel,
    filter::EventFilter,
    kernel::clock::{Moment, now},
    output::{Gather, Gathered},
    probe::{Options, Traced},
    target::{self, Credentials, Inherited, ReceivedSignal, Signals},
    trace_loop::{Step, TraceLoop},
};

/// Where a program finds the socket for its marks.
const SOCKET: &str = "MEMTRACE_LAB";
/// A program that takes longer hangs, even under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a program is run at most.
const RUNS: u32 = 3;
/// The longest line of a mark.
const LINE: u64 = 4096;

/// What came of a run.
pub enum Outcome {
    /// It ended.
    Ended(Box<Observed>),
    /// It had to be ended: why.
    Stuck(String),
    /// A signal asked memtrace to stop.
    Interrupted(ReceivedSignal),
}

/// Where programs run, one after the other, under the same hooks: to load those takes longer than most programs.
pub struct Bench<'a> {
    folder: TempDir,
    credentials: Credentials,
    inherited: &'a Inherited,
    follow: TraceLoop,
    signals: Signals,
    gathered: Rc<RefCell<Gathered>>,
}

impl<'a> Bench<'a> {
    /// Makes a folder for the programs, and attaches the hooks.
    ///
    /// # Errors
    /// One of them can't be done.
    pub fn new(kernel: &Kernel, inherited: &'a Inherited) -> Result<Self> {
        let (sink, gathered) = Gather::new();
        let follow = TraceLoop::to(
            Box::new(sink),
            Options {
                traced: Traced::Experiments,
                summary: false,
                verbose: false,
                buffer: None,
                btf: kernel.btf.as_deref(),
                backend: kernel.backend,
            },
            EventFilter::ALL,
        )?;
        // From here on a signal doesn't end memtrace at once, and leave the folder behind.
        let signals = Signals::new(inherited, &[])?;
        let folder = tempfile::Builder::new()
            .prefix("memtrace-lab-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .context(
                "can't make a folder for the programs; set TMPDIR to one where programs may run",
            )?;
        Ok(Self {
            folder,
            credentials: Credentials::choose(None)?,
            inherited,
            follow,
            signals,
            gathered,
        })
    }

    /// Runs a program, and gathers all that is seen of it; again where that may not be complete.
    ///
    /// # Errors
    /// memtrace itself can't work: the reason.
    pub async fn observe(&mut self, program: &Program) -> Result<Outcome> {
        for _ in 1..RUNS {
            match self.run(program).await? {
                Outcome::Ended(observed) if !observed.is_whole() => {}
                outcome => return Ok(outcome),
            }
        }
        self.run(program).await
    }

    async fn run(&mut self, program: &Program) -> Result<Outcome> {
        let file = self.folder.path().join(program.name);
        fs::write(&file, program.executable)
            .with_context(|| format!("can't write {}", file.display()))?;
        fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        let path = self.folder.path().join("marks");
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("can't make the socket {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o777))?;

        let command = [OsString::from(file)];
        let adapt = |command: &mut Command| {
            // A group of its own, so that all of it can be ended.
            command.process_group(0).env(SOCKET, &path);
            command.stdin(Stdio::null()).stdout(Stdio::null());
        };
        let began = Moment::now();
        let mut prog = target::spawn(&command, adapt, &self.credentials, self.inherited)
            .map_err(|error| anyhow!("{error}; set TMPDIR to a folder where programs may run"))?;
        let group = Pid::from_raw(prog.id().context("the program has no id")?.cast_signed());
        let mut marks = Vec::new();
        let Self {
            follow, signals, ..
        } = self;
        follow.session.start(&command, &[], began)?;
        let watched = watch(follow, signals, &mut prog, &listener, &mut marks).await;
        if !matches!(watched, Ok(Watched::Ended(_))) {
            // It may wait for something that never comes.
            match killpg(group, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => prog.wait().await?,
                Err(error) => return Err(error).context("can't end the program"),
            };
        }
        fs::remove_file(&path)?;
        let status = match watched? {
            Watched::Ended(status) => Some(status),
            Watched::Stuck => None,
            Watched::Interrupted(asked) => return Ok(Outcome::Interrupted(asked)),
        };
        // The next program's trace has nothing of this one.
        let rest = timeout(PATIENCE, follow.until_end(signals, pending())).await;
        let rest = rest.with_context(|| format!("the program {} can't be ended", program.name))?;
        if let Some(asked) = rest? {
            return Ok(Outcome::Interrupted(asked));
        }
        follow.finish(false)?;
        let Gathered { events, end } = self.gathered.take();
        let Some(status) = status else {
            let why = format!("the program {} did not end", program.name);
            return Ok(Outcome::Stuck(why));
        };
        Ok(Outcome::Ended(Box::new(Observed {
            began: began.ts,
            symbols: symbols::of(&events),
            events,
            marks,
            end,
            status,
            elf: Elf::parse(program.executable)?,
        })))
    }
}

/// How the watch over a program ended.
enum Watched {
    Ended(i32),
    Stuck,
    Interrupted(ReceivedSignal),
}

/// What happens next.
enum Next {
    Ended(io::Result<std::process::ExitStatus>),
    Mark(io::Result<UnixStream>),
    Late,
}

async fn watch(
    follow: &mut TraceLoop,
    signals: &mut Signals,
    prog: &mut Child,
    listener: &UnixListener,
    marks: &mut Vec<Mark>,
) -> Result<Watched> {
    let deadline = Instant::now() + PATIENCE;
    let mut status = None;
    while status.is_none() || !follow.nothing_lives() {
        let next = async {
            tokio::select! {
                // First what was said, then the end.
                biased;
                stream = listener.accept() => Next::Mark(stream.map(|(stream, _)| stream)),
                ended = prog.wait(), if status.is_none() => Next::Ended(ended),
                () = sleep_until(deadline) => Next::Late,
            }
        };
        match follow.step(signals, next).await? {
            Step::Happened(Next::Mark(stream)) => marks.push(take(stream?).await?),
            Step::Happened(Next::Ended(ended)) => {
                status = Some(
                    ended
                        .context("can't learn how the program ended")?
                        .into_raw(),
                );
            }
            Step::Happened(Next::Late) => return Ok(Watched::Stuck),
            Step::Signal(asked) => return Ok(Watched::Interrupted(asked)),
            Step::Ticked => {}
        }
    }
    Ok(Watched::Ended(status.unwrap_or_default()))
}

/// Takes a mark: the program waits until its process has been looked at.
async fn take(mut stream: UnixStream) -> Result<Mark> {
    let ts = now();
    let mut line = String::new();
    (&mut stream)
        .take(LINE)
        .read_to_string(&mut line)
        .await
        .context("can't read a mark")?;
    let Some((name, tid, values)) = parse(&line) else {
        bail!("the program has made a mark that is none: {line:?}");
    };
    let pid = stream
        .peer_cred()?
        .pid()
        .context("the kernel doesn't say who makes a mark")?;
    let pid = pid.cast_unsigned();
    let other = values
        .get("kcmp")
        .and_then(|&other| u32::try_from(other).ok());
    let snapshot: Snapshot = snapshot(pid, tid, values.values().copied(), other)?;
    // Who is gone already doesn't wait.
    let _ = stream.write_all(b"\n").await;
    Ok(Mark {
        ts,
        pid,
        tid,
        name,
        values,
        snapshot,
    })
}
