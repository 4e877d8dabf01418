//! Redis takes a snapshot in a forked child while it goes on writing: who copies what.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tests::harness::{Memtrace, Running};

const KEYS: usize = 2000;

#[test]
fn a_background_save_under_writes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let server =
        env::var_os("MEMTRACE_REDIS_SERVER").unwrap_or_else(|| "/usr/bin/redis-server".into());
    ensure!(
        Path::new(&server).exists(),
        "{} is missing: run `cargo xtask test`",
        server.display()
    );

    let memtrace = Memtrace::new()?.with_json();
    let mut command = memtrace.command([server]);
    command.args([
        "--port",
        "0",
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
    ]);
    command
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(folder.path());
    let mut running = Running::start(&mut command)?;

    let mut redis = running.until("redis", || Ok(Redis::connect(&socket).ok()))?;
    let value = "x".repeat(1000);
    for key in 0..KEYS {
        redis.ask(&["SET", &key.to_string(), &value])?;
    }
    // Microseconds a key: the child still saves while the parent writes.
    redis.ask(&["CONFIG", "SET", "rdb-key-save-delay", "500"])?;
    redis.ask(&["BGSAVE"])?;
    for key in 0..KEYS {
        redis.ask(&["SETRANGE", &key.to_string(), "0", "changed"])?;
    }
    redis.ask(&["CONFIG", "SET", "rdb-key-save-delay", "0"])?;
    running
        .until("the end of BGSAVE", || {
            let state = redis.ask(&["INFO", "persistence"])?;
            Ok(state.contains("rdb_bgsave_in_progress:0").then_some(state))
        })
        .map(|state| assert!(state.contains("rdb_last_bgsave_status:ok"), "{state}"))?;
    redis.send(&["SHUTDOWN", "NOSAVE"])?;
    let trace = memtrace.read(running.finish()?)?;

    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    trace.check_accounts()?;
    ensure!(
        fs::metadata(folder.path().join("dump.rdb"))?.len() > KEYS as u64,
        "no snapshot"
    );

    let (server, _) = trace.execs().last().context("no exec")?;
    let saves: Vec<_> = trace
        .clones()
        .filter(|(event, clone)| event.pid == server.pid && !clone.thread)
        .collect();
    let [(fork, clone)] = saves[..] else {
        bail!("{} forks", saves.len())
    };
    let copies = |pid: i32| {
        trace
            .faults()
            .filter(|(event, fault)| {
                event.pid == pid && event.ts >= fork.ts && fault.kind == "cow-copy"
            })
            .count()
    };
    // Four values share a page.
    ensure!(
        copies(server.pid) > KEYS / 8,
        "{} copies in the server",
        copies(server.pid)
    );
    let (_, exit) = trace
        .exits()
        .filter(|(event, _)| event.pid == clone.child_pid)
        .last()
        .context("no exit")?;
    assert_eq!(exit.code, Some(0));
    Ok(())
}

/// A client of Redis, as simple as can be.
struct Redis(BufReader<UnixStream>);

impl Redis {
    fn connect(socket: &Path) -> Result<Self> {
        Ok(Self(BufReader::new(UnixStream::connect(socket)?)))
    }

    fn send(&mut self, words: &[&str]) -> Result<()> {
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

    fn ask(&mut self, words: &[&str]) -> Result<String> {
        self.send(words)?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", answer)) => Ok(answer.to_owned()),
            Some(("$", length)) => {
                let mut answer = vec![0; length.parse::<usize>()? + 2];
                self.0.read_exact(&mut answer)?;
                Ok(String::from_utf8_lossy(&answer).into_owned())
            }
            _ => bail!("{words:?}: {line:?}"),
        }
    }
}
