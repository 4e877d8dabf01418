//! What a clone's flags ask for, and what comes of it.

use memtrace_ebpf::record::Birth;

use super::story::{Outcome, Story};
use crate::trace::{
    event::{Name, ObjectKind, Obtained, Requested, Row},
    names::flag,
};

const SIGCHLD: u64 = 17;
const SHARED: Requested = Requested::Share;
const OWN: Requested = Requested::Copy;

/// The matrix of a clone with these flags, `change`d; its parent has an I/O context and an undo list if `all`.
fn matrix(flags: u64, all: bool, change: impl FnOnce(&mut Birth)) -> Vec<(ObjectKind, Row)> {
    let mut story = Story::of(100, 0xa);
    if all {
        let (io, sysvsem) = (story.address(), story.address());
        let parts = &mut story.tasks.get_mut(&100).expect("the first").parts;
        (parts.io, parts.sysvsem) = (io, sysvsem);
    }
    let pid = if flags & flag::THREAD != 0 { 100 } else { 200 };
    story.clone_as(100, (pid, 200), (flags | SIGCHLD, 0xb), &[], change);
    let outcome = story.play();
    let rows = &last(&outcome).objects.0;
    let kinds: Vec<ObjectKind> = rows.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ObjectKind::ALL, "each kind has a row");
    rows.clone()
}

fn last(outcome: &Outcome) -> &crate::trace::event::Clone {
    outcome.clones().pop().expect("a clone")
}

/// The rows that aren't as those of a clone without flags: asked, got and note.
fn beside_fork(flags: u64) -> Vec<(ObjectKind, Option<Requested>, Obtained)> {
    let plain = matrix(0, true, |_| ());
    let rows = matrix(flags, true, |_| ());
    rows.iter()
        .zip(plain)
        .filter(|((_, row), (_, plain))| (row.asked, row.got) != (plain.asked, plain.got))
        .map(|((kind, row), _)| (*kind, row.asked, row.got))
        .collect()
}

#[test]
fn without_flags_each_kind_is_as_fork_has_it() {
    use ObjectKind as K;
    let rows = matrix(0, true, |_| ());
    let [copied, new, namespaces] = [
        [K::Mm, K::Files, K::Fs, K::Sighand].as_slice(),
        &[K::Signal, K::Group],
        &[
            K::Nsproxy,
            K::MntNs,
            K::UtsNs,
            K::IpcNs,
            K::PidNs,
            K::NetNs,
            K::CgroupNs,
            K::TimeNs,
            K::UserNs,
        ],
    ];
    for (kind, row) in rows {
        let (asked, got, child) = if copied.contains(&kind) {
            (Some(OWN), Obtained::Own, Some(2))
        } else if new.contains(&kind) {
            (Some(Requested::New), Obtained::Own, Some(2))
        } else if namespaces.contains(&kind) {
            (Some(SHARED), Obtained::Shared, Some(1))
        } else if kind == K::Cred {
            (None, Obtained::Own, Some(2))
        } else {
            (Some(OWN), Obtained::None, None)
        };
        let expected = Row {
            parent: Some(1),
            child,
            asked,
            got,
            note: (got == Obtained::None)
                .then_some("not copied: the child begins with none".into()),
        };
        assert_eq!(row, expected, "{kind:?}");
    }
}

#[test]
fn each_flag_asks_for_what_it_is_about() {
    use ObjectKind as K;
    let shares = |kind| (kind, Some(SHARED), Obtained::Shared);
    let renews = |kind| (kind, Some(Requested::New), Obtained::Own);
    for (name, flags, kinds) in [
        ("VM", flag::VM, vec![shares(K::Mm)]),
        ("FILES", flag::FILES, vec![shares(K::Files)]),
        ("FS", flag::FS, vec![shares(K::Fs)]),
        ("IO", flag::IO, vec![shares(K::Io)]),
        ("SYSVSEM", flag::SYSVSEM, vec![shares(K::Sysvsem)]),
        (
            "SIGHAND",
            flag::SIGHAND | flag::VM,
            vec![shares(K::Mm), shares(K::Sighand)],
        ),
        (
            "THREAD",
            flag::THREAD | flag::SIGHAND | flag::VM,
            vec![
                shares(K::Mm),
                shares(K::Sighand),
                shares(K::Signal),
                shares(K::Group),
                (K::Cred, None, Obtained::Shared),
            ],
        ),
        (
            "CLEAR_SIGHAND",
            flag::CLEAR_SIGHAND,
            vec![(K::Sighand, Some(Requested::Clear), Obtained::Own)],
        ),
        ("VFORK", flag::VFORK, vec![]),
        ("NEWUSER", flag::NEWUSER, vec![renews(K::UserNs)]),
    ] {
        assert_eq!(beside_fork(flags), kinds, "CLONE_{name}");
    }
    for (name, flags, kind) in [
        ("NEWNS", flag::NEWNS, K::MntNs),
        ("NEWUTS", flag::NEWUTS, K::UtsNs),
        ("NEWIPC", flag::NEWIPC, K::IpcNs),
        ("NEWPID", flag::NEWPID, K::PidNs),
        ("NEWNET", flag::NEWNET, K::NetNs),
        ("NEWCGROUP", flag::NEWCGROUP, K::CgroupNs),
        ("NEWTIME", flag::NEWTIME, K::TimeNs),
    ] {
        let both = [renews(K::Nsproxy), renews(kind)];
        assert_eq!(beside_fork(flags), both, "CLONE_{name}");
    }
}

/// The note of a kind's row.
fn note(
    kind: ObjectKind,
    (flags, all): (u64, bool),
    change: impl FnOnce(&mut Birth),
) -> Option<Name> {
    let rows = matrix(flags, all, change);
    rows.into_iter().find(|(of, _)| *of == kind)?.1.note
}

#[test]
fn where_asked_and_got_differ_it_is_said() {
    use ObjectKind as K;
    let own = |birth: &mut Birth| birth.child.files = 0x777;
    assert_eq!(
        note(K::Files, (flag::FILES, false), own).as_deref(),
        Some("asked to be shared, but the child has its own")
    );
    let parents = |birth: &mut Birth| birth.child.fs = birth.parent.fs;
    assert_eq!(
        note(K::Fs, (0, false), parents).as_deref(),
        Some("asked for one of its own, but the child shares the parent's")
    );
    let parents = |birth: &mut Birth| birth.child.pid_ns = birth.parent.pid_ns;
    assert_eq!(
        note(K::PidNs, (flag::NEWPID, false), parents).as_deref(),
        Some("what an earlier call has set for the children")
    );
    // After unshare(CLONE_NEWTIME) a child gets a set of namespaces of its own, whatever the flags.
    let own = |birth: &mut Birth| birth.child.nsproxy = 0x777;
    assert_eq!(
        note(K::Nsproxy, (0, false), own).as_deref(),
        Some("asked to be shared, but the child has its own")
    );
    assert_eq!(
        note(K::Io, (flag::IO, false), |_| ()).as_deref(),
        Some("the parent has none to share")
    );
    assert_eq!(note(K::Io, (flag::IO, true), |_| ()), None);
    assert_eq!(note(K::Io, (0, false), |_| ()), None, "nobody has any");
    assert_eq!(
        note(K::Io, (0, true), |_| ()).as_deref(),
        Some("not copied: the child begins with none")
    );
}

#[test]
fn cleared_handlers_are_counted() {
    let handled = |handled| {
        note(
            ObjectKind::Sighand,
            (flag::CLEAR_SIGHAND, false),
            move |birth| birth.handled = handled,
        )
    };
    let cleared = Some("all handlers are set to the default: not a copy of the parent's".into());
    assert_eq!(handled([3, 0]), cleared);
    assert_eq!(handled([0, 0]), cleared);
    assert_eq!(
        handled([3, 3]),
        Some("asked to be cleared, but the child handles signals all the same".into())
    );
}

/// The flags by name, and the plain comparison of pointers beside the matrix.
#[test]
fn flags_are_named_and_pointers_compared() {
    let mut story = Story::of(100, 0xa);
    let flags = flag::VM | flag::FILES | flag::IO | 1 << 40;
    story.clone_as(100, (200, 200), (flags | SIGCHLD, 0xb), &[], |_| ());
    let outcome = story.play();
    let clone = last(&outcome);
    assert_eq!(
        clone.flags.join("|"),
        "CLONE_VM|CLONE_FILES|CLONE_IO|0x10000000000"
    );
    let shared = clone.shared;
    assert!(shared.mm && shared.files && shared.nsproxy);
    assert!(!shared.fs && !shared.sighand && !shared.signal && !shared.cred);
    assert!(!shared.io, "neither has one");
}
