//! Faults.

use std::sync::Arc;

use super::event;
use crate::trace::event::{
    Access, Address, Cause, Counted, CowCause, Event, EventKind, Fault, FaultKind, ForkRef,
    Handled, Mode, Part, Region,
};

/// A write to the heap that got a new page.
pub fn fault() -> Fault {
    Fault {
        addr: Address(0x55d0_c3a1_b008),
        ip: Address(0x40_1136),
        access: Access::Write,
        mode: Mode::User,
        kind: FaultKind::ZeroFill,
        region: Region::Heap,
        part: None,
        file: None,
        offset: None,
        page_size: 4096,
        pfn_before: None,
        pfn_after: Some(0x5678),
        counted: Some(Counted::Minor),
        signal: None,
        detail: None,
        handled: None,
        cause: None,
        late: 0,
    }
}

/// A fault of every kind, and every field in use at least once.
pub(in crate::output) fn faults() -> Vec<Fault> {
    let mut faults = copies_by_cause();
    faults.extend(others());
    faults.extend(without_exception());
    faults
}

/// Copies, one for each cause, and one of which none is known.
fn copies_by_cause() -> Vec<Fault> {
    let copy = |cause: Option<Cause>| Fault {
        kind: FaultKind::CowCopy,
        pfn_before: Some(0x1234),
        cause: cause.map(Box::new),
        ..fault()
    };
    let mut copies: Vec<Fault> = causes().into_iter().map(Some).map(copy).collect();
    for fault in &mut copies {
        if fault
            .cause
            .as_ref()
            .is_some_and(|cause| cause.cause == CowCause::PageCache)
        {
            (fault.region, fault.offset) = (Region::File, Some(4096));
            fault.file = Some("/tmp/data".into());
        }
    }
    copies[0].late = 1_500_000;
    copies.push(copy(None));
    copies
}

/// A fault of which the hook on `handle_mm_fault` saw nothing but that there was no end.
const HANDLED: Handled = Handled {
    dur: None,
    retries: 0,
    waited: 0,
    call: None,
    unshare: false,
    owner: None,
};

/// Faults without an exception.
fn without_exception() -> Vec<Fault> {
    vec![
        Fault {
            mode: Mode::Gup,
            region: Region::Stack,
            handled: Some(Handled {
                dur: Some(2_345),
                call: Some("execve".into()),
                ..HANDLED
            }),
            ..fault()
        },
        Fault {
            mode: Mode::Gup,
            pfn_before: Some(0x9abc),
            handled: Some(Handled {
                dur: Some(61_000),
                retries: 1,
                waited: 52_000,
                call: Some("process_vm_writev".into()),
                owner: Some(1240),
                ..HANDLED
            }),
            kind: FaultKind::CowReuse,
            ..fault()
        },
        Fault {
            mode: Mode::Gup,
            pfn_before: Some(0x9abc),
            handled: Some(Handled {
                call: Some("kernel".into()),
                unshare: true,
                ..HANDLED
            }),
            access: Access::Read,
            kind: FaultKind::CowCopy,
            ..fault()
        },
    ]
}

/// A fault of each other kind.
#[expect(clippy::too_many_lines, reason = "it is a list")]
fn others() -> Vec<Fault> {
    let library: Option<Arc<str>> = Some("/usr/lib/x86_64-linux-gnu/libc.so.6".into());
    let data: Option<Arc<str>> = Some("/tmp/\x1b]0;data (deleted)".into());
    let shm: Option<Arc<str>> = Some("/dev/zero (deleted)".into());
    let of = |kind| Fault { kind, ..fault() };
    let read = |kind| Fault {
        access: Access::Read,
        ..of(kind)
    };
    vec![
        Fault {
            region: Region::Anon,
            pfn_after: Some(0x3a2b),
            ..read(FaultKind::ZeroRead)
        },
        of(FaultKind::ZeroFill),
        Fault {
            pfn_before: Some(0x5678),
            ..of(FaultKind::CowReuse)
        },
        Fault {
            pfn_before: Some(0x3a2b),
            region: Region::Anon,
            ..of(FaultKind::CowZero)
        },
        Fault {
            addr: Address(0x7f12_a002_8010),
            access: Access::Exec,
            region: Region::Lib,
            part: Some(Part::Text),
            file: library.clone(),
            offset: Some(0x28000),
            ..of(FaultKind::FileMap)
        },
        Fault {
            region: Region::File,
            file: data,
            offset: Some(0),
            counted: Some(Counted::Major),
            ..read(FaultKind::FileRead)
        },
        Fault {
            mode: Mode::Kernel,
            region: Region::Lib,
            part: Some(Part::Data),
            file: library,
            offset: Some(0x1d_2000),
            ..of(FaultKind::FileCow)
        },
        Fault {
            region: Region::Shm,
            file: shm.clone(),
            offset: Some(0),
            pfn_before: Some(0x5678),
            ..of(FaultKind::SharedWrite)
        },
        Fault {
            region: Region::Shm,
            file: shm,
            offset: Some(4096),
            ..of(FaultKind::ShmFill)
        },
        Fault {
            region: Region::Stack,
            late: 1_500_000,
            ..of(FaultKind::SwapIn)
        },
        Fault {
            addr: Address(0),
            region: Region::Unmapped,
            pfn_after: None,
            counted: None,
            signal: Some(11),
            ..of(FaultKind::Invalid)
        },
        Fault {
            region: Region::File,
            pfn_after: None,
            counted: None,
            signal: Some(7),
            ..read(FaultKind::Invalid)
        },
        Fault {
            region: Region::Vdso,
            ..read(FaultKind::SpecialMap)
        },
        Fault {
            region: Region::Anon,
            pfn_before: Some(0x5678),
            ..of(FaultKind::UffdWp)
        },
        Fault {
            region: Region::ThreadStack,
            pfn_before: Some(0x5678),
            counted: None,
            ..of(FaultKind::Spurious)
        },
        Fault {
            region: Region::Unknown,
            page_size: 2 << 20,
            pfn_before: Some(0x1200),
            pfn_after: None,
            counted: None,
            detail: Some("taken away again".into()),
            ..of(FaultKind::Other)
        },
    ]
}

/// A copy of a page that a fork left shared with one other.
pub(in crate::output) fn by_fork() -> Cause {
    Cause {
        cause: CowCause::Fork,
        fork: Some(ForkRef {
            number: 3,
            parent: 1234,
            child: 1235,
            ago: 1_249_000,
        }),
        sharers: vec![1234],
        sharer_count: 1,
        map_count: Some(2),
    }
}

/// Every cause, and each way it can be told.
fn causes() -> [Cause; 8] {
    let of = |cause, map_count| Cause {
        cause,
        fork: None,
        sharers: Vec::new(),
        sharer_count: 0,
        map_count,
    };
    [
        by_fork(),
        Cause {
            sharers: (1300..1316).collect(),
            sharer_count: 40,
            map_count: Some(45),
            ..by_fork()
        },
        of(CowCause::ForkBefore, Some(2)),
        Cause {
            fork: by_fork().fork,
            ..of(CowCause::Reference, Some(1))
        },
        of(CowCause::Reference, None),
        of(CowCause::PageCache, Some(7)),
        of(CowCause::Ksm, Some(3)),
        of(CowCause::Unknown, None),
    ]
}

/// Neighbouring pages of the heap from a number on, a microsecond apart.
pub(in crate::output) fn copies(pages: impl Iterator<Item = u64>) -> Vec<Event> {
    let copy = |(at, page): (u64, u64)| {
        let fault = Fault {
            addr: Address(0x55d0_c3a0_0000 + page * 4096 + 8),
            kind: FaultKind::CowCopy,
            pfn_before: Some(0x1000 + page),
            pfn_after: Some(0x9000 - 3 * page),
            ..fault()
        };
        event(2000 + at, 1235, EventKind::Fault(fault))
    };
    (0..).zip(pages).map(copy).collect()
}
