//! System calls on the address space, and the mappings that exec makes.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::harness::{Trace, What, subject};
use tests::subject::report::Fact;

#[test]
fn calls_that_succeed_and_calls_that_fail() -> Result<()> {
    let trace = Trace::run(["maps"])?;
    let mut failed = 0;
    for fact in &trace.facts {
        let Fact::Call(call) = fact else { continue };
        failed += i32::from(call.ret < 0);
        let events: Vec<_> = trace
            .events
            .iter()
            .filter(|event| {
                event.tid == call.tid
                    && (call.from..=call.until).contains(&event.ts)
                    && event.line["type"] != "fault"
            })
            .collect();
        let [event] = events[..] else {
            anyhow::bail!("{} events of {call:?}: {events:?}", events.len())
        };
        ensure!(
            event.line["type"] == call.call.as_str(),
            "{call:?} is not {}",
            event.line
        );
        for (field, value) in &call.fields {
            let told = event.line.get(field).unwrap_or(&Value::Null);
            ensure!(
                same(told, value),
                "{field} should be {value} for {:?}: {}",
                call.name,
                event.line
            );
        }
    }
    assert_eq!(failed, 7, "failing calls in the subject's report");
    Ok(())
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

#[test]
fn exec_maps_the_program_and_its_linker() -> Result<()> {
    let trace = Trace::run(["lives", "return", "0"])?;
    let exe = std::fs::canonicalize(subject("lives"))?;
    let by_exec: Vec<_> = trace
        .events
        .iter()
        .filter(|event| matches!(&event.what, What::Mmap(mmap) if mmap.by == "exec"))
        .map(|event| &event.line)
        .collect();
    let code = by_exec.iter().find(|line| {
        line["file"].as_str() == exe.to_str()
            && line["prot"]
                .as_array()
                .is_some_and(|prot| prot.contains(&"PROT_EXEC".into()))
    });
    ensure!(
        code.is_some(),
        "the program's code is not among {by_exec:?}"
    );
    let linker = by_exec.iter().any(|line| {
        line["file"]
            .as_str()
            .is_some_and(|file| file.contains("ld-linux"))
    });
    ensure!(linker, "the dynamic linker is not among {by_exec:?}");
    Ok(())
}
