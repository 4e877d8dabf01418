//! Redis, which is written to while it saves its data in the background: a fork, then copies of what is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{HOST, LIMIT, Server};
use crate::bench::owned::{Owned, until};
use crate::bench::tool::not_installed;
use crate::command::outside_cargo;

/// Keys, each with a value of so many bytes: 100 MB and more, so that the save takes as long as the benchmark.
const KEYS: &str = "100000";
const VALUE: &str = "1000";
const REQUESTS: &str = "100000";

pub(super) struct Redis {
    server: PathBuf,
    client: PathBuf,
    benchmark: PathBuf,
    folder: PathBuf,
}

pub(super) fn prepare(scratch: &Path) -> Result<Result<Redis, String>> {
    let found = ["redis-server", "redis-cli", "redis-benchmark"].map(which::which);
    let [Ok(server), Ok(client), Ok(benchmark)] = found else {
        return Ok(Err(not_installed("redis")));
    };
    let folder = scratch.join("redis");
    fs::create_dir_all(&folder).context("cannot create Redis's folder")?;
    Ok(Ok(Redis {
        server,
        client,
        benchmark,
        folder,
    }))
}

impl Redis {
    fn ask(&self, port: u16, request: &[&str]) -> Result<String> {
        let mut command = outside_cargo(&self.client);
        command
            .args(["-h", HOST, "-p", &port.to_string()])
            .args(request);
        Owned::start(&mut command, &self.folder, "client")?.printed(LIMIT, || ())
    }

    /// redis-benchmark, which writes keys.
    fn writes(&self, port: u16) -> Command {
        let mut command = outside_cargo(&self.benchmark);
        command
            .args(["-h", HOST, "-p", &port.to_string(), "--csv", "-t", "set"])
            .args(["-r", KEYS, "-d", VALUE, "-n", REQUESTS]);
        command
    }
}

impl Server for Redis {
    fn start(&self, port: u16) -> Result<Owned> {
        let mut command = outside_cargo(&self.server);
        command
            .args(["--bind", HOST, "--port", &port.to_string()])
            .args(["--daemonize", "no", "--save", "", "--dir"])
            .arg(&self.folder);
        let process = Owned::start(&mut command, &self.folder, "redis")?;
        until("redis", LIMIT, || {
            ensure!(!process.has_ended()?, "{}", process.last_words());
            let answer = self.ask(port, &["ping"]);
            Ok(answer.is_ok_and(|text| text.trim() == "PONG").then_some(()))
        })?;
        Ok(process)
    }

    fn fill(&self, port: u16) -> Result<()> {
        let mut command = self.writes(port);
        command.args(["-P", "16"]);
        let filling = Owned::start(&mut command, &self.folder, "client")?;
        filling.printed(LIMIT, || ()).map(|_| ())
    }

    fn work(&self, port: u16) -> Result<f64> {
        let answer = self.ask(port, &["bgsave"])?;
        ensure!(answer.contains("saving started"), "bgsave: {answer}");
        let mut command = self.writes(port);
        let printed = Owned::start(&mut command, &self.folder, "client")?.printed(LIMIT, || ())?;
        // Ended amidst a save it would leave a file behind, and that is the whole data.
        until("the save", LIMIT, || {
            let saving = self.ask(port, &["info", "persistence"])?;
            Ok(saving.contains("rdb_bgsave_in_progress:0").then_some(()))
        })?;
        requests_per_second(&printed).context("redis-benchmark says no requests per second")
    }
}

/// From the CSV of redis-benchmark, the line of SET: from 6.2 on there is a heading.
fn requests_per_second(printed: &str) -> Option<f64> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("\"SET\","))?;
    line.split(',').next()?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_benchmark_is_read_old_and_new() {
        let new = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\"\n\
            \"SET\",\"95877.28\",\"0.291\",\"0.088\"\n";
        assert_eq!(requests_per_second(new), Some(95877.28));
        assert_eq!(requests_per_second("\"SET\",\"1234.5\"\n"), Some(1234.5));
        assert_eq!(requests_per_second("ERR\n"), None);
    }
}
