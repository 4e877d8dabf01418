//! More of everything than a program should have.

use anyhow::{Result, ensure};
use memtrace_events::End;
use tests::harness::{Memtrace, Running, subject};

use crate::support::{Ended, Group, end, ended, nothing_lost};

/// Traces the subject `load`.
fn load(words: &[&str]) -> Result<(Ended, End)> {
    let memtrace = Memtrace::new()?.with_json();
    let command = [subject("load")]
        .into_iter()
        .chain(words.iter().map(Into::into));
    let running = Running::start(&mut memtrace.command(command))?;
    let group = Group::of(&running);
    let ended = ended(running)?;
    drop(group);
    let end = end(&memtrace)?;
    Ok((ended, end))
}

/// What the kernel counted and what was seen are the same, but for what it took itself and is named.
fn adds_up(end: &End) -> Result<()> {
    nothing_lost(end)?;
    let unexplained = end.total.unobserved_by.get("unexplained");
    ensure!(
        unexplained.is_none_or(|count| *count == 0),
        "{:?}",
        end.total
    );
    Ok(())
}

/// More threads than memtrace follows at a time: the others are counted.
#[test]
fn more_threads_than_are_followed() -> Result<()> {
    let (ended, end) = load(&["threads", "5000", "4"])?;
    ended.well()?;
    let not_followed: u64 = end.lost.values().sum();
    ensure!(
        not_followed > 0,
        "nothing says that threads were not followed"
    );
    Ok(())
}

#[test]
fn five_thousand_threads() -> Result<()> {
    let (ended, end) = load(&["threads", "5000", "1"])?;
    ended.well()?;
    adds_up(&end)
}

/// More tasks than are kept, one after another.
#[test]
fn ten_thousand_forks() -> Result<()> {
    let (ended, end) = load(&["forks", "4", "2500"])?;
    ended.well()?;
    ensure!(end.tasks_left_out > 0, "all tasks are kept");
    // Not one with each of its own account.
    ensure!(
        end.forks.iter().any(|fork| fork.number == 0),
        "no sum of forks"
    );
    Ok(())
}

/// Each generation forks the next, and lives until that has ended.
#[test]
fn five_hundred_generations() -> Result<()> {
    let (ended, end) = load(&["chain", "500"])?;
    ended.well()?;
    adds_up(&end)?;
    ensure!(end.forks.len() == 500, "{} forks", end.forks.len());
    for fork in &end.forks {
        let given_up = fork.given_up.exec + fork.given_up.exit + fork.given_up.munmap;
        let copied = fork.by_child + fork.by_parent + fork.by_others + fork.at_once;
        let ends = copied + fork.taken_over + given_up + fork.still_shared + fork.unknown;
        ensure!(fork.pages == ends, "{fork:?}");
    }
    Ok(())
}

/// As many calls again that unmap them.
#[test]
fn half_a_million_mappings_one_after_another() -> Result<()> {
    let (ended, end) = load(&["calls", "500000"])?;
    ended.well()?;
    adds_up(&end)
}
