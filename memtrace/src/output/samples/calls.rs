//! Calls that change an address space.

use super::names;
use crate::trace::event::{
    Address, Brk, By, EventKind, Lock, Madvise, Mmap, Mprotect, Mremap, Range, Region,
    RemapFilePages, Returned, Shmat, Shmdt,
};

const HEAP: Address = Address(0x55d0_c3a0_0000);
const GROWN: Address = Address(HEAP.0 + (132 << 10));
const PLACE: Address = Address(0x7f12_a000_0000);
const MIB: u64 = 1 << 20;

/// Every call, and each way it can go.
pub(super) fn calls() -> Vec<EventKind> {
    let mut calls = mmaps();
    let brk = |old, new| EventKind::Brk(Brk { old, new });
    calls.extend([brk(HEAP, HEAP), brk(HEAP, GROWN), brk(GROWN, HEAP)]);
    let mprotect = |len, prot, ret| {
        let prot = names(prot);
        EventKind::Mprotect(Mprotect {
            addr: PLACE,
            len,
            prot,
            call: None,
            pkey: None,
            ret,
        })
    };
    calls.push(mprotect(8192, &["PROT_READ"], 0));
    calls.push(mprotect(
        100,
        &["PROT_READ", "PROT_WRITE", "PROT_EXEC"],
        -13,
    ));
    let mremap = |len, flags, ret| {
        let (old_len, flags) = (2 * MIB, names(flags));
        EventKind::Mremap(Mremap {
            addr: PLACE,
            old_len,
            len,
            flags,
            ret,
        })
    };
    let elsewhere = Returned::Address(Address(0x7f13_0000_0000));
    calls.push(mremap(4 * MIB, &["MREMAP_MAYMOVE"], elsewhere));
    calls.push(mremap(MIB, &[], Returned::Address(PLACE)));
    calls.push(mremap(4 * MIB, &[], Returned::Error(-12)));
    let madvise = |advice: &str, ret| {
        let advice = advice.into();
        EventKind::Madvise(Madvise {
            addr: PLACE,
            len: 65536,
            advice,
            call: None,
            process: None,
            ret,
        })
    };
    calls.push(madvise("MADV_DONTNEED", 0));
    calls.push(madvise("99", -22));
    calls.push(EventKind::Munmap(Range {
        addr: PLACE,
        len: 2 * MIB,
        ret: 0,
    }));
    calls.extend(of_one_range());
    calls.extend(segments());
    calls.extend(locks());
    calls
}

/// Less usual ones on a range.
fn of_one_range() -> Vec<EventKind> {
    let keyed = Mprotect {
        addr: PLACE,
        len: 8192,
        prot: names(&["PROT_READ", "PROT_WRITE"]),
        call: Some("pkey_mprotect".into()),
        pkey: Some(1),
        ret: 0,
    };
    let of_another = Madvise {
        addr: PLACE,
        len: 65536,
        advice: "MADV_PAGEOUT".into(),
        call: Some("process_madvise".into()),
        process: Some(1235),
        ret: 0,
    };
    let of_nobody = Madvise {
        process: None,
        ret: -3,
        ..of_another.clone()
    };
    let guarded = Madvise {
        advice: "MADV_GUARD_INSTALL".into(),
        call: None,
        process: None,
        ..of_another.clone()
    };
    let remapped = RemapFilePages {
        addr: PLACE,
        len: 8192,
        offset: MIB,
        flags: names(&["MAP_NONBLOCK"]),
        ret: 0,
    };
    vec![
        EventKind::Mprotect(keyed),
        EventKind::Madvise(of_another),
        EventKind::Madvise(of_nobody),
        EventKind::Madvise(guarded),
        EventKind::RemapFilePages(remapped),
        EventKind::Mseal(Range {
            addr: PLACE,
            len: 8192,
            ret: 0,
        }),
    ]
}

/// System V shared memory.
fn segments() -> [EventKind; 4] {
    let attached = Shmat {
        addr: PLACE,
        len: Some(MIB),
        id: 32771,
        flags: names(&["SHM_RDONLY"]),
        ret: Returned::Address(PLACE),
    };
    let refused = Shmat {
        addr: Address(0),
        len: None,
        id: 0,
        flags: Vec::new(),
        ret: Returned::Error(-13),
    };
    let detached = Shmdt {
        addr: PLACE,
        len: Some(MIB),
        ret: 0,
    };
    let not_attached = Shmdt {
        len: None,
        ret: -22,
        ..detached
    };
    [
        EventKind::Shmat(attached),
        EventKind::Shmat(refused),
        EventKind::Shmdt(detached),
        EventKind::Shmdt(not_attached),
    ]
}

fn locks() -> [EventKind; 4] {
    let locked = Lock {
        call: "mlock2".into(),
        addr: Some(PLACE),
        len: Some(MIB),
        flags: names(&["MLOCK_ONFAULT"]),
        ret: 0,
    };
    let all_locked = Lock {
        call: "mlockall".into(),
        addr: None,
        len: None,
        flags: names(&["MCL_CURRENT", "MCL_FUTURE"]),
        ret: -12,
    };
    let unlocked = Lock {
        call: "munlock".into(),
        flags: Vec::new(),
        ..locked.clone()
    };
    let all_unlocked = Lock {
        call: "munlockall".into(),
        flags: Vec::new(),
        ret: 0,
        ..all_locked.clone()
    };
    [
        EventKind::Mlock(locked),
        EventKind::Mlock(all_locked),
        EventKind::Munlock(unlocked),
        EventKind::Munlock(all_unlocked),
    ]
}

fn mmaps() -> Vec<EventKind> {
    let text = Address(0x40_0000);
    let by_exec = Mmap {
        addr: text,
        len: 24 << 10,
        prot: names(&["PROT_READ", "PROT_EXEC"]),
        flags: names(&["MAP_PRIVATE"]),
        file: Some("/home/ann/fork-write".into()),
        offset: Some(0x1000),
        ret: Returned::Address(text),
        by: By::Exec,
        region: Some(Region::Text),
        resident: None,
        private: None,
    };
    let by_call = Mmap {
        addr: PLACE,
        len: 2 * MIB,
        prot: names(&["PROT_READ", "PROT_WRITE"]),
        flags: names(&["MAP_PRIVATE", "MAP_ANONYMOUS"]),
        file: None,
        offset: None,
        ret: Returned::Address(PLACE),
        by: By::Call,
        region: None,
        resident: None,
        private: None,
    };
    let stack = Mmap {
        by: By::Exec,
        region: Some(Region::Stack),
        ..by_call.clone()
    };
    let shared = Mmap {
        prot: names(&["PROT_READ"]),
        flags: names(&["MAP_SHARED"]),
        file: Some("/tmp/a b\x1b[31m".into()),
        offset: Some(0),
        ..by_call.clone()
    };
    let failed = Mmap {
        addr: Address(0),
        len: 1 << 50,
        prot: Vec::new(),
        ret: Returned::Error(-12),
        ..by_call.clone()
    };
    let at_attach = Mmap {
        by: By::Attach,
        region: Some(Region::Data),
        resident: Some(6),
        private: Some(5),
        ..by_exec.clone()
    };
    let clean = Mmap {
        private: Some(0),
        ..at_attach.clone()
    };
    let untouched = Mmap {
        resident: Some(0),
        ..clean.clone()
    };
    [
        by_exec, stack, by_call, shared, failed, at_attach, clean, untouched,
    ]
    .map(EventKind::Mmap)
    .into()
}
