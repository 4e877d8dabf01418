//! What a tool that watches one process costs others, and the CPU that it takes where nothing happens.

use std::time::Duration;

use anyhow::{Context, Result};

use super::load::Load;
use super::owned::Owned;
use super::results::{Figures, Metric};
use super::tool::{Places, Tool};
use super::watcher::{Scope, Watcher};
use crate::command::outside_cargo;

/// So long the tool is looked at while nothing happens.
const IDLE: Duration = Duration::from_secs(10);
/// A bystander that takes longer is ended.
const LIMIT: Duration = Duration::from_mins(2);

/// Has the tool watch a process that sleeps; measures a bystander, or the tool itself.
pub(super) fn measure(tool: Tool, load: Load, places: &Places) -> Result<Figures> {
    let sleeper = Owned::start(
        outside_cargo("sleep").arg("600"),
        &places.scratch,
        "sleeper",
    )?;
    let watcher = Watcher::start(tool, sleeper.pid(), Scope::Itself, places)?;
    let mut figures = Figures::new();
    if load == Load::Bystander {
        let mut bystander = outside_cargo(places.release.join("bench-load"));
        bystander.arg(load.name());
        let bystander = Owned::start(&mut bystander, &places.scratch, "bystander")?;
        figures = read(&bystander.printed(LIMIT, || ())?).context("the bystander says no times")?;
    } else if let Some(watcher) = &watcher {
        figures = watcher.activity(IDLE)?;
    }
    if let Some(watcher) = watcher {
        watcher.end(&mut figures)?;
    }
    Ok(figures)
}

/// The ns of a system call and of a fault, each on a line.
fn read(printed: &str) -> Option<Figures> {
    let mut lines = printed.lines();
    let mut next = || lines.next()?.trim().parse().ok();
    Some(Figures::from([
        (Metric::CallNs, next()?),
        (Metric::FaultNs, next()?),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bystanders_two_times_are_read() {
        let figures = read("190.25\n812.5\n").expect("two times");
        assert_eq!(figures.get(&Metric::CallNs), Some(&190.25));
        assert_eq!(figures.get(&Metric::FaultNs), Some(&812.5));
        assert_eq!(read("190\n"), None);
        assert_eq!(read("a\nb\n"), None);
    }
}
