//! A trace, and the subject's own report beside it.

use std::io::Write;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check;
use super::event::{
    Account, Clone, Cloned, End, Event, Exec, Exit, Fault, ForkAccount, Life, Share, Start, Task,
    Unshare, What,
};
use super::memtrace::{Memtrace, subject};
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

impl Trace {
    /// Traces a subject, given by its name and arguments. It must end well.
    pub fn run<const N: usize>(words: [&str; N]) -> Result<Self> {
        let trace = Memtrace::new()?.trace(subject_command(&words)?)?;
        ensure!(trace.run.code() == Some(0), "{words:?}: {:?}", trace.run);
        trace.check_accounts()?;
        Ok(trace)
    }

    /// Traces several subjects in one run, one after the other, each given by its name and arguments. All must end well.
    pub fn in_turn(subjects: &[&[&str]]) -> Result<Self> {
        let words = [&["in-turn"][..], &subjects.join(&",")].concat();
        let trace = Memtrace::new()?.trace(subject_command(&words)?)?;
        ensure!(trace.run.code() == Some(0), "{words:?}: {:?}", trace.run);
        trace.check_accounts()?;
        Ok(trace)
    }

    /// Traces any program, which must end well.
    pub fn program<const N: usize>(words: [&str; N]) -> Result<Self> {
        let trace = Memtrace::new()?.trace(words)?;
        ensure!(trace.run.code() == Some(0), "{words:?}: {:?}", trace.run);
        trace.check_accounts()?;
        Ok(trace)
    }

    /// Reads the lines, and checks what holds for every trace: the first and the last line, the order, nothing lost.
    pub(super) fn read(json: &str, facts: Vec<Fact>, run: Run) -> Result<Self> {
        let mut lines = json
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).with_context(|| format!("not JSON: {line}"))
            })
            .collect::<Result<Vec<_>>>()?;
        let end = lines
            .pop()
            .with_context(|| format!("an empty trace; memtrace said: {}", run.stderr))?;
        ensure!(!lines.is_empty(), "the trace has one line");
        let start = lines.remove(0);
        let trace = Self {
            start: of_type("start", start)?,
            end: of_type("end", end)?,
            events: lines.into_iter().map(event).collect::<Result<_>>()?,
            facts,
            run,
        };
        check::always(&trace)?;
        Ok(trace)
    }

    /// Checks that the accounts add up. For a complete trace only: all events, all processes.
    pub fn check_accounts(&self) -> Result<()> {
        check::accounts(self)
    }

    /// Checks that the accounts of forks and the lives of tasks are what the events say. For a trace with all events.
    pub fn check_sharing(&self) -> Result<()> {
        check::sharing::accounts(self)
    }

    /// Checks what an attach tells of what was there. For a trace with all events, in which no id has come again.
    pub fn check_snapshot(&self) -> Result<()> {
        check::sharing::snapshot(self)
    }

    /// All faults.
    pub fn faults(&self) -> impl Iterator<Item = (&Event, &Fault)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Fault(fault) => Some((event, fault)),
            _ => None,
        })
    }

    /// All clones.
    pub fn clones(&self) -> impl Iterator<Item = (&Event, &Clone)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Clone(clone) => Some((event, clone)),
            _ => None,
        })
    }

    /// All execs.
    pub fn execs(&self) -> impl Iterator<Item = (&Event, &Exec)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Exec(exec) => Some((event, exec)),
            _ => None,
        })
    }

    /// All exits.
    pub fn exits(&self) -> impl Iterator<Item = (&Event, &Exit)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Exit(exit) => Some((event, exit)),
            _ => None,
        })
    }

    /// All returns of clones.
    pub fn returns(&self) -> impl Iterator<Item = (&Event, &Cloned)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Cloned(what) => Some((event, what)),
            _ => None,
        })
    }

    /// All tasks that were there at attach.
    pub fn snapshot(&self) -> impl Iterator<Item = (&Event, &Task)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Task(what) => Some((event, what)),
            _ => None,
        })
    }

    /// All that came to be shared.
    pub fn shares(&self) -> impl Iterator<Item = (&Event, &Share)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Share(what) => Some((event, what)),
            _ => None,
        })
    }

    /// All that was no longer shared.
    pub fn unshares(&self) -> impl Iterator<Item = (&Event, &Unshare)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Unshare(what) => Some((event, what)),
            _ => None,
        })
    }

    /// The lives of the tasks that have, or had, that thread id.
    pub fn lives(&self, tid: i32) -> impl Iterator<Item = &Life> {
        self.end.tasks.iter().filter(move |life| life.tid == tid)
    }

    /// The object of a kind that a task used at that time, if it had one.
    pub fn object_at(&self, tid: i32, kind: &str, ts: u64) -> Result<Option<u32>> {
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
            "two uses of {kind} at {ts}: {life:?}"
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
    pub fn account(&self, pid: i32) -> Result<&Account> {
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
        let touches: Vec<_> = self
            .facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Touch(touch) if touch.name == name => Some(touch),
                _ => None,
            })
            .collect();
        ensure!(!touches.is_empty(), "the subject reports no touch {name:?}");
        Ok(touches)
    }

    /// The costs that the subject reports; there must be some.
    pub fn usages(&self) -> Result<Vec<&Usage>> {
        let usages: Vec<_> = self
            .facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Usage(usage) => Some(usage),
                _ => None,
            })
            .collect();
        ensure!(!usages.is_empty(), "the subject reports no usage");
        Ok(usages)
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

/// A subject's path, and its arguments.
pub(super) fn subject_command(words: &[&str]) -> Result<Vec<std::ffi::OsString>> {
    let (name, args) = words.split_first().context("no subject given")?;
    Ok([subject(name)]
        .into_iter()
        .chain(args.iter().map(Into::into))
        .collect())
}

fn of_type<T: DeserializeOwned>(wanted: &str, line: Value) -> Result<T> {
    if line["type"] != wanted {
        bail!("{wanted:?} expected, not {line}");
    }
    let text = line.to_string();
    serde_json::from_value(line).with_context(|| format!("not as the schema has it: {text}"))
}

fn event(line: Value) -> Result<Event> {
    let mut event: Event =
        Event::deserialize(&line).with_context(|| format!("not as the schema has it: {line}"))?;
    event.line = line;
    Ok(event)
}
