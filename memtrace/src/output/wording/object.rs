//! The objects behind a task's parts: who shares which, from when on, until when.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use super::{Ids, List, Span};
use crate::output::colour::Palette;
use crate::trace::event::{ObjectKind, ObjectReleased, ObjectShared, Share, Unshare};

/// An object by its number: `mm#3`.
#[derive(Clone, Copy)]
pub(in crate::output) struct Object(pub(in crate::output) ObjectKind, pub(in crate::output) u32);

impl Display for Object {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.0.name(), self.1)
    }
}

/// What an object is, in words.
pub(super) const fn words(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Mm => "memory",
        ObjectKind::Files => "open files",
        ObjectKind::Fs => "working directory",
        ObjectKind::Sighand => "signal handlers",
        ObjectKind::Signal => "limits and timers",
        ObjectKind::Group => "thread group",
        ObjectKind::Nsproxy => "namespaces",
        ObjectKind::MntNs => "mount namespace",
        ObjectKind::UtsNs => "host name namespace",
        ObjectKind::IpcNs => "IPC namespace",
        ObjectKind::PidNs => "pid namespace",
        ObjectKind::NetNs => "network namespace",
        ObjectKind::CgroupNs => "cgroup namespace",
        ObjectKind::TimeNs => "time namespace",
        ObjectKind::UserNs => "user namespace",
        ObjectKind::Cred => "credentials",
        ObjectKind::Io => "I/O context",
        ObjectKind::Sysvsem => "semaphore adjustments",
    }
}

/// Whether the set of namespaces says the same as this one: it is among them.
pub(super) const fn in_nsproxy(kind: ObjectKind) -> bool {
    kind.is_namespace() && !matches!(kind, ObjectKind::Nsproxy | ObjectKind::UserNs)
}

/// Whether it tells what the line before it doesn't.
pub(super) fn share_tells(share: &Share) -> bool {
    !told(&share.by, joined(share)).is_empty()
}

pub(super) fn share(out: &mut impl Write, share: &Share, palette: Palette) -> io::Result<()> {
    let items = told(&share.by, joined(share));
    let faint = palette.faint();
    write!(out, "shares {}  {faint}[", Groups(&items))?;
    match &*share.by {
        "attach" => write!(out, "since before the trace]{faint:#}"),
        by => write!(out, "by {by}]{faint:#}"),
    }
}

/// Whether any of it is worth a line.
pub(super) fn unshare_tells(unshare: &Unshare) -> bool {
    !told(&unshare.by, left(unshare)).is_empty()
}

pub(super) fn unshare(
    out: &mut impl Write,
    unshare: &Unshare,
    ts: u64,
    palette: Palette,
) -> io::Result<()> {
    let items = told(&unshare.by, left(unshare));
    let since = || items.iter().map(|item| item.since);
    let used = |since: Option<u64>| Span(ts.saturating_sub(since.unwrap_or(ts)));
    let (least, most) = (since().max(), since().min());
    let faint = palette.faint();
    write!(
        out,
        "no longer shares {}  {faint}[by {}, used for {}",
        Groups(&items),
        unshare.by,
        used(least)
    )?;
    if most != least {
        write!(out, " to {}", used(most))?;
    }
    write!(out, "]{faint:#}")
}

/// An object that is or was shared.
struct Item<'a> {
    object: Object,
    /// What is used in its place.
    now: Option<u32>,
    /// Since when it had been used; 0 where it is from now on.
    since: u64,
    with: Ids<'a>,
}

fn joined<'a>(share: &'a Share) -> Vec<Item<'a>> {
    let objects = share.objects.0.iter();
    let item = |(kind, joined): &'a (ObjectKind, ObjectShared)| Item {
        object: Object(*kind, joined.number),
        now: None,
        since: 0,
        with: Ids {
            first: &joined.with,
            count: joined.with_count,
        },
    };
    objects.map(item).collect()
}

fn left<'a>(unshare: &'a Unshare) -> Vec<Item<'a>> {
    let objects = unshare.objects.0.iter();
    let item = |(kind, left): &'a (ObjectKind, ObjectReleased)| Item {
        object: Object(*kind, left.number),
        now: left.now,
        since: left.since,
        with: Ids {
            first: &left.with,
            count: left.with_count,
        },
    };
    objects.map(item).collect()
}

/// Those that are to be told of. Most is as with any task: its line has told it.
fn told<'a>(by: &str, mut items: Vec<Item<'a>>) -> Vec<Item<'a>> {
    let limits = |item: &&Item| item.object.0 == ObjectKind::Signal;
    let own_threads = items.iter().find(limits).map(|item| item.with.count);
    let in_set = items.iter().any(|item| in_nsproxy(item.object.0));
    items.retain(|item| match (by, item.object.0) {
        ("clone", _) | ("attach" | "exec" | "exit", ObjectKind::Cred) => false,
        // All threads of a process share it, and nobody else.
        ("attach" | "exec" | "exit", kind) => {
            !kind.is_namespace() && Some(item.with.count) != own_threads
        }
        // The set is another one as one of them is.
        (_, ObjectKind::Nsproxy) => !in_set,
        _ => true,
    });
    items
}

impl Display for Item<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", words(self.object.0), self.object)?;
        self.now.map_or(Ok(()), |now| write!(f, " (now #{now})"))
    }
}

/// Objects, those together that are shared with the same.
struct Groups<'a>(&'a [Item<'a>]);

impl Display for Groups<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let same = |a: &Item, b: &Item| a.with == b.with;
        let mut between = "";
        for (at, first) in self.0.iter().enumerate() {
            if self.0[..at].iter().any(|item| same(item, first)) {
                continue;
            }
            let group = self.0[at..].iter().filter(|item| same(item, first));
            write!(f, "{between}{} with {}", List(group), first.with)?;
            between = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use crate::trace::event::ByObject;

    fn told_of(by: &'static str, objects: Vec<(ObjectKind, ObjectReleased)>) -> Vec<ObjectKind> {
        let objects = ByObject(objects);
        told(
            by,
            left(&Unshare {
                by: by.into(),
                objects,
            }),
        )
        .iter()
        .map(|item| item.object.0)
        .collect()
    }

    #[test]
    fn ordinary_ends_are_quiet() {
        let of = |kind, with: &[u32]| samples::left(kind, 1, None, with);
        let threads: &[u32] = &[100, 101];
        let thread = |mm: &[u32], files: &[u32]| {
            vec![
                of(ObjectKind::Mm, mm),
                of(ObjectKind::Files, files),
                of(ObjectKind::Signal, threads),
                of(ObjectKind::Group, threads),
                of(ObjectKind::MntNs, &[100, 101, 102]),
                of(ObjectKind::Cred, threads),
            ]
        };
        for by in ["attach", "exec", "exit", "clone"] {
            assert_eq!(told_of(by, thread(threads, threads)), [], "{by}");
        }
        let with_process = [100, 101, 102];
        assert_eq!(
            told_of("exit", thread(&with_process, threads)),
            [ObjectKind::Mm]
        );
        assert_eq!(
            told_of("exit", thread(threads, &[100])),
            [ObjectKind::Files]
        );
    }

    #[test]
    fn a_call_is_told_of_with_all_that_it_ends() {
        let of = |kind| samples::left(kind, 1, Some(2), &[100]);
        let objects = vec![
            of(ObjectKind::Files),
            of(ObjectKind::Nsproxy),
            of(ObjectKind::NetNs),
            of(ObjectKind::Cred),
        ];
        // The set of namespaces is new as one of them is.
        assert_eq!(
            told_of("unshare", objects),
            [ObjectKind::Files, ObjectKind::NetNs, ObjectKind::Cred]
        );
        let set = vec![of(ObjectKind::Nsproxy)];
        assert_eq!(told_of("setns", set), [ObjectKind::Nsproxy]);
    }
}
