//! A Redis server, and a client of it as simple as can be.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::memtrace::Memtrace;
use super::proc;
use super::run::Running;
use super::trace::Trace;

/// Where a server lives: a folder, which goes with this.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    folder: TempDir,
}

impl RedisServer {
    /// A server's place. An error, with the remedy, where there is no such program.
    pub fn new() -> Result<Self> {
        let program = env::var_os("MEMTRACE_REDIS_SERVER")
            .map_or_else(|| PathBuf::from("/usr/bin/redis-server"), PathBuf::from);
        ensure!(
            program.exists(),
            "{} is missing: run `cargo xtask test`",
            program.display()
        );
        Ok(Self {
            program,
            folder: TempDir::new()?,
        })
    }

    /// The command that starts it: on a socket alone, and without snapshots of its own accord.
    pub fn command(&self) -> Vec<OsString> {
        let options = [
            ["--port", "0"],
            ["--save", ""],
            ["--appendonly", "no"],
            ["--daemonize", "no"],
        ];
        let mut command = vec![self.program.clone().into()];
        command.extend(options.iter().flatten().map(OsString::from));
        command.push("--unixsocket".into());
        command.extend([self.socket().into(), "--dir".into(), self.folder().into()]);
        command
    }

    /// Its folder, where the snapshots go.
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client, if the server is there yet.
    pub fn connect(&self) -> Option<Redis> {
        let stream = UnixStream::connect(self.socket()).ok()?;
        Some(Redis(BufReader::new(stream)))
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("socket")
    }
}

/// A trace of a server that was filled, and then saved all in the background while something was done.
#[derive(Debug)]
pub struct TracedSave<T> {
    /// The trace, of a server that has ended well.
    pub trace: Trace,
    /// What was found meanwhile.
    pub found: T,
    /// What the save copied, as Redis says (`rdb_last_cow_size`).
    pub cow_size: u64,
    /// Bytes in the file that was saved.
    pub size: u64,
}

impl<T> TracedSave<T> {
    /// Traces a server of the keys 0 to `keys`; `meanwhile` is done before its child can save them.
    pub fn of(keys: usize, meanwhile: impl FnOnce(&mut Redis) -> Result<T>) -> Result<Self> {
        let server = RedisServer::new()?;
        let memtrace = Memtrace::new()?.with_json();
        let mut running = Running::start(&mut memtrace.command(server.command()))?;
        let mut redis = running.until("redis", || Ok(server.connect()))?;
        redis.fill(keys)?;
        let save = redis.hold_save()?;
        let found = meanwhile(&mut redis)?;
        save.go_on()?;
        running.until("the end of BGSAVE", || redis.has_saved())?;
        let status = redis.info("persistence", "rdb_last_bgsave_status")?;
        ensure!(status == "ok", "BGSAVE: {status}");
        let cow_size = redis.info("persistence", "rdb_last_cow_size")?.parse()?;
        redis.send(&["SHUTDOWN", "NOSAVE"])?;
        let trace = memtrace.read(running.finish()?)?;
        ensure!(trace.run.code() == Some(0), "{:?}", trace.run);
        trace.check_accounts()?;
        Ok(Self {
            trace,
            found,
            cow_size,
            size: fs::metadata(server.folder().join("dump.rdb"))?.len(),
        })
    }
}

/// A client.
#[derive(Debug)]
pub struct Redis(BufReader<UnixStream>);

impl Redis {
    /// Sends a command.
    pub fn send(&mut self, words: &[&str]) -> Result<()> {
        let lines = words
            .iter()
            .flat_map(|word| [format!("${}", word.len()), (*word).to_owned()]);
        let lines: Vec<_> = [format!("*{}", words.len())]
            .into_iter()
            .chain(lines)
            .collect();
        let message = lines.join("\r\n") + "\r\n";
        Ok(self.0.get_mut().write_all(message.as_bytes())?)
    }

    /// Sends a command and reads the answer, which must not be an error.
    pub fn ask(&mut self, words: &[&str]) -> Result<String> {
        self.send(words)?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", answer)) => Ok(answer.to_owned()),
            Some(("$", length)) => {
                let mut answer = vec![0; length.parse::<usize>()? + 2];
                self.0.read_exact(&mut answer)?;
                answer.truncate(answer.len() - 2);
                Ok(String::from_utf8_lossy(&answer).into_owned())
            }
            _ => bail!("{words:?}: {line:?}"),
        }
    }

    /// Sets the keys 0 to `count` to a kilobyte each.
    pub fn fill(&mut self, count: usize) -> Result<()> {
        let value = "x".repeat(1000);
        for key in 0..count {
            self.ask(&["SET", &key.to_string(), &value])?;
        }
        Ok(())
    }

    /// Changes the beginning of a key's value.
    pub fn change(&mut self, key: usize) -> Result<()> {
        self.ask(&["SETRANGE", &key.to_string(), "0", "changed"])?;
        Ok(())
    }

    /// Whether the background save is over, as who waits for it asks.
    pub fn has_saved(&mut self) -> Result<Option<()>> {
        let state = self.info("persistence", "rdb_bgsave_in_progress")?;
        Ok((state == "0").then_some(()))
    }

    /// Begins a background save, and holds the child that makes it: what is to happen meanwhile does.
    pub fn hold_save(&mut self) -> Result<HeldSave> {
        // Microseconds a key: so that there is a child to hold.
        self.ask(&["CONFIG", "SET", "rdb-key-save-delay", "1000"])?;
        self.ask(&["BGSAVE"])?;
        let server = self.info("server", "process_id")?.parse()?;
        let [child] = proc::children(server)?[..] else {
            bail!("Redis has no child, or several");
        };
        let child = Pid::from_raw(child as i32);
        kill(child, Signal::SIGSTOP)?;
        Ok(HeldSave(child))
    }

    /// A field of INFO.
    pub fn info(&mut self, section: &str, field: &str) -> Result<String> {
        let answer = self.ask(&["INFO", section])?;
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        match value {
            Some(value) => Ok(value.trim_end().to_owned()),
            None => bail!("no {field} in {answer}"),
        }
    }
}

/// A child of Redis's that saves, and is held.
#[derive(Debug)]
pub struct HeldSave(Pid);

impl HeldSave {
    /// Lets it go on.
    pub fn go_on(self) -> Result<()> {
        Ok(kill(self.0, Signal::SIGCONT)?)
    }
}
