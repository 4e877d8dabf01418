//! Accounts.

use std::collections::BTreeMap;

use super::BEGAN;
use crate::trace::event::{
    Account, Address, Area, End, ForkAccount, Global, NotSurveyed, ObjectKind, Region,
    TaskLifetime, Use,
};

/// A process with 24 faults that its exec took, and this many copies.
pub(in crate::output) fn account(pid: u32, copies: u64) -> Account {
    Account {
        pid,
        comm: "fork-write".into(),
        faults: [
            ("cow-copy".into(), copies),
            ("file-map".into(), 40),
            ("invalid".into(), 1),
            ("zero-fill".into(), 25),
        ]
        .into(),
        min_flt: copies + 40 + 25 + 24,
        maj_flt: 0,
        unobserved: 24,
        unobserved_by: [("execve".into(), 24)].into(),
        before_exec: 0,
        incomplete: false,
        alive: false,
    }
}

/// The end of a run with these processes.
pub(in crate::output) fn end(processes: Vec<Account>) -> End {
    let mut total = Account::default();
    for process in &processes {
        for (kind, count) in &process.faults {
            *total.faults.entry(kind.clone()).or_default() += count;
        }
        for (reason, count) in &process.unobserved_by {
            *total.unobserved_by.entry(reason.clone()).or_default() += count;
        }
        total.min_flt += process.min_flt;
        total.maj_flt += process.maj_flt;
        total.unobserved += process.unobserved;
        total.before_exec += process.before_exec;
    }
    End {
        ts: BEGAN + 1_000_000_000,
        processes,
        total,
        lost: BTreeMap::new(),
        missed: BTreeMap::new(),
        forks: Vec::new(),
        tasks: Vec::new(),
        tasks_left_out: 0,
        late: 0,
    }
}

/// An end with all that there can be.
pub(in crate::output) fn whole_end() -> End {
    let running = Account {
        alive: true,
        incomplete: true,
        before_exec: 31,
        ..account(1235, 37)
    };
    let mut second = fork(2, 40);
    second.dur = None;
    second.incomplete = true;
    second.areas[1].file = None;
    let execed = TaskLifetime {
        pid: 1234,
        born_tid: Some(1238),
        ..life(1234, Some(1234), 3_000, &[(ObjectKind::Mm, 3)])
    };
    second.not_surveyed = Some(not_surveyed());
    let in_container = TaskLifetime {
        global: Some(Global {
            pid: 71_235,
            tid: 71_235,
        }),
        ..life(1235, Some(1234), 2_000, &[(ObjectKind::Mm, 2)])
    };
    End {
        forks: vec![fork(1, 40), second],
        tasks: family(vec![
            life(1234, None, 0, &[(ObjectKind::Mm, 1), (ObjectKind::Fs, 1)]),
            in_container,
            execed,
        ]),
        tasks_left_out: 3,
        lost: [("fault".into(), 12)].into(),
        ..end(vec![account(1234, 3), running])
    }
}

/// What a fork of a large process leaves out.
pub(in crate::output) const fn not_surveyed() -> NotSurveyed {
    NotSurveyed {
        from: Address(0x7f12_0020_0000),
        pages: Some(97_000),
    }
}

/// A fork with ten times so many pages, of which so many were copied, mostly by the parent.
pub(in crate::output) fn fork(number: u32, copies: u64) -> ForkAccount {
    let by_child = copies / 4;
    let area = |region, pages, copied| Area {
        pages,
        copied,
        given_up: pages - copied,
        ..Area::empty(region, None)
    };
    let (heap, data) = (
        area(Region::Heap, 9 * copies, copies - by_child),
        area(Region::Data, copies, by_child),
    );
    let mut fork = ForkAccount {
        number,
        ts: BEGAN + u64::from(number) * 1_000_000,
        parent: 1234,
        parent_comm: "redis-server".into(),
        child: 1234 + number,
        child_comm: "redis-server".into(),
        dur: Some(312_000),
        table_bytes: 44 << 10,
        pages: 10 * copies,
        by_child,
        by_parent: copies - by_child,
        areas: vec![
            heap,
            Area {
                file: Some("/usr/bin/redis\x1b[2J".into()),
                ..data
            },
        ],
        ..ForkAccount::default()
    };
    fork.given_up.exit = 9 * copies;
    fork
}

/// A process that lives from so many microseconds after the start for 100 ms, and uses these objects all the time.
pub(in crate::output) fn life(
    pid: u32,
    parent: Option<u32>,
    micros: u64,
    objects: &[(ObjectKind, u32)],
) -> TaskLifetime {
    let from = BEGAN + micros * 1000;
    let until = Some(from + 100_000_000);
    let one = |&(kind, number): &(ObjectKind, u32)| Use {
        kind,
        number,
        from,
        until,
    };
    TaskLifetime {
        pid,
        tid: pid,
        parent,
        comm: "fork-write".into(),
        from,
        until,
        uses: objects.iter().map(one).collect(),
        ..TaskLifetime::default()
    }
}

/// Numbers lives in their order. Each one's parent is the last before it that has the id.
pub(in crate::output) fn family(mut lives: Vec<TaskLifetime>) -> Vec<TaskLifetime> {
    for at in 0..lives.len() {
        let (before, rest) = lives.split_at_mut(at);
        let life = &mut rest[0];
        let parent = before.iter().rev().find(|it| Some(it.tid) == life.parent);
        (life.number, life.parent_number) = (at as u32 + 1, parent.map(|it| it.number));
    }
    lives
}
