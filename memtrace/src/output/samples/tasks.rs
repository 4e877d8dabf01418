//! Births, execs and deaths.

use super::{names, start};
use crate::trace::event::{
    Asked, ByObject, Clone, Cloned, Copied, Exec, Exit, First, Global, Got, LetGo, ObjectKind, Row,
    Shared, What,
};

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
        child_global: Some(Global {
            pid: 71_235,
            tid: 71_235,
        }),
        shared: copied,
        objects: ByObject(vec![
            (ObjectKind::Mm, own(1, 2)),
            (ObjectKind::Files, own(1, 2)),
            (ObjectKind::Group, row(Some(1), Some(2), None)),
            (ObjectKind::Nsproxy, row(Some(1), Some(1), None)),
            (ObjectKind::MntNs, row(Some(1), Some(1), None)),
            (ObjectKind::Io, row(None, None, None)),
        ]),
        fork: Some(3),
        copied: Some(Copied {
            pages: 512,
            at_once: 2,
            swapped: 1,
            table_bytes: 44 << 10,
        }),
        followed: true,
    };
    let container = Clone {
        call: "clone",
        flags: names(&["CLONE_NEWNS", "CLONE_NEWUSER", "CLONE_CLEAR_SIGHAND"]),
        shared: Shared {
            nsproxy: false,
            ..copied
        },
        child_global: None,
        objects: ByObject(vec![
            (
                ObjectKind::Sighand,
                Row {
                    asked: Some(Asked::Clear),
                    note: Some("all set to the default"),
                    ..own(1, 3)
                },
            ),
            (ObjectKind::Nsproxy, own(1, 2)),
            (ObjectKind::MntNs, row(Some(1), Some(2), Some(Asked::New))),
            (ObjectKind::PidNs, row(Some(1), Some(1), Some(Asked::Share))),
            (ObjectKind::UserNs, row(Some(1), Some(2), Some(Asked::New))),
            (ObjectKind::Io, row(None, Some(1), None)),
            (ObjectKind::Sysvsem, row(Some(1), None, Some(Asked::Copy))),
        ]),
        fork: Some(4),
        copied: Some(Copied {
            pages: 1,
            ..Copied::default()
        }),
        ..fork.clone()
    };
    let vfork = Clone {
        call: "vfork",
        child_pid: 1237,
        child_tid: 1237,
        flags: names(&["CLONE_VM", "CLONE_VFORK"]),
        child_global: None,
        shared: Shared { mm: true, ..copied },
        objects: ByObject(vec![
            (ObjectKind::Mm, row(Some(1), Some(1), Some(Asked::Share))),
            (ObjectKind::Files, own(1, 4)),
        ]),
        fork: None,
        copied: None,
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
        child_global: None,
        objects: ByObject::default(),
        fork: None,
        copied: None,
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
    let mut births = vec![What::Exec(exec)];
    births.extend([fork, container, vfork, thread].map(What::Clone));
    births.extend(returns().map(What::Cloned));
    births.push(What::Exec(script));
    births
}

/// A row of a clone's matrix.
fn row(parent: Option<u32>, child: Option<u32>, asked: Option<Asked>) -> Row {
    let got = match child {
        None => Got::None,
        Some(_) if parent == child => Got::Shared,
        Some(_) => Got::Own,
    };
    Row {
        parent,
        child,
        asked,
        got,
        note: None,
    }
}

/// A copy, as asked.
fn own(parent: u32, child: u32) -> Row {
    row(Some(parent), Some(child), Some(Asked::Copy))
}

/// Every way in which a clone returns.
fn returns() -> [Cloned; 5] {
    let fork = Cloned {
        child_pid: 1235,
        child_tid: 1235,
        fork: Some(3),
        dur: 312_400,
        first: Some(First::Child),
        held: None,
        let_go: None,
    };
    let thread = Cloned {
        child_pid: 1234,
        child_tid: 1236,
        fork: None,
        dur: 24_500,
        first: Some(First::Parent),
        ..fork
    };
    let vfork = |let_go| Cloned {
        child_pid: 1237,
        child_tid: 1237,
        fork: None,
        held: Some(1_249_999),
        let_go,
        ..fork
    };
    [
        fork.clone(),
        Cloned {
            first: None,
            ..thread.clone()
        },
        thread,
        vfork(Some(LetGo::Exec)),
        vfork(Some(LetGo::Exit)),
    ]
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
