//! Tasks that are there at attach, and what tasks share and no longer share.

use super::BEGAN;
use crate::trace::event::{
    ByObject, EventKind, ExistingTask, ObjectKind, ObjectReleased, ObjectShared, Share, Unshare,
};

/// Every such event, and each way it can be told.
pub(super) fn objects() -> Vec<EventKind> {
    let mut all = tasks();
    all.extend(shares().map(EventKind::Share));
    all.extend(unshares().map(EventKind::Unshare));
    all
}

fn tasks() -> Vec<EventKind> {
    let process = ExistingTask {
        ppid: 1000,
        objects: ByObject(vec![
            (ObjectKind::Mm, 4),
            (ObjectKind::Files, 3),
            (ObjectKind::Group, 2),
            (ObjectKind::Nsproxy, 1),
            (ObjectKind::MntNs, 1),
            (ObjectKind::UserNs, 1),
        ]),
        resident: Some(5120),
        private: Some(4097),
    };
    let thread = ExistingTask {
        resident: None,
        private: None,
        ..process.clone()
    };
    vec![
        EventKind::ExistingTask(process),
        EventKind::ExistingTask(thread),
    ]
}

fn shares() -> [Share; 3] {
    let joined = |kind, number, with: &[u32]| {
        let (with, with_count) = (with.to_vec(), with.len() as u32);
        let joined = ObjectShared {
            number,
            with,
            with_count,
        };
        (kind, joined)
    };
    let clone = Share {
        by: "clone".into(),
        objects: ByObject(vec![joined(ObjectKind::Mm, 1, &[1234])]),
    };
    let mut at_attach = ByObject(vec![
        joined(ObjectKind::Mm, 4, &[1236, 1240]),
        joined(ObjectKind::Files, 3, &[1236]),
        joined(ObjectKind::Fs, 3, &[1236, 1240]),
        joined(ObjectKind::Sighand, 3, &[1240]),
        joined(ObjectKind::Signal, 2, &[1236]),
        joined(ObjectKind::Nsproxy, 1, &[1236]),
    ]);
    at_attach.0[3].1.with_count = 120;
    let attach = Share {
        by: "attach".into(),
        objects: at_attach,
    };
    let setns = Share {
        by: "setns".into(),
        objects: ByObject(vec![joined(ObjectKind::NetNs, 2, &[1300])]),
    };
    [clone, attach, setns]
}

/// An object that is left.
pub(in crate::output) fn left(
    kind: ObjectKind,
    number: u32,
    now: Option<u32>,
    with: &[u32],
) -> (ObjectKind, ObjectReleased) {
    let left = ObjectReleased {
        number,
        now,
        since: BEGAN + 1_000_000,
        with: with.to_vec(),
        with_count: with.len() as u32,
    };
    (kind, left)
}

fn unshares() -> [Unshare; 4] {
    let exec = Unshare {
        by: "exec".into(),
        objects: ByObject(vec![
            left(ObjectKind::Mm, 1, Some(3), &[1234]),
            left(ObjectKind::Cred, 1, Some(2), &[1234]),
        ]),
    };
    let mut unshare = Unshare {
        by: "unshare".into(),
        objects: ByObject(vec![
            left(ObjectKind::Files, 2, Some(5), &[1234]),
            left(ObjectKind::Nsproxy, 1, Some(2), &[1234, 1235]),
            left(ObjectKind::MntNs, 1, Some(2), &[1234, 1235]),
        ]),
    };
    unshare.objects.0[0].1.since += 500_000;
    let quiet = Unshare {
        by: "exit".into(),
        objects: ByObject(vec![
            left(ObjectKind::Nsproxy, 1, None, &[1234]),
            left(ObjectKind::Cred, 1, None, &[1234]),
        ]),
    };
    let exit = Unshare {
        by: "exit".into(),
        objects: ByObject(vec![
            left(ObjectKind::Mm, 1, None, &[1234, 1240]),
            left(ObjectKind::Sighand, 1, None, &[1234]),
            left(ObjectKind::Signal, 1, None, &[1234]),
        ]),
    };
    [exec, unshare, quiet, exit]
}
