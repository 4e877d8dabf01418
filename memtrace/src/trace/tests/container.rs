//! A container has a pid namespace of its own: ids are shown as they are there.

use memtrace_ebpf::record::Ids;

use super::{
    regions::{BOUNDS, PROG},
    story::{Story, heap_pages},
};
use crate::trace::event::{EventKind, Global, ObjectKind};

#[test]
fn ids_are_those_of_memtraces_namespace() {
    let mut story = Story::default();
    let parts = story.all_parts();
    for tid in [50_000, 50_001] {
        story.found(50_000, tid, parts, |task| {
            task.parent_pid = 3;
            task.ids = Ids {
                pid: 7,
                tid: tid - 50_000 + 7,
            };
        });
    }
    story.survey(50_000, &[(heap_pages(0..4), 4)]);
    story.surveyed(50_000, PROG, BOUNDS);
    story.fork_as(50_001, 50_010, 0xb, &[heap_pages(0..4)], |birth| {
        birth.child_ids = Ids { pid: 12, tid: 12 };
    });
    // A task that is not in the namespace, having joined another, has no id there but its own.
    story.fork_as(50_010, 50_020, 0xc, &[heap_pages(0..4)], |birth| {
        birth.child_ids = Ids::default();
    });
    story.copies(50_010, 0, 3);
    story.copies(50_020, 1, 3);
    story.copies(50_001, 2, 3);
    story.ends(50_000);
    story.exec(50_001, 0xd, PROG, BOUNDS, &[]);
    let outcome = story.play();
    outcome.copies_are([
        "12 0: fork 2 12>50020, with [7, 50020] of 3",
        "50020 1: fork 2 12>50020, with [7, 12] of 3",
        "8 2: fork 1 7>12, with [12, 50020] of 3",
    ]);
    let global = |pid, tid| Some(Global { pid, tid });
    let clones: Vec<_> = outcome
        .clones()
        .iter()
        .map(|clone| (clone.child_pid, clone.child_tid, clone.child_global))
        .collect();
    assert_eq!(
        clones,
        [
            (12, 12, global(50_010, 50_010).map(Into::into)),
            (50_020, 50_020, None),
        ]
    );
    let of = |name| {
        let mut events = outcome.events.iter();
        let event = events.find(|event| event.what.name() == name);
        let event = event.expect("such an event");
        (event.pid, event.tid, event.global)
    };
    assert_eq!(of("task"), (7, 8, global(50_000, 50_001)));
    assert_eq!(of("clone"), (7, 8, global(50_000, 50_001)));
    assert_eq!(of("exec"), (7, 7, global(50_000, 50_000)), "the first now");
    let exec = outcome.events.iter().find_map(|event| match &event.what {
        EventKind::Exec(exec) => exec.old_tid,
        _ => None,
    });
    assert_eq!(exec, Some(8), "as it was seen");
    let lives: Vec<_> = outcome
        .tasks
        .iter()
        .map(|life| (life.pid, life.tid, life.parent, life.global))
        .collect();
    assert_eq!(
        lives,
        [
            (7, 7, None, global(50_000, 50_000)),
            (7, 7, None, global(50_000, 50_000)),
            (12, 12, Some(8), global(50_010, 50_010)),
            (50_020, 50_020, Some(12), None),
        ]
    );
    let shares = outcome.shared(|kind| kind == ObjectKind::UserNs);
    assert!(
        shares[2].contains("12 + clone: user_ns#1 [7, 8]"),
        "{shares:?}"
    );
    let rows: Vec<u32> = outcome.rows.iter().map(|row| row.pid).collect();
    assert_eq!(rows, [7, 12, 50_020]);
    assert_eq!((outcome.forks[0].parent, outcome.forks[0].child), (7, 12));
}
