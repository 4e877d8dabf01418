//! Execs and deaths, and births between.

use super::{clones::clones, start};
use crate::trace::event::{Exec, Exit, What};

/// Every way to be born, and execs.
pub(super) fn births() -> Vec<What> {
    let exec = Exec {
        file: "./fork-write".into(),
        exe: Some("/home/ann/fork-write".into()),
        args: start().command,
        truncated: false,
        old_tid: None,
    };
    let args = (0..100).map(|at| format!("argument-{at}"));
    let script = Exec {
        file: "./build.sh".into(),
        exe: Some("/usr/bin/dash".into()),
        args: std::iter::once("/bin/sh".to_owned()).chain(args).collect(),
        truncated: true,
        old_tid: Some(1238),
    };
    let mut births = vec![What::Exec(exec)];
    births.extend(clones());
    births.push(What::Exec(script));
    births
}

/// The exit of a thread, of one that an exec ends, of a process, and a violent one.
pub(super) fn deaths() -> Vec<What> {
    let thread = Exit {
        code: Some(0),
        signal: None,
        thread: true,
        by_exec: None,
    };
    let process = Exit {
        code: Some(3),
        signal: None,
        thread: false,
        by_exec: None,
    };
    let killed = Exit {
        code: None,
        signal: Some(9),
        thread: false,
        by_exec: None,
    };
    let by_exec = Exit {
        code: None,
        signal: None,
        thread: true,
        by_exec: Some(1238),
    };
    [thread, by_exec, process, killed].map(What::Exit).into()
}
