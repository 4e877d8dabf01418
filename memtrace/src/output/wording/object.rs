//! The objects behind a task's parts: who shares which, from when on, until when.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use super::{Ids, List, Span};
use crate::output::colour::Palette;
use crate::trace::event::{Left, ObjectKind, Share, Unshare};

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

/// The clone's line has told it.
pub(super) fn share_tells(share: &Share) -> bool {
    share.by != "clone"
}

pub(super) fn share(out: &mut impl Write, share: &Share, palette: Palette) -> io::Result<()> {
    let all_namespaces = share.objects.get(ObjectKind::Nsproxy).is_some();
    let told = |kind| {
        // Who shares the limits is in the same thread group.
        kind != ObjectKind::Group && !(all_namespaces && in_nsproxy(kind))
    };
    let items: Vec<_> = share
        .objects
        .0
        .iter()
        .filter(|(kind, _)| told(*kind))
        .map(|(kind, joined)| Item {
            object: Object(*kind, joined.number),
            now: None,
            with: &joined.with,
            count: joined.with_count,
        })
        .collect();
    let faint = palette.faint();
    write!(out, "shares {}  {faint}[", Groups(&items))?;
    match share.by {
        "attach" => write!(out, "since before the trace]{faint:#}"),
        by => write!(out, "by {by}]{faint:#}"),
    }
}

/// Whether any of it is worth a line.
pub(super) fn unshare_tells(unshare: &Unshare) -> bool {
    told(unshare).next().is_some()
}

/// What is to be told of: an end is the end of much that needs no mention.
fn told(unshare: &Unshare) -> impl Iterator<Item = &(ObjectKind, Left)> {
    let objects = &unshare.objects;
    let ends = matches!(unshare.by, "exec" | "exit");
    let own_threads = objects
        .get(ObjectKind::Signal)
        .map_or(0, |signal| signal.with_count);
    objects.0.iter().filter(move |(kind, left)| {
        if ends {
            let process_wide = own_threads != 0 && left.with_count == own_threads;
            !kind.is_namespace() && *kind != ObjectKind::Cred && !process_wide
        } else {
            let named = objects.0.iter().any(|(other, _)| in_nsproxy(*other));
            !(*kind == ObjectKind::Nsproxy && named)
        }
    })
}

pub(super) fn unshare(
    out: &mut impl Write,
    unshare: &Unshare,
    ts: u64,
    palette: Palette,
) -> io::Result<()> {
    let items: Vec<_> = told(unshare)
        .map(|(kind, left)| Item {
            object: Object(*kind, left.number),
            now: left.now,
            with: &left.with,
            count: left.with_count,
        })
        .collect();
    let since = || told(unshare).map(|(_, left)| left.since);
    let used = |since: Option<u64>| Span(ts.saturating_sub(since.unwrap_or(ts)));
    let (least, most) = (since().max(), since().min());
    let faint = palette.faint();
    write!(
        out,
        "no longer shares {}  {faint}[by {}",
        Groups(&items),
        unshare.by
    )?;
    write!(out, ", used for {}", used(least))?;
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
    with: &'a [u32],
    count: u32,
}

impl Item<'_> {
    fn with(&self) -> Ids<'_> {
        Ids {
            first: self.with,
            count: self.count,
        }
    }
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
        let same = |a: &Item, b: &Item| (a.with, a.count) == (b.with, b.count);
        let mut between = "";
        for (at, first) in self.0.iter().enumerate() {
            if self.0[..at].iter().any(|item| same(item, first)) {
                continue;
            }
            let group = self.0[at..].iter().filter(|item| same(item, first));
            write!(f, "{between}{} with {}", List(group), first.with())?;
            between = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::left;
    use crate::trace::event::ByObject;

    fn told_of(by: &'static str, objects: Vec<(ObjectKind, Left)>) -> Vec<ObjectKind> {
        let objects = ByObject(objects);
        told(&Unshare { by, objects })
            .map(|(kind, _)| *kind)
            .collect()
    }

    #[test]
    fn ordinary_ends_are_quiet() {
        let of = |kind, with: &[u32]| left(kind, 1, None, with);
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
        assert_eq!(told_of("exit", thread(threads, threads)), []);
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
        let of = |kind| left(kind, 1, Some(2), &[100]);
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
