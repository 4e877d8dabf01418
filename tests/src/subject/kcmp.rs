//! What two tasks share, as kcmp(2) says.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use nix::unistd::Pid;

/// The things that kcmp(2) compares, with its number for each and memtrace's name.
const KINDS: [(&str, libc::c_long); 6] = [
    ("mm", 1),
    ("files", 2),
    ("fs", 3),
    ("sighand", 4),
    ("io", 5),
    ("sysvsem", 6),
];

/// kcmp's answer for each of [`KINDS`]: 0 says "the same", less than 0 "no answer".
pub type Answers = [i8; KINDS.len()];

/// Compares the calling task with `other`. Nothing but system calls: good in a child that shares its parent's memory.
pub fn compare(other: Pid) -> Answers {
    // SAFETY: neither call touches memory.
    KINDS.map(|(_, kind)| unsafe {
        let this = libc::syscall(libc::SYS_gettid);
        libc::syscall(libc::SYS_kcmp, this, other.as_raw(), kind, 0, 0) as i8
    })
}

/// The answers by name.
pub fn by_name(answers: Answers) -> Result<BTreeMap<String, bool>> {
    ensure!(
        answers.iter().all(|&answer| answer >= 0),
        "kcmp gives no answer: {answers:?}"
    );
    Ok(KINDS
        .iter()
        .zip(answers)
        .map(|((name, _), answer)| ((*name).to_owned(), answer == 0))
        .collect())
}
