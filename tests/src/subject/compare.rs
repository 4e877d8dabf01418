//! Two tasks held against each other: kcmp(2), and the links to their namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use memtrace_events::ObjectKind;
use nix::unistd::Pid;

use super::kcmp;
use super::report::{Compared, Fact, report};
use super::witness::now;

/// A namespace, and the link's name. Where a task's own and that of its children to come can differ,
/// it is the latter.
const NAMESPACES: [(ObjectKind, &str); 8] = [
    (ObjectKind::MntNs, "mnt"),
    (ObjectKind::UtsNs, "uts"),
    (ObjectKind::IpcNs, "ipc"),
    (ObjectKind::PidNs, "pid_for_children"),
    (ObjectKind::NetNs, "net"),
    (ObjectKind::CgroupNs, "cgroup"),
    (ObjectKind::TimeNs, "time_for_children"),
    (ObjectKind::UserNs, "user"),
];

/// Reports what `one` and `other` have in common now, while neither changes it.
pub fn compare(name: &str, one: Pid, other: Pid) -> Result<()> {
    let answers = kcmp::compare_tasks(one, other);
    told(name, one, other, answers, now()?)
}

/// As [`compare`], where kcmp has answered before, at that time.
pub fn told(name: &str, one: Pid, other: Pid, answers: kcmp::Answers, at: u64) -> Result<()> {
    let mut same = kcmp::by_kind(answers)?;
    for (kind, file) in NAMESPACES {
        // No answer for a pid namespace that has no process yet, nor for a task that is gone.
        if let (Some(one), Some(other)) = (link(one, file)?, link(other, file)?) {
            same.insert(kind, one == other);
        }
    }
    compared(name, one, other, same, at)
}

fn compared(
    name: &str,
    one: Pid,
    other: Pid,
    same: BTreeMap<ObjectKind, bool>,
    at: u64,
) -> Result<()> {
    report(&Fact::Compared(Compared {
        name: name.to_owned(),
        one: one.as_raw() as u32,
        other: other.as_raw() as u32,
        at,
        same,
    }))
}

fn link(task: Pid, file: &str) -> Result<Option<String>> {
    let path = format!("/proc/{task}/ns/{file}");
    match fs::read_link(&path) {
        Ok(link) => Ok(Some(link.to_string_lossy().into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(path),
    }
}
