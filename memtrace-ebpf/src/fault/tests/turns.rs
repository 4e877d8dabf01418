//! Facts that change.

use super::*;

/// A fact that changes.
pub(super) type Turn = fn(Facts) -> Facts;

pub(super) const READS: Turn = |f| Facts { error: READ, ..f };
pub(super) const WRITES: Turn = |f| Facts { error: WRITE, ..f };
pub(super) const FETCHES: Turn = |f| Facts {
    error: READ | error_code::FETCH,
    ..f
};
pub(super) const IS_MAJOR: Turn = |f| Facts { major: true, ..f };
pub(super) const IS_MINOR: Turn = |f| Facts { major: false, ..f };
pub(super) const IS_NOT_COUNTED: Turn = |f| Facts {
    counted: false,
    ..f
};

pub(super) fn pages(f: Facts, grew: bool, fresh: bool) -> Facts {
    Facts { grew, fresh, ..f }
}
pub(super) const FRESH: Turn = |f| pages(f, true, true);
/// As much came into memory as there was before in swap.
pub(super) const CAME_BACK: Turn = |f| pages(f, true, false);
pub(super) const NOT_MORE: Turn = |f| pages(f, false, false);

pub(super) fn uffd_registered(f: Facts, uffd_registered: bool) -> Facts {
    Facts {
        uffd_registered,
        ..f
    }
}
pub(super) const UFFD_REGISTERED: Turn = |f| uffd_registered(f, true);
pub(super) const NOT_UFFD_REGISTERED: Turn = |f| uffd_registered(f, false);
pub(super) const SIGNALLED: Turn = |f| Facts { signal: true, ..f };
pub(super) const NOT_SIGNALLED: Turn = |f| Facts { signal: false, ..f };
pub(super) const GONE_AGAIN: Turn = |f| mapped(&f, f.before, Entry::NONE);
pub(super) const UNCHANGED: Turn = |f| mapped(&f, f.before, f.before);
pub(super) const OVER_NOTHING: Turn = |f| mapped(&f, Entry::NONE, f.after);
pub(super) const OVER_ZERO: Turn = |f| mapped(&f, pte(RO | ZERO), f.after);
pub(super) const OVER_ANOTHER: Turn = |f| mapped(&f, pte(RO | OLD), f.after);
pub(super) const OVER_ITSELF: Turn = |f| mapped(&f, pte(f.after.bits & !0b10), f.after);
pub(super) const OVER_SWAP: Turn = |f| mapped(&f, pte(SWAPPED), f.after);
pub(super) const OVER_MARKER: Turn = |f| mapped(&f, pte(swapped(30)), f.after);
pub(super) const OVER_PROT_NONE: Turn = |f| mapped(&f, pte(prot_none(NEW)), f.after);
pub(super) const TO_ZERO: Turn = |f| mapped(&f, f.before, pte(RO | ZERO));
pub(super) const TO_NEW: Turn = |f| mapped(&f, f.before, pte(RW | DIRTY | NEW));
pub(super) const TO_DIRTY_HUGE: Turn = |f| mapped(&f, f.before, pmd(RW | DIRTY | NEW));

pub(super) fn backed(f: Facts, backing: Backing) -> Facts {
    Facts { backing, ..f }
}
pub(super) const ANONYMOUS: Turn = |f| backed(f, Backing::Anonymous);
pub(super) const HUGETLB: Turn = |f| backed(f, Backing::HugeTlb);
pub(super) const PRIVATE_FILE: Turn = |f| backed(f, Backing::PrivateFile);
pub(super) const SHARED_FILE: Turn = |f| backed(f, Backing::SharedFile);
pub(super) const SHMEM: Turn = |f| backed(f, Backing::Shmem);
pub(super) const SPECIAL: Turn = |f| backed(f, Backing::Special);
pub(super) const UNKNOWN: Turn = |f| backed(f, Backing::Unknown);

pub(super) const NOT_UFFD_WP: Turn = |f| Facts {
    uffd_wp: false,
    ..f
};
pub(super) const WRITABLE_BEFORE: Turn = |f| mapped(&f, pte(RW | DIRTY | OLD), f.after);
pub(super) const UNMARKED: Turn = |f| mapped(&f, pte(f.before.bits & !UFFD_WP), f.after);
pub(super) const SEEN: Turn = |f| Facts { left: false, ..f };
pub(super) const OF_ONE: Turn = |f| Facts {
    shared_frame: false,
    ..f
};
