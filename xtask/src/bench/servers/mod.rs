//! Servers under load, and a tool that is attached to them meanwhile.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::load::Load;
use super::owned::Owned;
use super::results::{Figures, Metric};
use super::tool::{Places, Tool};
use super::watcher::{Scope, Watcher};

mod nginx;
mod postgres;
mod redis;

/// A client that takes longer is ended, and what a server needs to start, too.
const LIMIT: Duration = Duration::from_mins(1);
/// All listen here alone.
const HOST: &str = "127.0.0.1";

/// A server that can be started again and again.
pub(super) trait Server {
    /// Starts it on that port, with all that it writes in its own folder, and waits until it takes requests.
    fn start(&self, port: u16) -> Result<Owned>;

    /// What comes before the tool is attached.
    fn fill(&self, _port: u16) -> Result<()> {
        Ok(())
    }

    /// Puts it under load; how much it did per second.
    fn work(&self, port: u16) -> Result<f64>;

    /// Has it end at once, its children too.
    fn signal(&self) -> Signal {
        Signal::SIGTERM
    }
}

/// The server of this load, set up below the scratch folder. The inner error says what isn't installed.
pub(super) fn prepare(load: Load, scratch: &Path) -> Result<Result<Box<dyn Server>, String>> {
    fn boxed<S: Server + 'static>(server: S) -> Box<dyn Server> {
        Box::new(server)
    }
    Ok(match load {
        Load::Postgres => postgres::prepare(scratch)?.map(boxed),
        Load::Redis => redis::prepare(scratch)?.map(boxed),
        Load::Nginx => nginx::prepare(scratch)?.map(boxed),
        _ => Err("no server".to_owned()),
    })
}

/// Starts the server, attaches the tool, and puts the server under load. Each run has a server of its own, so that none finds
/// what the one before has left.
pub(super) fn measure(tool: Tool, server: &dyn Server, places: &Places) -> Result<Figures> {
    let port = free_port()?;
    let mut process = server.start(port).context("the server")?;
    let figures = watched(tool, server, &process, port, places);
    // In its own way, also where something failed: killed it would have to recover at its next start.
    process.end(server.signal()).context("the server")?;
    figures
}

/// Puts a server that runs under load while the tool watches it. The tool ends first, as in production.
fn watched(
    tool: Tool,
    server: &dyn Server,
    process: &Owned,
    port: u16,
    places: &Places,
) -> Result<Figures> {
    server.fill(port).context("the server's data")?;
    let watcher = Watcher::start(tool, process.pid(), Scope::Tree, places)?;
    let per_second = server.work(port).context("the client")?;
    let mut figures = Figures::from([(Metric::PerSecond, per_second)]);
    if let Some(watcher) = watcher {
        watcher.end(&mut figures)?;
    }
    Ok(figures)
}

/// A port that nobody listens on. (Somebody might take it before the server does; then the run fails.)
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((HOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}
