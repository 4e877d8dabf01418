//! A trace, and the subject's own report beside it.

use std::io::Write;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use memtrace_events::{
    Account, End, Event, Events, ForkAccount, Line, ObjectKind, Start, TaskLifetime,
};
use serde::Deserialize;
use serde_json::Value;

use super::run::Run;
use crate::subject::report::{Fact, Touch, Usage};

/// All that a run of memtrace left.
#[derive(Debug)]
pub struct Trace {
    /// The first line.
    pub start: Start,
    /// The lines between.
    pub events: Vec<Event>,
    /// The last line.
    pub end: End,
    /// The subject's report.
    pub facts: Vec<Fact>,
    /// memtrace's exit status, and what PROG printed.
    pub run: Run,
}

/// A trace that all tests of a file look at: memtrace's start takes longer than what is traced.
pub struct OneTrace(LazyLock<Result<Trace>>);

impl OneTrace {
    /// It is made when it is first asked for.
    pub const fn new(make: fn() -> Result<Trace>) -> Self {
        Self(LazyLock::new(make))
    }

    /// The trace.
    ///
    /// # Errors
    /// Why there is none.
    pub fn get(&self) -> Result<&Trace> {
        self.0.as_ref().map_err(|error| anyhow!("{error:#}"))
    }
}

impl Events for Trace {
    fn events(&self) -> &[Event] {
        &self.events
    }
}

impl Trace {
    /// Reads the lines: the first, the last, and those between them.
    pub(super) fn unchecked(json: &str, facts: Vec<Fact>, run: Run) -> Result<Self> {
        let mut lines = json.lines().map(line).collect::<Result<Vec<_>>>()?;
        let Some(Line::End(end)) = lines.pop() else {
            bail!("no end; memtrace said: {}", run.stderr);
        };
        let mut lines = lines.into_iter();
        let Some(Line::Start(start)) = lines.next() else {
            bail!("no start");
        };
        let events = lines.map(|line| match line {
            Line::Event(event) => Ok(event),
            other => bail!("between the first line and the last: {other:?}"),
        });
        Ok(Self {
            start,
            events: events.collect::<Result<_>>()?,
            end,
            facts,
            run,
        })
    }

    /// The lives of the tasks that have, or had, that thread id.
    pub fn lives(&self, tid: u32) -> impl Iterator<Item = &TaskLifetime> {
        self.end.tasks.iter().filter(move |life| life.tid == tid)
    }

    /// The object of a kind that a task used at that time, if it had one.
    pub fn object_at(&self, tid: u32, kind: ObjectKind, ts: u64) -> Result<Option<u32>> {
        let is_in =
            |from: u64, until: Option<u64>| from <= ts && until.is_none_or(|until| ts < until);
        let mut lives = self.lives(tid).filter(|life| is_in(life.from, life.until));
        let life = lives
            .next()
            .with_context(|| format!("no life of {tid} at {ts}"))?;
        ensure!(lives.next().is_none(), "two lives of {tid} at {ts}");
        let mut uses = life
            .uses
            .iter()
            .filter(|one| one.kind == kind && is_in(one.from, one.until));
        let number = uses.next().map(|one| one.number);
        ensure!(
            uses.next().is_none(),
            "two uses of {kind:?} at {ts}: {life:?}"
        );
        Ok(number)
    }

    /// The account of a fork.
    pub fn fork(&self, number: u32) -> Result<&ForkAccount> {
        let mut accounts = self.end.forks.iter();
        let account = accounts.find(|account| account.number == number);
        account.with_context(|| format!("no account of fork #{number}"))
    }

    /// The account of the process `pid`.
    pub fn account(&self, pid: u32) -> Result<&Account> {
        let mut accounts = self
            .end
            .processes
            .iter()
            .filter(|account| account.pid == pid);
        let account = accounts
            .next()
            .with_context(|| format!("no account of process {pid}"))?;
        ensure!(accounts.next().is_none(), "two accounts of process {pid}");
        Ok(account)
    }

    /// The touches that the subject reports under this name; there must be some.
    pub fn touches(&self, name: &str) -> Result<Vec<&Touch>> {
        let what = format!("touch {name:?}");
        self.reported(&what, |fact| match fact {
            Fact::Touch(touch) if touch.name == name => Some(touch),
            _ => None,
        })
    }

    /// The costs that the subject reports; there must be some.
    pub fn usages(&self) -> Result<Vec<&Usage>> {
        self.reported("usage", |fact| match fact {
            Fact::Usage(usage) => Some(usage),
            _ => None,
        })
    }

    /// Those of the subject's facts that `of` takes; there must be some.
    pub fn reported<'a, T>(
        &'a self,
        what: &str,
        of: impl FnMut(&'a Fact) -> Option<T>,
    ) -> Result<Vec<T>> {
        let facts: Vec<_> = self.facts.iter().filter_map(of).collect();
        ensure!(!facts.is_empty(), "the subject reports no {what}");
        Ok(facts)
    }

    /// The subject's note of that name.
    pub fn note(&self, name: &str) -> Result<&Value> {
        let note = self.facts.iter().find_map(|fact| match fact {
            Fact::Note(this, value) if this == name => Some(value),
            _ => None,
        });
        note.with_context(|| format!("the subject reports no note {name:?}"))
    }
}

/// Whether the subject found that this kernel, or machine, doesn't have `what`. Then that is said, also in a test that passes:
/// what is written to stderr by no macro is shown.
pub fn without(trace: &Trace, what: &str) -> bool {
    let why = trace.facts.iter().find_map(|fact| match fact {
        Fact::Note(name, value) if name == "without" && value[0] == what => Some(&value[1]),
        _ => None,
    });
    if let Some(why) = why {
        let line = format!("not tested here: {what}: {why}\n");
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
    why.is_some()
}

/// A line, which must have all that it should have, and nothing else.
fn line(text: &str) -> Result<Line> {
    let json: Value = serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))?;
    let line =
        Line::deserialize(&json).with_context(|| format!("not as the schema has it: {text}"))?;
    ensure!(
        serde_json::to_value(&line)? == json,
        "more than the schema has: {text}"
    );
    Ok(line)
}
