//! A good trace passes, and no flaw does.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde_json::{Value, json};

use super::*;
use crate::harness::Run;

/// A process forks; its child copies one page, which the kernel counts, and takes one fault that nobody saw. The fork
/// left three pages shared.
fn good() -> Vec<Value> {
    let account = |pid: i32, seen: u64| {
        json!({
            "pid": pid, "comm": "a", "faults": if seen > 0 { json!({"cow-copy": seen}) } else { json!({}) },
            "min_flt": 2 * seen, "maj_flt": 0, "unobserved": seen,
            "unobserved_by": {"on the task's behalf": seen},
        })
    };
    let task = |pid: i32, parent: Value, from: u64, until: u64| {
        json!({
            "number": pid - 6, "parent_number": parent.as_i64().map(|parent| parent - 6),
            "pid": pid, "tid": pid, "parent": parent, "comm": "a", "from": from, "until": until, "uses": [
                {"kind": "mm", "number": pid, "from": from, "until": until},
                {"kind": "files", "number": 1, "from": from, "until": until},
            ],
        })
    };
    vec![
        json!({"type": "start", "schema": 1, "kernel": "6.18", "version": "0", "ts": 0, "realtime": 1, "backend": "tracepoints", "command": ["a"]}),
        json!({
            "type": "clone", "ts": 1, "pid": 7, "tid": 7, "comm": "a", "call": "clone", "thread": false,
            "child_pid": 8, "child_tid": 8, "flags": ["CLONE_FILES"], "exit_signal": 17,
            "shared": {
                "mm": false, "files": true, "fs": false, "sighand": false, "signal": false, "nsproxy": true, "cred": false,
                "io": false, "sysvsem": false,
            },
            "followed": true,
            "objects": {
                "mm": {"parent": 7, "child": 8, "asked": "copy", "got": "own"},
                "files": {"parent": 1, "child": 1, "asked": "share", "got": "shared"},
                "io": {"parent": null, "child": null, "asked": "copy", "got": "none"},
            },
            "fork": 1, "copied": {"pages": 3, "at_once": 1, "swapped": 0, "table_bytes": 4096},
        }),
        json!({
            "type": "share", "ts": 1, "pid": 8, "tid": 8, "comm": "a", "by": "clone",
            "objects": {"files": {"number": 1, "with": [7], "with_count": 1}},
        }),
        json!({
            "type": "cloned", "ts": 2, "pid": 7, "tid": 7, "comm": "a", "child_pid": 8, "child_tid": 8,
            "fork": 1, "dur": 5, "first": "child",
        }),
        json!({
            "type": "fault", "ts": 3, "pid": 8, "tid": 8, "comm": "a", "addr": "0x1000", "ip": "0x2000",
            "access": "write", "mode": "user", "kind": "cow-copy", "region": "anon", "file": null, "offset": null,
            "page_size": 4096, "pfn_before": 10, "pfn_after": 11, "counted": "minor",
            "cause": "fork", "fork": {"number": 1, "parent": 7, "child": 8, "ago": 2},
            "sharers": [7], "sharer_count": 1, "map_count": 2,
        }),
        json!({
            "type": "unshare", "ts": 4, "pid": 8, "tid": 8, "comm": "a", "by": "exit",
            "objects": {"files": {"number": 1, "now": null, "since": 1, "with": [7], "with_count": 1}},
        }),
        json!({
            "type": "exit", "ts": 4, "pid": 8, "tid": 8, "comm": "a", "code": 0, "signal": null, "thread": false,
        }),
        json!({
            "type": "exit", "ts": 5, "pid": 7, "tid": 7, "comm": "a", "code": 0, "signal": null, "thread": false,
        }),
        json!({
            "type": "end", "ts": 6, "processes": [account(7, 0), account(8, 1)], "total": account(0, 1), "lost": {}, "missed": {},
            "forks": [{
                "number": 1, "ts": 1, "parent": 7, "parent_comm": "a", "child": 8, "child_comm": "a", "dur": 5,
                "table_bytes": 4096, "swapped": 0, "pages": 3, "by_child": 1, "by_parent": 0, "by_others": 0,
                "before_exec": 0, "execed": false, "at_once": 1, "taken_over": 0,
                "given_up": {"exec": 0, "exit": 1, "munmap": 0}, "still_shared": 0, "unknown": 0, "unseen": 0, "copied_again": 0,
                "areas": [{
                    "region": "anon", "file": null, "pages": 3, "copied": 2, "taken_over": 0, "given_up": 1,
                    "still_shared": 0, "unknown": 0,
                }],
            }],
            "tasks": [task(7, json!(null), 0, 5), task(8, json!(7), 1, 4)], "tasks_left_out": 0, "late": 0,
        }),
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
    assert_eq!(read(&good())?.events.len(), 7);
    Ok(())
}

#[test]
fn every_flaw_is_found() {
    for (line, field, value) in [
        // It sees every fault that the kernel counts.
        (0, "/backend", json!("fentry")),
        (0, "/type", json!("begin")),
        (0, "/schema", json!(2)),
        (0, "/command", json!([])),
        (1, "/fork", json!(2)),
        (1, "/fork", json!(null)),
        (1, "/copied/pages", json!(4)),
        (1, "/objects/mm/child", json!(7)),
        (1, "/objects/mm/got", json!("shared")),
        (1, "/objects/files/child", json!(null)),
        (1, "/objects/io/asked", json!("perhaps")),
        (1, "/shared/files", json!(false)),
        (2, "/objects", json!({})),
        (2, "/objects/files/with", json!([8])),
        (2, "/objects/files/with_count", json!(0)),
        (3, "/dur", json!(0)),
        (3, "/first", json!("both")),
        (4, "/ts", json!(5)),
        (4, "/addr", json!(4096)),
        (4, "/kind", json!("copy")),
        (4, "/kind", json!("cow-reuse")),
        (4, "/kind", json!("zero-fill")),
        (4, "/region", json!("somewhere")),
        (4, "/region", json!("unmapped")),
        (4, "/region", json!("lib")),
        (4, "/mode", json!("both")),
        (4, "/offset", json!(0)),
        (4, "/pfn_after", json!(10)),
        (4, "/counted", json!("major")),
        (4, "/counted", json!(null)),
        (4, "/pid", json!(9)),
        (4, "/cause", json!("luck")),
        (4, "/cause", json!("page-cache")),
        (4, "/cause", json!("reference")),
        (4, "/fork", json!(null)),
        (4, "/fork/number", json!(2)),
        (4, "/sharers", json!([])),
        (4, "/sharers", json!([8])),
        (4, "/map_count", json!(0)),
        (5, "/objects/files/now", json!(1)),
        (5, "/objects/files/since", json!(2)),
        (5, "/objects/files/number", json!(2)),
        (7, "/type", json!("end")),
        (8, "/type", json!("stop")),
        (8, "/lost", json!({"fault": 1})),
        (8, "/processes/1/faults", json!({"cow-copy": 2})),
        (8, "/processes/1/min_flt", json!(3)),
        (8, "/processes/1/unobserved", json!(0)),
        (8, "/processes/1/unobserved_by", json!({})),
        (8, "/total/min_flt", json!(1)),
        (8, "/total/faults", json!({})),
        (8, "/forks", json!([])),
        (8, "/forks/0/pages", json!(4)),
        (8, "/forks/0/by_child", json!(2)),
        (8, "/forks/0/copied_again", json!(1)),
        (8, "/forks/0/before_exec", json!(1)),
        (8, "/forks/0/areas/0/copied", json!(1)),
        (8, "/forks/0/areas/0/given_up", json!(0)),
        (8, "/tasks/1/parent", json!(null)),
        (8, "/tasks/1/uses/1/until", json!(null)),
        (8, "/tasks/1/uses/1/kind", json!("mm")),
        (8, "/tasks_left_out", json!(1)),
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
fn a_field_too_many_is_found() {
    for line in 0..good().len() {
        let mut lines = good();
        lines[line]["more"] = json!(0);
        assert!(read(&lines).is_err(), "line {line} with one more");
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
