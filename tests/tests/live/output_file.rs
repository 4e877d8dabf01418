//! Where a trace goes: what was there is replaced only by a trace, and whoever reads it can't hold memtrace.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use memtrace_events::Events;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tests::harness::{Memtrace, Run, Running, subject};

#[test]
fn prog_itself_is_not_written_over() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let prog = memtrace.folder().join("prog");
    fs::copy("/bin/true", &prog)?;
    let link = memtrace.folder().join("link");
    fs::hard_link(&prog, &link)?;
    let memtrace = memtrace.options(["-o".as_ref(), link.as_os_str()]);
    refused(&memtrace.run([&prog])?, "it is the program to run")?;
    // By way of PATH.
    let mut command = memtrace.command(["prog"]);
    command.env("PATH", memtrace.folder());
    refused(&Run::of(&mut command)?, "it is the program to run")?;
    ensure!(fs::read(&prog)? == fs::read("/bin/true")?, "it was changed");
    Ok(())
}

#[test]
fn an_interpreter_is_not_written_over() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let [shell, script] = ["shell", "script"].map(|name| memtrace.folder().join(name));
    fs::copy("/bin/sh", &shell)?;
    fs::write(&script, format!("#!{}\n", shell.display()))?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let memtrace = memtrace.options(["-o".as_ref(), shell.as_os_str()]);
    refused(&memtrace.run([&script])?, "it is the program's interpreter")?;
    ensure!(fs::read(&shell)? == fs::read("/bin/sh")?, "it was changed");
    Ok(())
}

#[test]
fn memtrace_and_who_is_attached_to_are_not_written_over() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let binary = memtrace.binary().to_owned();
    let memtrace = memtrace.options(["-o".as_ref(), binary.as_os_str()]);
    refused(&memtrace.run(["true"])?, "it is memtrace itself")?;

    let memtrace = Memtrace::new()?.options(["-o".as_ref(), std::env::current_exe()?.as_os_str()]);
    let own = std::process::id();
    let run = Run::of(&mut memtrace.attach([own]))?;
    refused(&run, &format!("it is the program of process {own}"))
}

#[test]
fn what_was_there_stays_when_prog_does_not_start() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let [old, new, prog] = ["old", "new", "prog"].map(|name| memtrace.folder().join(name));
    fs::write(&old, "what was there")?;
    fs::write(&prog, "no program")?;
    let no = PathBuf::from("/no/such/program");
    for (prog, code) in [(&prog, 126), (&no, 127)] {
        for output in [&old, &new] {
            let memtrace = Memtrace::new()?.options(["-o".as_ref(), output.as_os_str()]);
            let run = memtrace.run([prog])?;
            ensure!(
                run.code() == Some(code) && run.stderr.lines().count() == 1,
                "{run:?}"
            );
        }
    }
    assert_eq!(fs::read_to_string(&old)?, "what was there");
    ensure!(!new.exists(), "a file was left");
    Ok(())
}

#[test]
fn what_is_replaced_is_said() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let said = |run: &Run| run.stderr.contains("was there, and is replaced\n");
    let run = memtrace.run(["true"])?;
    ensure!(run.code() == Some(0) && run.stderr.is_empty(), "{run:?}");
    let longer = fs::read_to_string(memtrace.json_file())? + "an older trace\n";
    fs::write(memtrace.json_file(), &longer)?;
    let run = memtrace.run(["true"])?;
    ensure!(
        run.code() == Some(0) && said(&run) && run.stderr.lines().count() == 1,
        "{run:?}"
    );
    ensure!(
        !fs::read_to_string(memtrace.json_file())?.contains("an older trace"),
        "it is still there"
    );
    Ok(())
}

#[test]
fn several_outputs_at_once() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let [json, text] = ["trace.json", "trace.txt"].map(|name| memtrace.folder().join(name));
    let outputs = [
        "-o".as_ref(),
        json.as_os_str(),
        "-o".as_ref(),
        text.as_os_str(),
    ];
    let memtrace = memtrace.options(["-o", "-"]).options(outputs);
    let run = memtrace.run([subject("fork-write")])?;
    assert_eq!(run.code(), Some(0), "{run:?}");
    let trace = memtrace.read(run)?;
    ensure!(trace.clones().next().is_some(), "no clone in JSON");
    let shown = &trace.run.stderr;
    ensure!(
        shown.contains("cow-copy") && *shown == fs::read_to_string(&text)?,
        "{shown}"
    );
    Ok(())
}

#[test]
fn one_output_that_fails_does_not_keep_the_others() -> Result<()> {
    let memtrace = Memtrace::new()?.options(["-o", "/dev/full"]).with_json();
    let run = memtrace.run([subject("fork-write")])?;
    refused(
        &run,
        "can't write the trace to \"/dev/full\": No space left on device",
    )?;
    let trace = memtrace.read(run)?;
    ensure!(trace.clones().next().is_some(), "no clone in JSON");
    trace.check_accounts()
}

#[test]
fn outputs_that_do_not_go_together() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let json = memtrace.json_file();
    let twice = ["-o".as_ref(), json.as_os_str()];
    refused(
        &memtrace.options(twice).run(["true"])?,
        "it is another output",
    )?;
    ensure!(!json.exists(), "a file was left");
    let memtrace = Memtrace::new()?.options(["--format", "json", "-o", "/tmp/trace.txt"]);
    refused(&memtrace.run(["true"])?, "--format json is for no output")
}

#[test]
fn a_file_may_not_be_longer() -> Result<()> {
    let memtrace = Memtrace::new()?.with_json();
    let mut command = memtrace.command(["sh", "-c", "exit 3"]);
    let limit = || Ok(setrlimit(Resource::RLIMIT_FSIZE, 4096, 4096)?);
    // SAFETY: it makes a system call.
    unsafe { command.pre_exec(limit) };
    let run = Run::of(&mut command)?;
    refused(&run, "File too large")?;
    assert_eq!(fs::metadata(memtrace.json_file())?.len(), 4096);
    Ok(())
}

#[test]
fn nobody_opens_the_pipe() -> Result<()> {
    for moment in [50, 500] {
        let pipe = Pipe::new()?;
        let marker = pipe.memtrace.folder().join("marker");
        let running = pipe.start(["touch".into(), marker.clone()])?;
        sleep(Duration::from_millis(moment));
        kill(running.pid(), Signal::SIGTERM)?;
        let run = running.finish()?;
        run.was_ended_by(Signal::SIGTERM)?;
        ensure!(!marker.exists(), "PROG has run");
    }
    Ok(())
}

#[test]
fn who_reads_the_pipe_stops_reading() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let pipe = Pipe::new()?;
        let _reader = pipe.reader()?;
        let marker = pipe.memtrace.folder().join("marker");
        // Far more than a pipe holds. It goes on when memtrace has ended, until the marker goes with the folder.
        let much = "for i in $(seq 1 200); do /bin/true; done; touch $0; while [ -e $0 ]; do sleep 0.01; done";
        let mut running = pipe.start(["sh".into(), "-c".into(), much.into(), marker.clone()])?;
        running.until("PROG to get on", || Ok(marker.exists().then_some(())))?;
        kill(running.pid(), signal)?;
        let run = running.finish()?;
        refused(&run, "nobody reads it")?;
    }
    Ok(())
}

#[test]
fn who_reads_the_pipe_goes_away() -> Result<()> {
    let pipe = Pipe::new()?;
    let reader = pipe.reader()?;
    let go_on = pipe.memtrace.folder().join("go on");
    let script = "while [ ! -e \"$0\" ]; do sleep 0.01; done; exit 3";
    let mut running = pipe.start(["sh".into(), "-c".into(), script.into(), go_on.clone()])?;
    running.until("the first line", || {
        Ok((waiting(&reader)? > 0).then_some(()))
    })?;
    drop(reader);
    fs::write(&go_on, "")?;
    refused(&running.finish()?, "Broken pipe")
}

/// A pipe in place of a file.
struct Pipe {
    memtrace: Memtrace,
    path: PathBuf,
}

impl Pipe {
    fn new() -> Result<Self> {
        let memtrace = Memtrace::new()?;
        let path = memtrace.folder().join("pipe");
        mkfifo(&path, Mode::S_IRWXU)?;
        let memtrace = memtrace.options([
            "--format".as_ref(),
            "json".as_ref(),
            "-o".as_ref(),
            path.as_os_str(),
        ]);
        Ok(Self { memtrace, path })
    }

    fn reader(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        Ok(options
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&self.path)?)
    }

    fn start<const N: usize>(&self, program: [PathBuf; N]) -> Result<Running> {
        Running::start(&mut self.memtrace.command(program))
    }
}

/// Bytes in a pipe.
fn waiting(pipe: &File) -> Result<libc::c_int> {
    let mut bytes = 0;
    // SAFETY: there is room for the answer.
    let asked = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(pipe),
            libc::FIONREAD,
            &raw mut bytes,
        )
    };
    nix::errno::Errno::result(asked)?;
    Ok(bytes)
}

/// memtrace said one line with these words, and failed.
fn refused(run: &Run, words: &str) -> Result<()> {
    run.said_one_line(125, words)
}
