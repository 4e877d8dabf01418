//! Two tasks held against each other: kcmp(2), and the links to their namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::kcmp;
use super::report::{Compared, Fact, report};
use super::witness::now;

/// memtrace's name for a namespace, and the link's name. Where a task's own and that of its children to come can differ,
/// it is the latter.
const NAMESPACES: [(&str, &str); 8] = [
    ("mnt_ns", "mnt"),
    ("uts_ns", "uts"),
    ("ipc_ns", "ipc"),
    ("pid_ns", "pid_for_children"),
    ("net_ns", "net"),
    ("cgroup_ns", "cgroup"),
    ("time_ns", "time_for_children"),
    ("user_ns", "user"),
];

/// Reports what `one` and `other` have in common now, while neither changes it.
pub fn compare(name: &str, one: Pid, other: Pid) -> Result<()> {
    let answers = kcmp::compare_tasks(one, other);
    told(name, one, other, answers, now()?)
}

/// As [`compare`], where kcmp has answered before, at that time.
pub fn told(name: &str, one: Pid, other: Pid, answers: kcmp::Answers, at: u64) -> Result<()> {
    let mut same = kcmp::by_name(answers)?;
    for (kind, file) in NAMESPACES {
        // No answer for a pid namespace that has no process yet, nor for a task that is gone.
        if let (Some(one), Some(other)) = (link(one, file)?, link(other, file)?) {
            same.insert(kind.to_owned(), one == other);
        }
    }
    compared(name, one, other, same, at)
}

fn compared(name: &str, one: Pid, other: Pid, same: BTreeMap<String, bool>, at: u64) -> Result<()> {
    report(&Fact::Compared(Compared {
        name: name.to_owned(),
        one: one.as_raw(),
        other: other.as_raw(),
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
