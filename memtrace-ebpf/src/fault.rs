//! What kind of fault it was: the one place that decides it.

use crate::pte::Entry;

/// What the kernel did about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A read of untouched anonymous memory mapped the shared zero page.
    ZeroRead = 0,
    /// Untouched anonymous memory got a fresh zeroed frame.
    ZeroFill = 1,
    /// A write to a present, write-protected private page got another frame, with the old contents.
    CowCopy = 2,
    /// The same frame was made writable, nothing was copied.
    CowReuse = 3,
    /// A write over the zero page got a fresh zeroed frame.
    CowZero = 4,
    /// A page that was in the page cache was mapped.
    FileMap = 5,
    /// A page had to be read from the file first.
    FileRead = 6,
    /// The first write to a private file page that was not mapped.
    FileCow = 7,
    /// A page of a shared file or of shared memory became writable.
    SharedWrite = 8,
    /// A fresh page of shared memory.
    ShmFill = 9,
    /// A page came back from swap.
    SwapIn = 10,
    /// It ended in SIGSEGV or SIGBUS.
    Invalid = 11,
    /// Nothing changed.
    Spurious = 12,
    /// None of these; what is known is shown.
    Other = 13,
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = 14;

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::ZeroRead,
        Self::ZeroFill,
        Self::CowCopy,
        Self::CowReuse,
        Self::CowZero,
        Self::FileMap,
        Self::FileRead,
        Self::FileCow,
        Self::SharedWrite,
        Self::ShmFill,
        Self::SwapIn,
        Self::Invalid,
        Self::Spurious,
        Self::Other,
    ];

    /// Its name in the output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZeroRead => "zero-read",
            Self::ZeroFill => "zero-fill",
            Self::CowCopy => "cow-copy",
            Self::CowReuse => "cow-reuse",
            Self::CowZero => "cow-zero",
            Self::FileMap => "file-map",
            Self::FileRead => "file-read",
            Self::FileCow => "file-cow",
            Self::SharedWrite => "shared-write",
            Self::ShmFill => "shm-fill",
            Self::SwapIn => "swap-in",
            Self::Invalid => "invalid",
            Self::Spurious => "spurious",
            Self::Other => "other",
        }
    }
}

/// Bits of the exception's error code (`arch/x86/include/asm/trap_pf.h`).
pub mod error_code {
    /// The access was a write.
    pub const WRITE: u8 = 1 << 1;
    /// It came from user mode.
    pub const USER: u8 = 1 << 2;
    /// It was an instruction fetch.
    pub const FETCH: u8 = 1 << 4;
}

/// `VM_*` flags (`include/linux/mm.h`).
#[allow(missing_docs, reason = "each is the kernel's flag of its name")]
pub mod vm {
    pub const READ: u64 = 0x1;
    pub const WRITE: u64 = 0x2;
    pub const EXEC: u64 = 0x4;
    pub const SHARED: u64 = 0x8;
    pub const GROWSDOWN: u64 = 0x100;
    pub const PFNMAP: u64 = 0x400;
    pub const HUGETLB: u64 = 0x0040_0000;
    pub const MIXEDMAP: u64 = 0x1000_0000;
}

/// What backs the memory that a fault fell into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory.
    Anonymous,
    /// A private mapping of a file.
    PrivateFile,
    /// A shared mapping of a file.
    SharedFile,
    /// Shared memory: a shared mapping of a file that lives in memory.
    Shmem,
    /// Pages of the kernel or of a device: the vdso and its data.
    Special,
    /// Not known.
    Unknown,
}

impl Backing {
    /// The backing of a VMA with these `VM_*` flags.
    #[inline(always)]
    pub const fn of(flags: u64, has_ops: bool, has_file: bool, shmem: bool) -> Self {
        if flags & vm::HUGETLB != 0 {
            return if flags & vm::SHARED != 0 {
                Self::Shmem
            } else {
                Self::Anonymous
            };
        }
        if !has_ops {
            return Self::Anonymous;
        }
        if !has_file || flags & vm::PFNMAP != 0 {
            return Self::Special;
        }
        match (flags & vm::SHARED != 0, shmem) {
            (true, true) => Self::Shmem,
            (true, false) => Self::SharedFile,
            (false, _) => Self::PrivateFile,
        }
    }
}

/// All that the kind of a fault follows from.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The exception's error code.
    pub error: u8,
    /// The page-table entry at the exception.
    pub before: Entry,
    /// The page-table entry once it was over.
    pub after: Entry,
    /// Whether both map the same frame.
    pub same_frame: bool,
    /// Whether the entry before mapped the zero page.
    pub zero_before: bool,
    /// Whether the entry after maps the zero page.
    pub zero_after: bool,
    /// Whether the kernel counted it at all.
    pub counted: bool,
    /// Whether it counted it as major.
    pub major: bool,
    /// Whether SIGSEGV or SIGBUS followed.
    pub signal: bool,
    /// What backs the memory.
    pub backing: Backing,
    /// Whether the shared memory behind it has more pages than before.
    pub grew: bool,
}

/// The kind of a fault.
#[inline(always)]
pub fn kind(f: &Facts) -> Kind {
    if f.signal {
        Kind::Invalid
    } else if !f.after.is_present() {
        // A bad pointer given to a system call, or another thread took the page away again.
        Kind::Other
    } else if f.before.is_present() {
        remapped(f)
    } else if f.before.is_none() {
        filled(f)
    } else if f.before.is_swap() && f.counted {
        Kind::SwapIn
    } else {
        Kind::Other
    }
}

/// The page was there before: what changed about it?
#[inline(always)]
fn remapped(f: &Facts) -> Kind {
    let write = f.error & error_code::WRITE != 0;
    let shared = matches!(f.backing, Backing::SharedFile | Backing::Shmem);
    if f.same_frame {
        if write && !f.before.is_writable() && f.after.is_writable() {
            if shared {
                Kind::SharedWrite
            } else {
                Kind::CowReuse
            }
        } else if f.before.is_writable() == f.after.is_writable() {
            Kind::Spurious
        } else {
            Kind::Other
        }
    } else if !write || shared {
        Kind::Other
    } else if f.zero_before {
        Kind::CowZero
    } else {
        Kind::CowCopy
    }
}

/// Nothing was there: what came?
#[inline(always)]
fn filled(f: &Facts) -> Kind {
    let write = f.error & error_code::WRITE != 0;
    match f.backing {
        Backing::Anonymous => {
            // A huge page that a read maps and that nobody may have written can only be the huge zero page
            // (do_huge_pmd_anonymous_page in mm/huge_memory.c).
            if f.zero_after || f.after.is_huge() && !write && !f.after.is_dirty() {
                Kind::ZeroRead
            } else {
                Kind::ZeroFill
            }
        }
        Backing::Shmem if f.major => Kind::SwapIn,
        Backing::Shmem if f.grew => Kind::ShmFill,
        Backing::PrivateFile if write => Kind::FileCow,
        Backing::PrivateFile | Backing::SharedFile if f.major => Kind::FileRead,
        Backing::SharedFile | Backing::Shmem if write => Kind::SharedWrite,
        Backing::PrivateFile | Backing::SharedFile | Backing::Shmem => Kind::FileMap,
        Backing::Special | Backing::Unknown => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;
    use crate::pte::Level;

    const READ: u8 = error_code::USER;
    const WRITE: u8 = error_code::USER | error_code::WRITE;
    /// Bits of an entry: present; and writable, too.
    const RO: u64 = 0b01;
    const RW: u64 = 0b11;
    const DIRTY: u64 = 1 << 6;
    const HUGE: u64 = 1 << 7;
    const PROT_NONE: u64 = 1 << 8;
    /// Frames, as an entry holds them.
    const ZERO: u64 = 0x7000;
    const OLD: u64 = 0x20_0000;
    const NEW: u64 = 0x40_0000;
    /// A swapped page's entry.
    const SWAPPED: u64 = 0x1234 << 9;

    fn pte(bits: u64) -> Entry {
        Entry {
            bits,
            level: Level::Pte,
        }
    }

    fn pmd(bits: u64) -> Entry {
        Entry {
            bits: bits | HUGE,
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
        }
    }

    /// The same fault with other entries.
    fn mapped(f: &Facts, before: Entry, after: Entry) -> Facts {
        Facts {
            counted: f.counted,
            major: f.major,
            signal: f.signal,
            grew: f.grew,
            ..facts(f.error, f.backing, before, after)
        }
    }

    /// A fact that changes.
    type Turn = fn(Facts) -> Facts;

    const READS: Turn = |f| Facts { error: READ, ..f };
    const WRITES: Turn = |f| Facts { error: WRITE, ..f };
    const FETCHES: Turn = |f| Facts {
        error: READ | error_code::FETCH,
        ..f
    };
    const IS_MAJOR: Turn = |f| Facts { major: true, ..f };
    const IS_MINOR: Turn = |f| Facts { major: false, ..f };
    const IS_NOT_COUNTED: Turn = |f| Facts {
        counted: false,
        ..f
    };
    const GREW: Turn = |f| Facts { grew: true, ..f };
    const GREW_NOT: Turn = |f| Facts { grew: false, ..f };
    const SIGNALLED: Turn = |f| Facts { signal: true, ..f };
    const NOT_SIGNALLED: Turn = |f| Facts { signal: false, ..f };
    const GONE_AGAIN: Turn = |f| mapped(&f, f.before, Entry::NONE);
    const UNCHANGED: Turn = |f| mapped(&f, f.before, f.before);
    const OVER_NOTHING: Turn = |f| mapped(&f, Entry::NONE, f.after);
    const OVER_ZERO: Turn = |f| mapped(&f, pte(RO | ZERO), f.after);
    const OVER_ANOTHER: Turn = |f| mapped(&f, pte(RO | OLD), f.after);
    const OVER_ITSELF: Turn = |f| mapped(&f, pte(f.after.bits & !0b10), f.after);
    const OVER_SWAP: Turn = |f| mapped(&f, pte(SWAPPED), f.after);
    const OVER_PROT_NONE: Turn = |f| mapped(&f, pte(!NEW & 0xf_ffff_f000 | PROT_NONE), f.after);
    const TO_ZERO: Turn = |f| mapped(&f, f.before, pte(RO | ZERO));
    const TO_NEW: Turn = |f| mapped(&f, f.before, pte(RW | DIRTY | NEW));
    const TO_DIRTY_HUGE: Turn = |f| mapped(&f, f.before, pmd(RW | DIRTY | NEW));

    fn backed(f: Facts, backing: Backing) -> Facts {
        Facts { backing, ..f }
    }
    const ANONYMOUS: Turn = |f| backed(f, Backing::Anonymous);
    const PRIVATE_FILE: Turn = |f| backed(f, Backing::PrivateFile);
    const SHARED_FILE: Turn = |f| backed(f, Backing::SharedFile);
    const SHMEM: Turn = |f| backed(f, Backing::Shmem);
    const SPECIAL: Turn = |f| backed(f, Backing::Special);
    const UNKNOWN: Turn = |f| backed(f, Backing::Unknown);

    /// A fault, its kind, and what it would be if one fact were another.
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

    /// Faults at anonymous memory, and those that change what is there.
    fn private() -> Vec<Case> {
        use Backing::{Anonymous, Shmem, SharedFile};
        let none = Entry::NONE;
        let (ro_old, rw_old) = (pte(RO | OLD), pte(RW | DIRTY | OLD));
        let rw_new = pte(RW | DIRTY | NEW);
        vec![
            case(
                Kind::ZeroRead,
                facts(READ, Anonymous, none, pte(RO | ZERO)),
                &[
                    (TO_NEW, Kind::ZeroFill),
                    (SIGNALLED, Kind::Invalid),
                    (GONE_AGAIN, Kind::Other),
                    (PRIVATE_FILE, Kind::FileMap),
                    (UNKNOWN, Kind::Other),
                    (OVER_SWAP, Kind::SwapIn),
                ],
            ),
            case(
                Kind::ZeroRead,
                facts(READ, Anonymous, none, pmd(RO | OLD)),
                &[(WRITES, Kind::ZeroFill), (TO_DIRTY_HUGE, Kind::ZeroFill)],
            ),
            case(
                Kind::ZeroFill,
                facts(WRITE, Anonymous, none, rw_new),
                &[
                    (TO_ZERO, Kind::ZeroRead),
                    (OVER_ZERO, Kind::CowZero),
                    (OVER_ANOTHER, Kind::CowCopy),
                    (OVER_ITSELF, Kind::CowReuse),
                    (OVER_SWAP, Kind::SwapIn),
                    (PRIVATE_FILE, Kind::FileCow),
                    (SPECIAL, Kind::Other),
                ],
            ),
            case(
                Kind::CowCopy,
                facts(WRITE, Anonymous, ro_old, rw_new),
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
                facts(WRITE, Anonymous, pmd(RO | OLD), rw_new),
                &[(OVER_NOTHING, Kind::ZeroFill), (READS, Kind::Other)],
            ),
            case(
                Kind::CowReuse,
                facts(WRITE, Anonymous, ro_old, rw_old),
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
                facts(WRITE, Anonymous, pmd(RO | OLD), pmd(RW | DIRTY | OLD)),
                &[(TO_NEW, Kind::CowCopy), (UNCHANGED, Kind::Spurious)],
            ),
            case(
                Kind::CowZero,
                facts(WRITE, Anonymous, pte(RO | ZERO), rw_new),
                &[
                    (OVER_ANOTHER, Kind::CowCopy),
                    (OVER_NOTHING, Kind::ZeroFill),
                    (UNCHANGED, Kind::Spurious),
                    (READS, Kind::Other),
                ],
            ),
            case(
                Kind::SharedWrite,
                facts(WRITE, SharedFile, ro_old, rw_old),
                &[
                    (PRIVATE_FILE, Kind::CowReuse),
                    (READS, Kind::Other),
                    (UNCHANGED, Kind::Spurious),
                    (TO_NEW, Kind::Other),
                ],
            ),
            case(
                Kind::SwapIn,
                facts(READ, Anonymous, pte(SWAPPED), rw_new),
                &[
                    (IS_NOT_COUNTED, Kind::Other),
                    (OVER_NOTHING, Kind::ZeroFill),
                    (OVER_PROT_NONE, Kind::Other),
                    (GONE_AGAIN, Kind::Other),
                    (SIGNALLED, Kind::Invalid),
                ],
            ),
            case(
                Kind::SwapIn,
                Facts {
                    major: true,
                    ..facts(READ, Shmem, none, pte(RO | NEW))
                },
                &[(IS_MINOR, Kind::FileMap), (SHARED_FILE, Kind::FileRead)],
            ),
            case(
                Kind::Spurious,
                facts(READ, Anonymous, ro_old, ro_old),
                &[
                    (TO_NEW, Kind::Other),
                    (SIGNALLED, Kind::Invalid),
                    (OVER_NOTHING, Kind::ZeroFill),
                ],
            ),
        ]
    }

    /// Faults at files and shared memory, and those that come to nothing.
    fn mappings() -> Vec<Case> {
        use Backing::{Anonymous, PrivateFile, SharedFile, Shmem, Special};
        let none = Entry::NONE;
        let (ro_new, rw_new) = (pte(RO | NEW), pte(RW | DIRTY | NEW));
        vec![
            case(
                Kind::FileMap,
                facts(READ, PrivateFile, none, ro_new),
                &[
                    (IS_MAJOR, Kind::FileRead),
                    (WRITES, Kind::FileCow),
                    (ANONYMOUS, Kind::ZeroFill),
                    (SPECIAL, Kind::Other),
                    (UNKNOWN, Kind::Other),
                    (OVER_PROT_NONE, Kind::Other),
                    (SIGNALLED, Kind::Invalid),
                ],
            ),
            case(
                Kind::FileMap,
                facts(READ, Shmem, none, ro_new),
                &[
                    (GREW, Kind::ShmFill),
                    (WRITES, Kind::SharedWrite),
                    (IS_MAJOR, Kind::SwapIn),
                ],
            ),
            case(
                Kind::FileRead,
                Facts {
                    major: true,
                    ..facts(READ, PrivateFile, none, ro_new)
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
                    ..facts(WRITE, SharedFile, none, rw_new)
                },
                &[
                    (IS_MINOR, Kind::SharedWrite),
                    (PRIVATE_FILE, Kind::FileCow),
                ],
            ),
            case(
                Kind::FileCow,
                facts(WRITE, PrivateFile, none, rw_new),
                &[
                    (READS, Kind::FileMap),
                    (FETCHES, Kind::FileMap),
                    (SHARED_FILE, Kind::SharedWrite),
                    (ANONYMOUS, Kind::ZeroFill),
                    (OVER_ANOTHER, Kind::CowCopy),
                ],
            ),
            case(
                Kind::SharedWrite,
                facts(WRITE, SharedFile, none, rw_new),
                &[
                    (READS, Kind::FileMap),
                    (IS_MAJOR, Kind::FileRead),
                    (PRIVATE_FILE, Kind::FileCow),
                ],
            ),
            case(
                Kind::ShmFill,
                Facts {
                    grew: true,
                    ..facts(WRITE, Shmem, none, rw_new)
                },
                &[
                    (GREW_NOT, Kind::SharedWrite),
                    (IS_MAJOR, Kind::SwapIn),
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
                Kind::Other,
                facts(READ, Special, none, ro_new),
                &[
                    (PRIVATE_FILE, Kind::FileMap),
                    (ANONYMOUS, Kind::ZeroFill),
                    (SIGNALLED, Kind::Invalid),
                ],
            ),
        ]
    }

    #[test]
    fn each_kind_follows_from_its_facts() {
        let mut reached = [false; Kind::COUNT];
        for (at, case) in private().iter().chain(&mappings()).enumerate() {
            let (expected, facts) = (case.kind, &case.facts);
            assert_eq!(kind(facts), expected, "case {at}: {facts:?}");
            reached[expected as usize] = true;
            for (turn_at, (turn, other)) in case.turns.iter().enumerate() {
                let turned = turn(*facts);
                assert_ne!(*other, expected, "case {at} turn {turn_at} turns nothing");
                assert_eq!(kind(&turned), *other, "case {at} turn {turn_at}: {turned:?}");
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
        assert_eq!(of(vm::SHARED, true, true, false), Backing::SharedFile);
        assert_eq!(of(vm::SHARED, true, true, true), Backing::Shmem);
        assert_eq!(of(vm::READ, true, false, false), Backing::Special);
        let device = vm::SHARED | vm::PFNMAP;
        assert_eq!(of(device, true, true, false), Backing::Special);
        // Pages of hugetlbfs come zeroed from its pool, whatever the file.
        assert_eq!(of(vm::HUGETLB, true, true, false), Backing::Anonymous);
        let shared = vm::HUGETLB | vm::SHARED;
        assert_eq!(of(shared, true, true, false), Backing::Shmem);
    }
}
