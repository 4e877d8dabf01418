//! Births, execs and deaths.

use super::{names, start};
use crate::trace::event::{Clone, Exec, Exit, Shared, What};

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
    let copied = Shared {
        mm: false,
        files: false,
        fs: false,
        sighand: false,
        signal: false,
        nsproxy: true,
        cred: false,
        io: false,
        sysvsem: false,
    };
    let fork = Clone {
        call: "fork",
        thread: false,
        child_pid: 1235,
        child_tid: 1235,
        flags: names(&["CLONE_CHILD_CLEARTID", "CLONE_CHILD_SETTID"]),
        exit_signal: Some(17),
        shared: copied,
        followed: true,
    };
    let vfork = Clone {
        call: "vfork",
        child_pid: 1237,
        child_tid: 1237,
        flags: names(&["CLONE_VM", "CLONE_VFORK"]),
        shared: Shared { mm: true, ..copied },
        followed: false,
        ..fork.clone()
    };
    let thread = Clone {
        call: "clone3",
        thread: true,
        child_pid: 1234,
        child_tid: 1236,
        flags: names(&[
            "CLONE_VM",
            "CLONE_FS",
            "CLONE_FILES",
            "CLONE_SIGHAND",
            "CLONE_THREAD",
        ]),
        exit_signal: None,
        shared: Shared {
            mm: true,
            files: true,
            fs: true,
            sighand: true,
            signal: true,
            cred: true,
            io: true,
            ..copied
        },
        followed: true,
    };
    let [fork, vfork, thread] = [fork, vfork, thread].map(What::Clone);
    vec![What::Exec(exec), fork, vfork, thread, What::Exec(script)]
}

/// The exit of a thread, of a process, and a violent one.
pub(super) fn deaths() -> Vec<What> {
    let thread = Exit {
        code: Some(0),
        signal: None,
        thread: true,
    };
    let process = Exit {
        code: Some(3),
        signal: None,
        thread: false,
    };
    let killed = Exit {
        code: None,
        signal: Some(9),
        thread: false,
    };
    [thread, process, killed].map(What::Exit).into()
}
