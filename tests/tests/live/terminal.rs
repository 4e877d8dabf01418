//! The terminal that memtrace is started from, and a program of another user.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::pty::openpty;
use nix::unistd::{User, setsid};
use tests::harness::{Memtrace, subject, wait_for};

#[test]
fn a_stranger_can_not_type_there() -> Result<()> {
    let memtrace = with(Memtrace::new()?.options(["--user", "nobody"]), "pushes")?;
    let errno = pushed(&memtrace)?;
    ensure!(errno != 0, "it could push a character into root's terminal");
    Ok(())
}

#[test]
fn root_and_who_typed_sudo_have_their_terminal() -> Result<()> {
    assert_eq!(pushed(&with(Memtrace::new()?, "pushes")?)?, 0);
    // Without memtrace the kernel decides.
    let legacy = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").unwrap_or("1".to_owned());
    let expected = if legacy.trim() == "0" { libc::EIO } else { 0 };
    let nobody = User::from_name("nobody")?.context("no user nobody")?.uid;
    let memtrace = Memtrace::new()?.variable("SUDO_UID", nobody.to_string());
    assert_eq!(pushed(&with(memtrace, "pushes")?)?, i64::from(expected));
    Ok(())
}

#[test]
fn ctrl_c_reaches_a_stranger_once() -> Result<()> {
    let memtrace = with(
        Memtrace::new()?.options(["--user", "nobody"]),
        "interrupted",
    )?;
    let mut terminal = Terminal::start(memtrace.command([memtrace.folder().join("interrupted")]))?;
    wait_for("PROG's start", || memtrace.note("ready"))?;
    terminal.keys.write_all(b"\x03")?;
    assert_eq!(terminal.finish()?, Some(42));
    assert_eq!(memtrace.note("interrupts")?, Some(1.into()));
    Ok(())
}

#[test]
fn ctrl_c_reaches_root_once() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let mut terminal = Terminal::start(memtrace.command([subject("interrupted")]))?;
    wait_for("PROG's start", || memtrace.note("ready"))?;
    terminal.keys.write_all(b"\x03")?;
    assert_eq!(terminal.finish()?, Some(42));
    assert_eq!(memtrace.note("interrupts")?, Some(1.into()));
    Ok(())
}

/// A subject where every user can run it.
fn with(memtrace: Memtrace, name: &str) -> Result<Memtrace> {
    fs::copy(subject(name), memtrace.folder().join(name))?;
    Ok(memtrace)
}

/// What the subject `pushes` says.
fn pushed(memtrace: &Memtrace) -> Result<i64> {
    let terminal = Terminal::start(memtrace.command([memtrace.folder().join("pushes")]))?;
    let code = terminal.finish()?;
    ensure!(code == Some(0), "{code:?}");
    let errno = memtrace.note("pushed")?.context("it said nothing")?;
    errno.as_i64().context("no number")
}

/// memtrace, started from a terminal of its own.
struct Terminal {
    keys: File,
    child: Child,
}

impl Terminal {
    fn start(mut command: Command) -> Result<Self> {
        let pty = openpty(None, None)?;
        let (input, output) = (pty.slave.try_clone()?, pty.slave.try_clone()?);
        command
            .stdin(input)
            .stdout(output)
            .stderr(pty.slave)
            .current_dir("/");
        let take = || {
            setsid()?;
            // SAFETY: standard input is the terminal.
            let taken = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
            nix::errno::Errno::result(taken)?;
            Ok(())
        };
        // SAFETY: it makes only system calls.
        unsafe { command.pre_exec(take) };
        let child = command.spawn()?;
        let mut screen = File::from(pty.master.try_clone()?);
        // What is printed must be read; it ends with an error when the last has closed the terminal.
        thread::spawn(move || screen.read_to_end(&mut Vec::new()));
        Ok(Self {
            keys: File::from(pty.master),
            child,
        })
    }

    fn finish(mut self) -> Result<Option<i32>> {
        let status = wait_for("memtrace's end", || Ok(self.child.try_wait()?))?;
        Ok(status.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let ended: io::Result<_> = self.child.try_wait();
        if !matches!(ended, Ok(Some(_))) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
