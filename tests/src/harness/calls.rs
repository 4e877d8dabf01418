//! Holds the events of system calls against a subject's report of them.

use anyhow::{Result, bail, ensure};
use memtrace_events::EventKind;
use serde_json::Value;

use super::trace::Trace;
use crate::subject::report::Fact;

impl Trace {
    /// Checks that each call that the subject reports is one event, which says what the subject says. Gives how many of them
    /// failed.
    pub fn check_calls(&self) -> Result<usize> {
        let mut failed = 0;
        for fact in &self.facts {
            let Fact::Call(call) = fact else { continue };
            failed += usize::from(call.ret < 0);
            let events: Vec<_> = self
                .events
                .iter()
                .filter(|event| {
                    event.tid == call.tid
                        && (call.from..=call.until).contains(&event.ts)
                        && !matches!(event.what, EventKind::Fault(_))
                })
                .collect();
            let [event] = events[..] else {
                bail!("{} events of {call:?}: {events:?}", events.len())
            };
            let line = serde_json::to_value(event)?;
            ensure!(line["type"] == call.call, "{call:?} is not {event:?}");
            for (field, value) in &call.fields {
                let told = line.get(field).unwrap_or(&Value::Null);
                ensure!(
                    same(told, value),
                    "{field} should be {value} for {:?}: {}",
                    call.name,
                    line
                );
            }
        }
        Ok(failed)
    }
}

/// The same value; lists of names in any order.
fn same(told: &Value, value: &Value) -> bool {
    let sorted = |list: &Vec<Value>| {
        let mut names: Vec<_> = list.iter().map(Value::to_string).collect();
        names.sort();
        names
    };
    match (told, value) {
        (Value::Array(told), Value::Array(value)) => sorted(told) == sorted(value),
        _ => told == value,
    }
}
