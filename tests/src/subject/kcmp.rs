//! What two tasks share, as kcmp(2) says.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use memtrace_events::ObjectKind;
use nix::unistd::Pid;

/// The things that kcmp(2) compares, with its number for each.
const KINDS: [(ObjectKind, libc::c_long); 6] = [
    (ObjectKind::Mm, 1),
    (ObjectKind::Files, 2),
    (ObjectKind::Fs, 3),
    (ObjectKind::Sighand, 4),
    (ObjectKind::Io, 5),
    (ObjectKind::Sysvsem, 6),
];

/// kcmp's answer for each of `KINDS`: 0 says "the same", less than 0 "no answer".
pub type Answers = [i8; KINDS.len()];

/// Compares the calling task with `other`. Nothing but system calls: good in a child that shares its parent's memory.
pub fn compare(other: Pid) -> Answers {
    // SAFETY: touches no memory.
    let this = unsafe { libc::syscall(libc::SYS_gettid) };
    compare_tasks(Pid::from_raw(this as i32), other)
}

/// Compares two tasks.
pub fn compare_tasks(one: Pid, other: Pid) -> Answers {
    // SAFETY: touches no memory.
    KINDS.map(|(_, kind)| unsafe {
        libc::syscall(libc::SYS_kcmp, one.as_raw(), other.as_raw(), kind, 0, 0) as i8
    })
}

/// The answers by the kind of object.
pub fn by_kind(answers: Answers) -> Result<BTreeMap<ObjectKind, bool>> {
    ensure!(
        answers.iter().all(|&answer| answer >= 0),
        "kcmp gives no answer: {answers:?}"
    );
    Ok(KINDS
        .iter()
        .zip(answers)
        .map(|((kind, _), answer)| (*kind, answer == 0))
        .collect())
}
