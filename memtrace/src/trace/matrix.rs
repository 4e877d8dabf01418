//! What a clone's flags asked for, beside what came of it.

use memtrace_ebpf::record::Birth;

use super::{
    event::{ByObject, ObjectKind, Obtained, Requested, Row},
    names::flag,
    objects::Objects,
};

/// What the flags ask for, for one kind of object; `None` where no flag speaks of it.
fn asked(kind: ObjectKind, flags: u64) -> Option<Requested> {
    let share_if = |bit| {
        Some(if flags & bit != 0 {
            Requested::Share
        } else {
            Requested::Copy
        })
    };
    let new_if = |bits| {
        Some(if flags & bits != 0 {
            Requested::New
        } else {
            Requested::Share
        })
    };
    match kind {
        ObjectKind::Mm => share_if(flag::VM),
        ObjectKind::Files => share_if(flag::FILES),
        ObjectKind::Fs => share_if(flag::FS),
        ObjectKind::Sighand if flags & flag::CLEAR_SIGHAND != 0 => Some(Requested::Clear),
        ObjectKind::Sighand => share_if(flag::SIGHAND),
        ObjectKind::Signal | ObjectKind::Group => Some(if flags & flag::THREAD != 0 {
            Requested::Share
        } else {
            Requested::New
        }),
        ObjectKind::Nsproxy => new_if(flag::ANY_NS),
        ObjectKind::MntNs => new_if(flag::NEWNS),
        ObjectKind::UtsNs => new_if(flag::NEWUTS),
        ObjectKind::IpcNs => new_if(flag::NEWIPC),
        ObjectKind::PidNs => new_if(flag::NEWPID),
        ObjectKind::NetNs => new_if(flag::NEWNET),
        ObjectKind::CgroupNs => new_if(flag::NEWCGROUP),
        ObjectKind::TimeNs => new_if(flag::NEWTIME),
        ObjectKind::UserNs => new_if(flag::NEWUSER),
        ObjectKind::Io => share_if(flag::IO),
        ObjectKind::Sysvsem => share_if(flag::SYSVSEM),
        // copy_creds in kernel/cred.c: a thread shares them, unless it has keys of its own.
        ObjectKind::Cred => None,
    }
}

/// The matrix of a clone, whose child the objects know already.
pub fn matrix(birth: &Birth, objects: &Objects) -> ByObject<Row> {
    let rows = ObjectKind::ALL.into_iter().map(|kind| {
        let parent = objects.number(birth.head.tid, kind);
        let child = objects.number(birth.child_tid, kind);
        let got = match child {
            None => Obtained::None,
            Some(_) if child == parent => Obtained::Shared,
            Some(_) => Obtained::Own,
        };
        let asked = asked(kind, birth.flags);
        let row = Row {
            parent,
            child,
            asked,
            got,
            note: note(birth, kind, parent, asked, got).map(Into::into),
        };
        (kind, row)
    });
    ByObject(rows.collect())
}

/// Where what came isn't what was asked for: what it is.
fn note(
    birth: &Birth,
    kind: ObjectKind,
    parent: Option<u32>,
    asked: Option<Requested>,
    got: Obtained,
) -> Option<&'static str> {
    match (asked?, got) {
        (Requested::Clear, Obtained::Own) if birth.handled[1] == 0 => {
            Some("all handlers are set to the default: not a copy of the parent's")
        }
        (Requested::Clear, Obtained::Own) => {
            Some("asked to be cleared, but the child handles signals all the same")
        }
        (Requested::Share, Obtained::None) => Some("the parent has none to share"),
        (Requested::Copy, Obtained::None) if parent.is_some() => {
            Some("not copied: the child begins with none")
        }
        (Requested::Share, Obtained::Own) => Some("asked to be shared, but the child has its own"),
        (Requested::Copy | Requested::New | Requested::Clear, Obtained::Shared)
            if parent.is_some() =>
        {
            Some(match kind {
                // unshare(2) or setns(2) has set those of the children to come.
                ObjectKind::PidNs | ObjectKind::TimeNs => {
                    "what an earlier call has set for the children"
                }
                _ => "asked for one of its own, but the child shares the parent's",
            })
        }
        _ => None,
    }
}
