//! A database, with a connection, and so a fork, for each transaction.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::User;
use tempfile::TempDir;

use super::{HOST, LIMIT, Server, free_port};
use crate::bench::owned::{Owned, until};
use crate::bench::tool::not_installed;
use crate::command::outside_cargo;

const SECONDS: &str = "3";
/// It refuses to run as root.
const USER: &str = "postgres";
/// Debian keeps each version's programs in a folder of this one, and not in PATH.
const VERSIONS: &str = "/usr/lib/postgresql";

pub(super) struct Postgres {
    programs: PathBuf,
    user: User,
    /// Everything that it writes. Gone with this.
    folder: TempDir,
}

pub(super) fn prepare(scratch: &Path) -> Result<Result<Postgres, String>> {
    let user = User::from_name(USER).context("cannot look for the user postgres")?;
    let (Some(programs), Some(user)) = (programs(), user) else {
        return Ok(Err(not_installed("postgresql")));
    };
    if !programs.join("pgbench").exists() {
        return Ok(Err(not_installed("postgresql-contrib")));
    }
    // The scratch folder may be in one that is closed to others, such as a home.
    let place = if scratch.ancestors().skip(1).all(open_to_all) {
        fs::set_permissions(scratch, fs::Permissions::from_mode(0o711))
            .context("cannot open the scratch folder")?;
        scratch.to_path_buf()
    } else {
        env::temp_dir()
    };
    let folder = tempfile::tempdir_in(place).context("cannot create PostgreSQL's folder")?;
    chown(folder.path(), Some(user.uid.into()), Some(user.gid.into()))
        .context("cannot hand over PostgreSQL's folder")?;
    let this = Postgres {
        programs,
        user,
        folder,
    };
    this.create()?;
    Ok(Ok(this))
}

/// Where pgbench and the like are, of the newest version.
fn programs() -> Option<PathBuf> {
    let in_path = || Some(which::which("postgres").ok()?.parent()?.to_path_buf());
    let versions = fs::read_dir(VERSIONS).ok().into_iter().flatten();
    let names = versions.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    newest(names)
        .map(|version| Path::new(VERSIONS).join(version).join("bin"))
        .filter(|folder| folder.join("postgres").exists())
        .or_else(in_path)
}

fn newest(versions: impl Iterator<Item = String>) -> Option<String> {
    versions.max_by_key(|version| {
        let parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        parts.collect::<Vec<u32>>()
    })
}

fn open_to_all(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & 0o001 != 0)
}

impl Postgres {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as its user.
    fn command(&self, program: &str) -> Command {
        let mut command = outside_cargo(self.programs.join(program));
        command.uid(self.user.uid.into()).gid(self.user.gid.into());
        command
    }

    /// A client, as the database's owner.
    fn client(&self, program: &str, port: u16) -> Command {
        let mut command = self.command(program);
        command.args(["-h", HOST, "-p", &port.to_string(), "-U", USER]);
        command
    }

    fn run(&self, mut command: Command) -> Result<String> {
        Owned::start(&mut command, self.folder.path(), "client")?.printed(LIMIT, || ())
    }

    /// Makes the database, once: a hundred thousand rows.
    fn create(&self) -> Result<()> {
        let mut initdb = self.command("initdb");
        // Nobody but this machine's users can reach it, and only for the time of the benchmark.
        initdb
            .args(["-A", "trust", "-U", USER, "-N", "--no-locale", "-D"])
            .arg(self.data());
        self.run(initdb).context("initdb")?;
        let port = free_port()?;
        let mut process = self.start(port)?;
        let mut fill = self.client("pgbench", port);
        fill.args(["-i", "-q", USER]);
        self.run(fill).context("pgbench -i")?;
        process.end(self.signal()).context("the server")?;
        Ok(())
    }
}

impl Server for Postgres {
    fn start(&self, port: u16) -> Result<Owned> {
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .args(["-h", HOST, "-p", &port.to_string(), "-k"])
            .arg(self.folder.path());
        let process = Owned::start(&mut command, self.folder.path(), "postgres")?;
        until("postgres", LIMIT, || {
            ensure!(!process.has_ended()?, "{}", process.last_words());
            Ok(self.run(self.client("pg_isready", port)).ok())
        })?;
        Ok(process)
    }

    fn work(&self, port: u16) -> Result<f64> {
        let mut command = self.client("pgbench", port);
        command.args(["-n", "-C", "-S", "-c", "4", "-T", SECONDS, USER]);
        transactions_per_second(&self.run(command)?).context("pgbench says no transactions")
    }

    fn signal(&self) -> Signal {
        // It closes the connections, and does not wait for their clients.
        Signal::SIGINT
    }
}

/// From what pgbench prints. Before version 14 a second line follows, without the time that connections take.
fn transactions_per_second(printed: &str) -> Option<f64> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbench_is_read_old_and_new() {
        let new = "number of transactions actually processed: 2000\n\
            average connection time = 3.062 ms\n\
            tps = 612.25 (including reconnection times)\n";
        assert_eq!(transactions_per_second(new), Some(612.25));
        let old = "tps = 85.5 (including connections establishing)\n\
            tps = 296.013 (excluding connections establishing)\n";
        assert_eq!(transactions_per_second(old), Some(85.5));
        assert_eq!(transactions_per_second("pgbench: error\n"), None);
    }

    #[test]
    fn versions_are_numbers() {
        let versions = ["9.6", "15", "10"].map(str::to_owned);
        assert_eq!(newest(versions.into_iter()).as_deref(), Some("15"));
    }
}
