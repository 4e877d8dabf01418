//! What can't be done is said in a line, with the exit status that a shell user expects.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use memtrace_events::Events;
use nix::sys::resource::{Resource, setrlimit};
use tests::harness::{Memtrace, Run, subject};

#[test]
fn no_such_program() -> Result<()> {
    for program in ["no-such-program-anywhere", "/no/such/program"] {
        let run = Memtrace::new()?.run([program])?;
        run.said_one_line(127, program)?;
    }
    Ok(())
}

#[test]
fn a_directory() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let run = memtrace.run([memtrace.folder()])?;
    run.said_one_line(126, &memtrace.folder().to_string_lossy())
}

#[test]
fn a_file_that_is_not_executable() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join("file");
    fs::write(&file, "#!/bin/sh\n")?;
    memtrace
        .run([&file])?
        .said_one_line(126, &file.to_string_lossy())
}

#[test]
fn wrong_options() -> Result<()> {
    for options in [
        &["--no-such-option"][..],
        &["--only", "no-such-kind"],
        &["--format", "no-such-format"],
        &["--user", "no-such-user"],
    ] {
        let memtrace = Memtrace::new()?.options(options);
        let marker = Marker::new(&memtrace);
        let run = memtrace.run(marker.program())?;
        assert_eq!(run.code(), Some(125), "{options:?}: {run:?}");
        let wrong = options.last().copied().unwrap_or_default();
        ensure!(run.stderr.contains(wrong), "{options:?}: {:?}", run.stderr);
        marker.is_absent()?;
    }
    Ok(())
}

#[test]
fn no_program_given() -> Result<()> {
    let run = Memtrace::new()?.run::<&str>([])?;
    assert_eq!(run.code(), Some(125), "{run:?}");
    Ok(())
}

#[test]
fn an_output_that_cannot_be_opened() -> Result<()> {
    for output in ["/no/such/folder/trace", "/"] {
        let memtrace = Memtrace::new()?.options(["-o", output]);
        let marker = Marker::new(&memtrace);
        memtrace.run(marker.program())?.said_one_line(125, output)?;
        marker.is_absent()?;
    }
    Ok(())
}

#[test]
fn a_full_disk() -> Result<()> {
    for format in ["json", "text"] {
        let memtrace = Memtrace::new()?.options(["-o", "/dev/full", "--format", format]);
        let marker = Marker::new(&memtrace);
        let script = format!(
            "for i in $(seq 1 200); do /bin/true; done; touch {}",
            marker.path()
        );
        memtrace
            .run(["sh", "-c", &script])?
            .said_one_line(125, "/dev/full")?;
        marker.is_there()?;
    }
    Ok(())
}

#[test]
fn nobody_reads_what_memtrace_prints() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let marker = Marker::new(&memtrace);
    // The reader is gone before memtrace prints anything.
    let script = format!(
        "{{ \"$@\" sh -c 'for i in $(seq 1 200); do /bin/true; done; touch {}'; echo $? > {}; }} 2>&1 >/dev/null | true",
        marker.path(),
        memtrace.folder().join("status").display()
    );
    let inner = memtrace.command::<&str>([]);
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    Run::of(&mut command)?;
    marker.is_there()?;
    let status = fs::read_to_string(memtrace.folder().join("status"))?;
    ensure!(
        ["0\n", "125\n"].contains(&status.as_str()),
        "memtrace ended with {status}"
    );
    Ok(())
}

#[test]
fn a_program_that_a_signal_kills() -> Result<()> {
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("HUP", 1)] {
        let script = format!("ulimit -c 0; kill -{signal} $$");
        let trace = Memtrace::new()?.trace(["sh", "-c", &script])?;
        assert_eq!(trace.run.code(), Some(128 + number), "{signal}");
        let (_, exit) = trace.exits().last().context("no exit")?;
        let number = Some(number as u32);
        assert_eq!((exit.code, exit.signal), (None, number), "{signal}");
    }
    Ok(())
}

#[test]
fn a_name_that_would_paint_the_terminal() -> Result<()> {
    const NAME: &str = "evil\n\u{1b}[31m\u{7f}name\u{202e}\u{feff}";
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join(NAME);
    fs::copy(subject("fork-write"), &file)?;
    let run = memtrace.run([&file])?;
    assert_eq!(run.code(), Some(0), "{run:?}");
    let odd = run.stderr.chars().find(|&c| is_odd(c));
    ensure!(odd.is_none(), "{odd:?} in {:?}", run.stderr);
    for line in run.stderr.lines().filter(|line| line.contains("evil")) {
        ensure!(
            line.contains("name"),
            "a name broken over two lines: {line:?}"
        );
    }

    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join(NAME);
    fs::copy(subject("fork-write"), &file)?;
    let argument = OsStr::from_bytes(b"not UTF-8: \xff");
    let memtrace = memtrace.with_json();
    let trace = memtrace.read(memtrace.run([file.as_os_str(), argument])?)?;
    let json = fs::read_to_string(memtrace.json_file())?;
    ensure!(!json.contains(is_odd), "{json}");
    let (event, exec) = trace.execs().next().context("no exec")?;
    assert_eq!(Some(exec.file.as_str()), file.to_str());
    ensure!(
        NAME.starts_with(&*event.comm) && event.comm.ends_with("name"),
        "{event:?}"
    );
    ensure!(exec.args[1].starts_with("not UTF-8: "), "{exec:?}");
    Ok(())
}

#[test]
fn a_wrong_option_that_would_paint_the_terminal() -> Result<()> {
    let odd = "\u{1b}[2J\u{9b}1m\u{202e}";
    for words in [
        vec![format!("--{odd}")],
        vec!["--format".to_owned(), odd.to_owned()],
        vec!["--user".to_owned(), odd.to_owned()],
        vec!["--btf".to_owned(), odd.to_owned()],
        vec!["-o".to_owned(), format!("/no/such/{odd}")],
    ] {
        let run = Memtrace::new()?.options(&words).run(["true"])?;
        ensure!(
            run.code() == Some(125) && !run.stderr.contains(is_odd),
            "{run:?}"
        );
    }
    Ok(())
}

/// Whether a terminal acts on a character, or doesn't show it.
fn is_odd(c: char) -> bool {
    c.is_control() && c != '\n' || ['\u{202e}', '\u{feff}'].contains(&c)
}

#[test]
fn little_memory() -> Result<()> {
    let mut refused = 0;
    for limit in [64, 96, 128, 160, 192, 224, 256, 512, 1024, 4096] {
        let memtrace = Memtrace::new()?;
        let mut command = memtrace.command(["true"]);
        let bytes = limit << 20;
        // SAFETY: it makes a system call.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_AS, bytes, bytes)?)) };
        let run = Run::of(&mut command)?;
        if run.code() != Some(0) {
            run.said_one_line(125, "memtrace: ")
                .with_context(|| format!("{limit} MiB"))?;
            refused += 1;
        }
    }
    ensure!(refused > 0, "no limit was too low");
    Ok(())
}

#[test]
fn without_root() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let marker = Marker::new(&memtrace);
    let mut command = memtrace.of_nobody()?;
    command.args(["run", "--"]).args(marker.program());
    let run = Run::of(&mut command)?;
    run.said_one_line(125, "root")?;
    marker.is_absent()
}

/// A file that shows whether PROG has run.
struct Marker(PathBuf);

impl Marker {
    fn new(memtrace: &Memtrace) -> Self {
        Self(memtrace.folder().join("marker"))
    }

    fn path(&self) -> std::path::Display<'_> {
        Path::display(&self.0)
    }

    fn program(&self) -> [&OsStr; 2] {
        [OsStr::new("touch"), self.0.as_os_str()]
    }

    fn is_absent(&self) -> Result<()> {
        ensure!(!self.0.exists(), "PROG has run");
        Ok(())
    }

    fn is_there(&self) -> Result<()> {
        ensure!(self.0.exists(), "PROG didn't get to its end");
        Ok(())
    }
}
