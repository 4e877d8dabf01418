//! Each kind of fault from its facts, and from which facts it turns into another.

extern crate std;

use std::{vec, vec::Vec};

use super::*;
use crate::{
    arch::sample::{DIRTY, READ_ONLY as RO, UFFD_WP, WRITABLE as RW, huge, prot_none, swapped},
    pte::Level,
};

mod turns;
mod unusual;
use turns::*;

const READ: u8 = error_code::USER;
const WRITE: u8 = error_code::USER | error_code::WRITE;
/// Frames, as an entry holds them.
const ZERO: u64 = 0x7000;
const OLD: u64 = 0x20_0000;
const NEW: u64 = 0x40_0000;
/// A swapped page's entry.
const SWAPPED: u64 = swapped(0);

fn pte(bits: u64) -> Entry {
    Entry {
        bits,
        level: Level::Pte,
    }
}

fn pmd(bits: u64) -> Entry {
    Entry {
        bits: huge(bits),
        level: Level::Pmd,
    }
}

/// The facts of a fault that the kernel counted as minor.
fn facts(error: u8, backing: Backing, before: Entry, after: Entry) -> Facts {
    let zero = Some(ZERO / crate::pte::PAGE_SIZE);
    Facts {
        error,
        before,
        after,
        same_frame: before.pfn(0) == after.pfn(0),
        zero_before: before.pfn(0) == zero,
        zero_after: after.pfn(0) == zero,
        counted: true,
        major: false,
        signal: false,
        backing,
        grew: false,
        fresh: false,
        uffd_registered: false,
        uffd_wp: false,
        left: false,
        shared_frame: false,
    }
}

/// The same fault with other entries.
fn mapped(f: &Facts, before: Entry, after: Entry) -> Facts {
    Facts {
        counted: f.counted,
        major: f.major,
        signal: f.signal,
        grew: f.grew,
        fresh: f.fresh,
        uffd_registered: f.uffd_registered,
        uffd_wp: f.uffd_wp,
        left: f.left,
        shared_frame: f.shared_frame,
        ..facts(f.error, f.backing, before, after)
    }
}

/// A fault, its kind, and what it would be if one fact were another.
#[derive(Clone)]
struct Case {
    kind: Kind,
    facts: Facts,
    turns: Vec<(Turn, Kind)>,
}

fn case(kind: Kind, facts: Facts, turns: &[(Turn, Kind)]) -> Case {
    Case {
        kind,
        facts,
        turns: turns.to_vec(),
    }
}

/// First faults at anonymous memory.
fn untouched() -> Vec<Case> {
    use Backing::Anonymous;
    let none = Entry::NONE;
    let fresh = pte(RW | DIRTY | NEW);
    vec![
        case(
            Kind::ZeroRead,
            facts(READ, Anonymous, none, pte(RO | ZERO)),
            &[
                (TO_NEW, Kind::ZeroFill),
                (SIGNALLED, Kind::Invalid),
                (GONE_AGAIN, Kind::Other),
                (UFFD_REGISTERED, Kind::UffdFill),
                (PRIVATE_FILE, Kind::FileMap),
                (UNKNOWN, Kind::Other),
                (OVER_SWAP, Kind::SwapIn),
            ],
        ),
        case(
            Kind::ZeroRead,
            facts(READ, Anonymous, none, pmd(RO | OLD)),
            &[
                (WRITES, Kind::ZeroFill),
                (TO_DIRTY_HUGE, Kind::ZeroFill),
                (HUGETLB, Kind::FileMap),
            ],
        ),
        case(
            Kind::ZeroFill,
            facts(WRITE, Anonymous, none, fresh),
            &[
                (TO_ZERO, Kind::ZeroRead),
                (OVER_ZERO, Kind::CowZero),
                (OVER_ANOTHER, Kind::CowCopy),
                (OVER_ITSELF, Kind::CowReuse),
                (OVER_SWAP, Kind::SwapIn),
                (PRIVATE_FILE, Kind::FileCow),
                (HUGETLB, Kind::FileCow),
                (SPECIAL, Kind::SpecialMap),
            ],
        ),
    ]
}

/// Faults at pages that are there already, or were.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn remapped_or_back() -> Vec<Case> {
    use Backing::{Anonymous, SharedFile, Shmem};
    let none = Entry::NONE;
    let (protected, writable) = (pte(RO | OLD), pte(RW | DIRTY | OLD));
    let fresh = pte(RW | DIRTY | NEW);
    vec![
        case(
            Kind::CowCopy,
            facts(WRITE, Anonymous, protected, fresh),
            &[
                (OVER_ZERO, Kind::CowZero),
                (OVER_ITSELF, Kind::CowReuse),
                (OVER_NOTHING, Kind::ZeroFill),
                (READS, Kind::Other),
                (SHMEM, Kind::Other),
                (SHARED_FILE, Kind::Other),
                (UNCHANGED, Kind::Spurious),
                (SIGNALLED, Kind::Invalid),
                (GONE_AGAIN, Kind::Other),
            ],
        ),
        // A forked huge page that is written is split first.
        case(
            Kind::CowCopy,
            facts(WRITE, Anonymous, pmd(RO | DIRTY | OLD), fresh),
            &[(OVER_NOTHING, Kind::ZeroFill), (READS, Kind::Other)],
        ),
        case(
            Kind::CowReuse,
            facts(WRITE, Anonymous, protected, writable),
            &[
                (TO_NEW, Kind::CowCopy),
                (SHARED_FILE, Kind::SharedWrite),
                (SHMEM, Kind::SharedWrite),
                (READS, Kind::Other),
                (UNCHANGED, Kind::Spurious),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::CowReuse,
            facts(
                WRITE,
                Anonymous,
                pmd(RO | DIRTY | OLD),
                pmd(RW | DIRTY | OLD),
            ),
            &[(TO_NEW, Kind::CowCopy), (UNCHANGED, Kind::Spurious)],
        ),
        case(
            Kind::CowZero,
            facts(WRITE, Anonymous, pmd(RO | OLD), pmd(RW | DIRTY | NEW)),
            &[
                (HUGETLB, Kind::CowCopy),
                (PRIVATE_FILE, Kind::CowCopy),
                (READS, Kind::Other),
            ],
        ),
        case(
            Kind::CowZero,
            facts(WRITE, Anonymous, pte(RO | ZERO), fresh),
            &[
                (OVER_ANOTHER, Kind::CowCopy),
                (OVER_NOTHING, Kind::ZeroFill),
                (UNCHANGED, Kind::Spurious),
                (READS, Kind::Other),
            ],
        ),
        case(
            Kind::SharedWrite,
            facts(WRITE, SharedFile, protected, writable),
            &[
                (PRIVATE_FILE, Kind::CowReuse),
                (READS, Kind::Other),
                (UNCHANGED, Kind::Spurious),
                (TO_NEW, Kind::Other),
            ],
        ),
        case(
            Kind::SwapIn,
            facts(READ, Anonymous, pte(SWAPPED), fresh),
            &[
                (IS_NOT_COUNTED, Kind::Other),
                (OVER_NOTHING, Kind::ZeroFill),
                (OVER_MARKER, Kind::Other),
                (OVER_PROT_NONE, Kind::NumaHint),
                (GONE_AGAIN, Kind::Other),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::NumaHint,
            facts(READ, Anonymous, pte(prot_none(OLD)), pte(RO | OLD)),
            &[
                (IS_NOT_COUNTED, Kind::Other),
                (OVER_NOTHING, Kind::ZeroFill),
                (OVER_SWAP, Kind::SwapIn),
                (GONE_AGAIN, Kind::Other),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::SwapIn,
            IS_MAJOR(facts(READ, Shmem, none, pte(RO | NEW))),
            &[
                (IS_MINOR, Kind::FileMap),
                (FRESH, Kind::ShmFill),
                (SHARED_FILE, Kind::FileRead),
            ],
        ),
        case(
            Kind::Spurious,
            facts(READ, Anonymous, protected, protected),
            &[
                (TO_NEW, Kind::Other),
                (SIGNALLED, Kind::Invalid),
                (OVER_NOTHING, Kind::ZeroFill),
            ],
        ),
    ]
}

/// Faults at files and shared memory, and those that come to nothing.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn mappings() -> Vec<Case> {
    use Backing::{Anonymous, PrivateFile, SharedFile, Shmem, Special};
    let none = Entry::NONE;
    let (page, written) = (pte(RO | NEW), pte(RW | DIRTY | NEW));
    vec![
        case(
            Kind::FileMap,
            facts(READ, PrivateFile, none, page),
            &[
                (IS_MAJOR, Kind::FileRead),
                (WRITES, Kind::FileCow),
                (ANONYMOUS, Kind::ZeroFill),
                (SPECIAL, Kind::SpecialMap),
                (UNKNOWN, Kind::Other),
                (OVER_PROT_NONE, Kind::NumaHint),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::FileMap,
            facts(READ, Shmem, none, page),
            &[
                (FRESH, Kind::ShmFill),
                (CAME_BACK, Kind::SwapIn),
                (WRITES, Kind::SharedWrite),
                (IS_MAJOR, Kind::SwapIn),
            ],
        ),
        case(
            Kind::FileRead,
            Facts {
                major: true,
                ..facts(READ, PrivateFile, none, page)
            },
            &[
                (IS_MINOR, Kind::FileMap),
                (WRITES, Kind::FileCow),
                (SHMEM, Kind::SwapIn),
            ],
        ),
        case(
            Kind::FileRead,
            Facts {
                major: true,
                grew: true,
                ..facts(WRITE, SharedFile, none, written)
            },
            &[
                (IS_MINOR, Kind::SharedWrite),
                (NOT_MORE, Kind::SharedWrite),
                (PRIVATE_FILE, Kind::FileCow),
            ],
        ),
        case(
            Kind::FileCow,
            facts(WRITE, PrivateFile, none, written),
            &[
                (READS, Kind::FileMap),
                (FETCHES, Kind::FileMap),
                (SHARED_FILE, Kind::SharedWrite),
                (ANONYMOUS, Kind::ZeroFill),
                (OVER_ANOTHER, Kind::CowCopy),
            ],
        ),
        case(
            Kind::Other,
            facts(READ, Backing::Unknown, none, page),
            &[(PRIVATE_FILE, Kind::FileMap), (SPECIAL, Kind::SpecialMap)],
        ),
        case(
            Kind::SharedWrite,
            facts(WRITE, SharedFile, none, written),
            &[(READS, Kind::FileMap), (PRIVATE_FILE, Kind::FileCow)],
        ),
        // What was repeated once it was done.
        case(
            Kind::SharedWrite,
            IS_MAJOR(facts(WRITE, Shmem, none, written)),
            &[(READS, Kind::SwapIn), (CAME_BACK, Kind::SwapIn)],
        ),
        case(
            Kind::ShmFill,
            FRESH(facts(WRITE, Shmem, none, written)),
            &[
                (NOT_MORE, Kind::SharedWrite),
                (CAME_BACK, Kind::SwapIn),
                (ANONYMOUS, Kind::ZeroFill),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::Invalid,
            Facts {
                signal: true,
                ..facts(WRITE, Anonymous, none, none)
            },
            &[(NOT_SIGNALLED, Kind::Other)],
        ),
        case(
            Kind::SpecialMap,
            facts(READ, Special, none, page),
            &[
                (UNKNOWN, Kind::Other),
                (GONE_AGAIN, Kind::Other),
                (PRIVATE_FILE, Kind::FileMap),
                (ANONYMOUS, Kind::ZeroFill),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
    ]
}

#[test]
fn each_kind_follows_from_its_facts() {
    let cases = [
        untouched(),
        unusual::supplied(),
        unusual::uffd_wp(),
        unusual::unseen(),
        remapped_or_back(),
        mappings(),
    ]
    .concat();
    let mut reached = [false; Kind::COUNT];
    for (at, case) in cases.iter().enumerate() {
        let (expected, facts) = (case.kind, &case.facts);
        assert_eq!(kind(facts), expected, "case {at}: {facts:?}");
        reached[expected as usize] = true;
        for (turn_at, (turn, other)) in case.turns.iter().enumerate() {
            let turned = turn(*facts);
            assert_ne!(*other, expected, "case {at} turn {turn_at} turns nothing");
            assert_eq!(
                kind(&turned),
                *other,
                "case {at} turn {turn_at}: {turned:?}"
            );
        }
    }
    for (kind, reached) in Kind::ALL.iter().zip(reached) {
        assert!(reached, "no case is {}", kind.name());
    }
}

#[test]
fn numbers_and_names_agree() {
    for (number, kind) in Kind::ALL.iter().enumerate() {
        assert_eq!(*kind as usize, number);
        let same = Kind::ALL.iter().filter(|other| other.name() == kind.name());
        assert_eq!(same.count(), 1, "{}", kind.name());
    }
}

#[test]
fn backings_follow_from_the_vma() {
    let of = Backing::of;
    assert_eq!(of(vm::READ, false, false, false), Backing::Anonymous);
    // A private mapping of /dev/zero: a file, but no operations.
    assert_eq!(of(vm::WRITE, false, true, false), Backing::Anonymous);
    assert_eq!(of(vm::READ, true, true, false), Backing::PrivateFile);
    // Private memory of a memfd copies like that of any file.
    assert_eq!(of(vm::READ, true, true, true), Backing::PrivateFile);
    assert_eq!(of(vm::MAYSHARE, true, true, false), Backing::SharedFile);
    assert_eq!(of(vm::MAYSHARE, true, true, true), Backing::Shmem);
    assert_eq!(of(vm::READ, true, false, false), Backing::Special);
    let device = vm::MAYSHARE | vm::PFNMAP;
    assert_eq!(of(device, true, true, false), Backing::Special);
    // Pages of hugetlbfs come zeroed from its pool, whatever the file.
    assert_eq!(of(vm::HUGETLB, true, true, false), Backing::HugeTlb);
    let shared = vm::HUGETLB | vm::MAYSHARE;
    assert_eq!(of(shared, true, true, false), Backing::Shmem);
}
