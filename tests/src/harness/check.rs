//! What holds for every trace.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::event::{Account, Fault};
use super::trace::Trace;

const KINDS: [&str; 14] = [
    "zero-read",
    "zero-fill",
    "cow-copy",
    "cow-reuse",
    "cow-zero",
    "file-map",
    "file-read",
    "file-cow",
    "shared-write",
    "shm-fill",
    "swap-in",
    "invalid",
    "spurious",
    "other",
];

const REGIONS: [&str; 13] = [
    "text",
    "rodata",
    "data",
    "bss",
    "heap",
    "stack",
    "thread-stack",
    "anon",
    "file",
    "lib",
    "shm",
    "vdso",
    "unmapped",
];

/// Whatever was traced, with whatever options.
pub(super) fn always(trace: &Trace) -> Result<()> {
    ensure!(trace.start.schema == 1, "schema {}", trace.start.schema);
    ensure!(
        !trace.start.kernel.is_empty() && !trace.start.command.is_empty(),
        "{:?}",
        trace.start
    );
    ensure!(
        trace.end.lost.values().all(|&count| count == 0),
        "lost: {:?}",
        trace.end.lost
    );
    for pair in trace.events.windows(2) {
        ensure!(
            pair[0].ts <= pair[1].ts,
            "out of order: {} then {}",
            pair[0].line,
            pair[1].line
        );
    }
    for (event, fault) in trace.faults() {
        well_formed(fault).with_context(|| event.line.to_string())?;
    }
    for account in trace.end.processes.iter().chain([&trace.end.total]) {
        ensure!(
            account
                .faults
                .keys()
                .all(|kind| KINDS.contains(&kind.as_str())),
            "{account:?}"
        );
        let named: i64 = account.unobserved_by.values().sum();
        ensure!(
            named == account.unobserved,
            "what is named doesn't add up to `unobserved`: {account:?}"
        );
        ensure!(
            account.unobserved >= 0,
            "more counted faults than the kernel has: {account:?}"
        );
    }
    total(trace)
}

fn well_formed(fault: &Fault) -> Result<()> {
    ensure!(KINDS.contains(&fault.kind.as_str()), "an unknown kind");
    ensure!(
        REGIONS.contains(&fault.region.as_str()),
        "an unknown region"
    );
    ensure!(
        ["user", "kernel"].contains(&fault.mode.as_str()),
        "an unknown mode"
    );
    ensure!(
        fault
            .counted
            .as_ref()
            .is_none_or(|counted| counted == "minor" || counted == "major"),
        "an unknown way of counting"
    );
    ensure!(
        (fault.region == "lib") == fault.part.is_some(),
        "a part goes with a library, and only there"
    );
    ensure!(
        fault.file.is_some() || fault.offset.is_none(),
        "an offset without a file"
    );
    if fault.kind != "invalid" && fault.pfn_after.is_some() {
        ensure!(
            fault.region != "unmapped",
            "a page was mapped where nothing is"
        );
    }
    match fault.kind.as_str() {
        "cow-copy" => ensure!(
            fault.pfn_before.is_some()
                && fault.pfn_after.is_some()
                && fault.pfn_before != fault.pfn_after,
            "a copy goes from one frame to another"
        ),
        "cow-reuse" => {
            ensure!(
                fault.pfn_before.is_some() && fault.pfn_before == fault.pfn_after,
                "the frame stays"
            );
        }
        "zero-fill" | "file-map" | "file-read" | "file-cow" | "shm-fill" => {
            ensure!(fault.pfn_before.is_none(), "nothing was mapped before");
        }
        _ => {}
    }
    Ok(())
}

/// The total is the sum of the processes.
fn total(trace: &Trace) -> Result<()> {
    let total = &trace.end.total;
    let sum = |of: fn(&Account) -> i64| trace.end.processes.iter().map(of).sum::<i64>();
    let mut faults = BTreeMap::new();
    for (kind, count) in trace
        .end
        .processes
        .iter()
        .flat_map(|account| &account.faults)
    {
        *faults.entry(kind.clone()).or_insert(0) += count;
    }
    ensure!(
        sum(|account| account.min_flt) == total.min_flt
            && sum(|account| account.maj_flt) == total.maj_flt
            && sum(|account| account.unobserved) == total.unobserved
            && without_zeros(&faults) == without_zeros(&total.faults),
        "the total isn't the sum: {total:?}"
    );
    Ok(())
}

/// In a complete trace: the account of each process is what its events say, and the kernel's count is explained.
pub(super) fn accounts(trace: &Trace) -> Result<()> {
    let mut seen: BTreeMap<i32, (BTreeMap<String, u64>, i64, i64)> = BTreeMap::new();
    for (event, fault) in trace.faults() {
        let (kinds, minor, major) = seen.entry(event.pid).or_default();
        *kinds.entry(fault.kind.clone()).or_insert(0) += 1;
        match fault.counted.as_deref() {
            Some("minor") => *minor += 1,
            Some("major") => *major += 1,
            _ => {}
        }
    }
    for account in &trace.end.processes {
        let (kinds, minor, major) = seen.remove(&account.pid).unwrap_or_default();
        ensure!(
            kinds == without_zeros(&account.faults),
            "by kind the events say {kinds:?}: {account:?}"
        );
        ensure!(
            minor <= account.min_flt
                && major <= account.maj_flt
                && minor + major + account.unobserved == account.min_flt + account.maj_flt,
            "{minor} minor and {major} major faults among the events: {account:?}"
        );
    }
    ensure!(seen.is_empty(), "faults without an account: {seen:?}");
    Ok(())
}

fn without_zeros(counts: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| (kind.clone(), *count))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use serde_json::{Value, json};

    use super::*;
    use crate::harness::Run;

    /// A process of one copy, which the kernel counts, and one fault that nobody saw.
    fn good() -> Vec<Value> {
        let account = |pid: i32| {
            json!({
                "pid": pid, "comm": "a", "faults": {"cow-copy": 1}, "min_flt": 2, "maj_flt": 0,
                "unobserved": 1, "unobserved_by": {"on the task's behalf": 1},
            })
        };
        vec![
            json!({"type": "start", "schema": 1, "kernel": "6.18", "command": ["a"]}),
            json!({
                "type": "fault", "ts": 1, "pid": 7, "tid": 7, "comm": "a", "addr": "0x1000", "ip": "0x2000",
                "access": "write", "mode": "user", "kind": "cow-copy", "region": "anon", "file": null, "offset": null,
                "page_size": 4096, "pfn_before": 10, "pfn_after": 11, "counted": "minor",
            }),
            json!({
                "type": "exit", "ts": 2, "pid": 7, "tid": 7, "comm": "a", "code": 0, "signal": null, "thread": false,
            }),
            json!({"type": "end", "processes": [account(7)], "total": account(0), "lost": {}}),
        ]
    }

    fn read(lines: &[Value]) -> Result<Trace> {
        let text: Vec<_> = lines.iter().map(Value::to_string).collect();
        let run = Run {
            pid: 1,
            status: ExitStatus::from_raw(0),
            stdout: String::new(),
            stderr: String::new(),
        };
        let trace = Trace::read(&text.join("\n"), Vec::new(), run)?;
        trace.check_accounts()?;
        Ok(trace)
    }

    #[test]
    fn a_good_trace_is_good() -> Result<()> {
        assert_eq!(read(&good())?.events.len(), 2);
        Ok(())
    }

    #[test]
    fn every_flaw_is_found() {
        for (line, field, value) in [
            (0, "/type", json!("begin")),
            (0, "/schema", json!(2)),
            (1, "/ts", json!(3)),
            (1, "/addr", json!(4096)),
            (1, "/kind", json!("copy")),
            (1, "/kind", json!("cow-reuse")),
            (1, "/kind", json!("zero-fill")),
            (1, "/region", json!("somewhere")),
            (1, "/region", json!("unmapped")),
            (1, "/region", json!("lib")),
            (1, "/mode", json!("both")),
            (1, "/offset", json!(0)),
            (1, "/pfn_after", json!(10)),
            (1, "/counted", json!("major")),
            (1, "/counted", json!(null)),
            (1, "/pid", json!(8)),
            (2, "/type", json!("end")),
            (3, "/type", json!("stop")),
            (3, "/lost", json!({"fault": 1})),
            (3, "/processes/0/faults", json!({"cow-copy": 2})),
            (3, "/processes/0/min_flt", json!(3)),
            (3, "/processes/0/unobserved", json!(0)),
            (3, "/processes/0/unobserved_by", json!({})),
            (3, "/total/min_flt", json!(1)),
            (3, "/total/faults", json!({})),
        ] {
            let mut lines = good();
            match lines[line].pointer_mut(field) {
                Some(place) => *place = value.clone(),
                None => panic!("no {field} in line {line}"),
            }
            assert!(read(&lines).is_err(), "line {line}, {field}: {value}");
        }
    }

    #[test]
    fn a_missing_field_is_found() {
        for (line, object) in good().into_iter().enumerate() {
            for field in object
                .as_object()
                .into_iter()
                .flat_map(|object| object.keys())
            {
                let mut lines = good();
                lines[line]
                    .as_object_mut()
                    .map(|object| object.remove(field));
                assert!(read(&lines).is_err(), "line {line} without {field}");
            }
        }
    }
}
