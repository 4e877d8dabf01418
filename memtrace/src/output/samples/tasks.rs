//! Execs and deaths, and births between.

use super::{clones::clones, names, start};
use crate::trace::event::{EventKind, Exec, Exit, Failed};

/// Every way to be born, and execs.
pub(super) fn births() -> Vec<EventKind> {
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
    let mut births = vec![EventKind::Exec(exec)];
    births.extend(clones());
    births.push(EventKind::Exec(script));
    births
}

/// The exit of a process with this code.
pub(in crate::output) fn exit(code: u32) -> Exit {
    Exit {
        code: Some(code),
        signal: None,
        core: false,
        thread: false,
        by_exec: None,
    }
}

/// The exit of a thread, of one that an exec ends, of a process, and a violent one.
pub(super) fn deaths() -> Vec<EventKind> {
    let thread = Exit {
        thread: true,
        ..exit(0)
    };
    let killed = Exit {
        code: None,
        signal: Some(9),
        ..exit(0)
    };
    let by_exec = Exit {
        code: None,
        by_exec: Some(1238),
        ..thread
    };
    let dumped = Exit {
        signal: Some(11),
        core: true,
        ..killed
    };
    [thread, by_exec, exit(3), killed, dumped]
        .map(EventKind::Exit)
        .into()
}

/// Clones and execs that fail.
pub(super) fn failures() -> Vec<EventKind> {
    let fork = Failed {
        call: "fork".into(),
        file: None,
        exe: None,
        flags: Some(Vec::new()),
        fatal: false,
        ret: -11,
    };
    let clone = Failed {
        call: "clone3".into(),
        flags: Some(names(&["CLONE_INTO_CGROUP"])),
        ret: -16,
        ..fork.clone()
    };
    let exec = Failed {
        call: "execve".into(),
        file: Some("/usr/local/bin/l\x1bs".into()),
        flags: None,
        ret: -2,
        ..fork.clone()
    };
    let fatal = Failed {
        file: None,
        exe: Some("/home/ann/broken".into()),
        fatal: true,
        ret: -12,
        ..exec.clone()
    };
    let unnamed = Failed {
        file: None,
        ret: -14,
        ..exec.clone()
    };
    [fork, clone, exec, fatal, unnamed]
        .map(EventKind::Failed)
        .into()
}
