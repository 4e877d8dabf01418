//! Births: every way to be born, and how the call returns.

use super::names;
use super::not_surveyed;
use crate::trace::event::{
    ByObject, Clone, Cloned, Copied, EventKind, First, Global, ObjectKind, Obtained, Requested,
    Row, Shared, VforkRelease,
};

/// What a fork shares.
const COPIED: Shared = Shared {
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

/// Every way to be born, and how the call returns.
pub(super) fn clones() -> Vec<EventKind> {
    let mut clones: Vec<EventKind> = [fork(), container(), vfork(), thread()]
        .map(EventKind::Clone)
        .into();
    clones.extend(returns().map(EventKind::Cloned));
    clones
}

/// A copy of the whole process.
fn fork() -> Clone {
    Clone {
        call: "fork".into(),
        thread: false,
        child_pid: 1235,
        child_tid: 1235,
        flags: names(&["CLONE_CHILD_CLEARTID", "CLONE_CHILD_SETTID"]),
        exit_signal: Some(17),
        ppid: Some(1234),
        child_global: Some(
            Global {
                pid: 71_235,
                tid: 71_235,
            }
            .into(),
        ),
        shared: COPIED,
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
            not_surveyed: Some(not_surveyed()),
        }),
        followed: true,
    }
}

/// With namespaces of its own.
fn container() -> Clone {
    Clone {
        call: "clone".into(),
        flags: names(&[
            "CLONE_PARENT",
            "CLONE_NEWNS",
            "CLONE_NEWUSER",
            "CLONE_CLEAR_SIGHAND",
        ]),
        ppid: Some(1200),
        shared: Shared {
            nsproxy: false,
            ..COPIED
        },
        child_global: None,
        objects: ByObject(vec![
            (
                ObjectKind::Sighand,
                Row {
                    asked: Some(Requested::Clear),
                    note: Some("all set to the default".into()),
                    ..own(1, 3)
                },
            ),
            (ObjectKind::Nsproxy, own(1, 2)),
            (
                ObjectKind::MntNs,
                row(Some(1), Some(2), Some(Requested::New)),
            ),
            (
                ObjectKind::PidNs,
                row(Some(1), Some(1), Some(Requested::Share)),
            ),
            (
                ObjectKind::UserNs,
                row(Some(1), Some(2), Some(Requested::New)),
            ),
            (ObjectKind::Io, row(None, Some(1), None)),
            (
                ObjectKind::Sysvsem,
                row(Some(1), None, Some(Requested::Copy)),
            ),
        ]),
        fork: Some(4),
        copied: Some(Copied {
            pages: 1,
            ..Copied::default()
        }),
        ..fork()
    }
}

/// With its parent's memory, until it execs.
fn vfork() -> Clone {
    Clone {
        call: "vfork".into(),
        child_pid: 1237,
        child_tid: 1237,
        flags: names(&["CLONE_VM", "CLONE_VFORK"]),
        child_global: None,
        shared: Shared { mm: true, ..COPIED },
        objects: ByObject(vec![
            (
                ObjectKind::Mm,
                row(Some(1), Some(1), Some(Requested::Share)),
            ),
            (ObjectKind::Files, own(1, 4)),
        ]),
        fork: None,
        copied: None,
        followed: false,
        ..fork()
    }
}

/// With nearly all that its parent has.
fn thread() -> Clone {
    Clone {
        call: "clone3".into(),
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
        ppid: None,
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
            ..COPIED
        },
        followed: true,
    }
}

/// A row of a clone's matrix.
fn row(parent: Option<u32>, child: Option<u32>, asked: Option<Requested>) -> Row {
    let got = match child {
        None => Obtained::None,
        Some(_) if parent == child => Obtained::Shared,
        Some(_) => Obtained::Own,
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
    row(Some(parent), Some(child), Some(Requested::Copy))
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
        vfork(Some(VforkRelease::Exec)),
        vfork(Some(VforkRelease::Exit)),
    ]
}
