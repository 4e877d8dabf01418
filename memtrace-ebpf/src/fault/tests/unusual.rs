//! Pages that userfaultfd has a hand in, and those of which too little is known.

use super::*;

/// Missing pages that a handler of userfaultfd supplies.
pub(super) fn supplied() -> Vec<Case> {
    use Backing::{Anonymous, HugeTlb, Shmem};
    let fresh = pte(RW | DIRTY | NEW);
    let supplied = |error, backing, after| Facts {
        uffd_registered: true,
        ..facts(error, backing, Entry::NONE, after)
    };
    vec![
        case(
            Kind::UffdFill,
            supplied(WRITE, Anonymous, fresh),
            &[
                (NOT_UFFD_REGISTERED, Kind::ZeroFill),
                (OVER_ANOTHER, Kind::CowCopy),
                (OVER_ITSELF, Kind::CowReuse),
                (PRIVATE_FILE, Kind::FileCow),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::UffdFill,
            FRESH(supplied(WRITE, HugeTlb, pmd(RW | DIRTY | NEW))),
            &[(NOT_UFFD_REGISTERED, Kind::ZeroFill)],
        ),
        // A page that is in the shared memory already is not missing there.
        case(
            Kind::UffdFill,
            FRESH(supplied(WRITE, Shmem, fresh)),
            &[
                (NOT_MORE, Kind::SharedWrite),
                (NOT_UFFD_REGISTERED, Kind::ShmFill),
            ],
        ),
    ]
}

/// Pages that userfaultfd has protected.
pub(super) fn uffd_wp() -> Vec<Case> {
    let protected = pte(RO | DIRTY | UFFD_WP | OLD);
    let uffd_wp = |backing| Facts {
        uffd_wp: true,
        ..facts(WRITE, backing, protected, pte(RW | DIRTY | OLD))
    };
    vec![
        case(
            Kind::UffdWp,
            uffd_wp(Backing::Anonymous),
            &[
                (NOT_UFFD_WP, Kind::CowReuse),
                (UNMARKED, Kind::CowReuse),
                // A fork had left it shared, too.
                (TO_NEW, Kind::CowCopy),
                (UNCHANGED, Kind::Spurious),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::UffdWp,
            uffd_wp(Backing::Shmem),
            &[(NOT_UFFD_WP, Kind::SharedWrite)],
        ),
    ]
}

/// Faults whose entry after could not be read any more.
pub(super) fn unseen() -> Vec<Case> {
    let left = |before| Facts {
        left: true,
        shared_frame: true,
        ..facts(WRITE, Backing::Anonymous, before, Entry::NONE)
    };
    vec![
        case(
            Kind::CowCopy,
            left(pte(RO | OLD)),
            &[
                (OF_ONE, Kind::Other),
                (IS_NOT_COUNTED, Kind::Other),
                (READS, Kind::Other),
                (SHMEM, Kind::Other),
                (OVER_NOTHING, Kind::ZeroFill),
                (OVER_ZERO, Kind::CowZero),
                (OVER_SWAP, Kind::SwapIn),
                (OVER_MARKER, Kind::Other),
                (OVER_PROT_NONE, Kind::NumaHint),
                (WRITABLE_BEFORE, Kind::Other),
                (SEEN, Kind::Other),
                (SIGNALLED, Kind::Invalid),
            ],
        ),
        case(
            Kind::CowCopy,
            Facts {
                backing: Backing::PrivateFile,
                ..left(pte(RO | OLD))
            },
            &[(OF_ONE, Kind::Other)],
        ),
        // The name of a program, in the old one's file: its exec leaves that.
        case(
            Kind::FileMap,
            Facts {
                error: READ,
                backing: Backing::PrivateFile,
                ..left(Entry::NONE)
            },
            &[
                (IS_MAJOR, Kind::FileRead),
                (WRITES, Kind::FileCow),
                (IS_NOT_COUNTED, Kind::Other),
                (SPECIAL, Kind::SpecialMap),
                // A frame of zeros, or one that was there: which of them isn't known.
                (ANONYMOUS, Kind::Other),
                (SHMEM, Kind::Other),
                (HUGETLB, Kind::Other),
                (UNKNOWN, Kind::Other),
            ],
        ),
        case(
            Kind::SharedWrite,
            Facts {
                backing: Backing::SharedFile,
                ..left(Entry::NONE)
            },
            &[(IS_MAJOR, Kind::Other), (READS, Kind::FileMap)],
        ),
    ]
}
