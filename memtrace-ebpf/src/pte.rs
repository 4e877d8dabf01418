//! x86-64 page-table entries (`arch/x86/include/asm/pgtable_types.h`).

/// Bytes in a base page.
pub const PAGE_SIZE: u64 = 4096;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const DIRTY: u64 = 1 << 6;
/// In an entry above the lowest level: it maps a huge page itself.
const HUGE: u64 = 1 << 7;
/// In an entry that isn't present: its page is there, but no access is allowed (`PROT_NONE`, NUMA hinting).
const PROT_NONE: u64 = 1 << 8;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The level of the table that an entry was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// Maps 4 KiB.
    Pte = 1,
    /// Maps 2 MiB, or points to a table of PTEs.
    Pmd = 2,
    /// Maps 1 GiB, or points to a table of PMDs.
    Pud = 3,
    /// Points to a table of PUDs.
    P4d = 4,
    /// The top level.
    Pgd = 5,
}

impl Level {
    /// The level with this number; anything unknown is the lowest.
    pub const fn from_number(number: u8) -> Self {
        match number {
            2 => Self::Pmd,
            3 => Self::Pud,
            4 => Self::P4d,
            5 => Self::Pgd,
            _ => Self::Pte,
        }
    }

    /// Bytes that an entry of this level spans.
    pub const fn span(self) -> u64 {
        PAGE_SIZE << (9 * (self as u64 - 1))
    }
}

/// A page-table entry as the walk read it: the last one on the way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's 64 bits.
    pub bits: u64,
    /// Where it was found.
    pub level: Level,
}

impl Entry {
    /// No entry at all.
    pub const NONE: Self = Self {
        bits: 0,
        level: Level::Pte,
    };

    /// Nothing was ever mapped here.
    pub const fn is_none(self) -> bool {
        self.bits == 0
    }

    /// The CPU can use it: it maps a page.
    pub const fn is_present(self) -> bool {
        self.bits & PRESENT != 0
    }

    /// Writes go through without a fault.
    pub const fn is_writable(self) -> bool {
        self.is_present() && self.bits & WRITABLE != 0
    }

    /// Written since it was mapped or last cleaned.
    pub const fn is_dirty(self) -> bool {
        self.bits & DIRTY != 0
    }

    /// The page is there but every access faults: `mprotect(PROT_NONE)` or a NUMA hint.
    pub const fn is_prot_none(self) -> bool {
        self.bits & (PRESENT | PROT_NONE) == PROT_NONE
    }

    /// Neither empty nor backed by a page: swapped out, migrating, or another marker of the kernel's.
    pub const fn is_swap(self) -> bool {
        !self.is_none() && !self.is_present() && !self.is_prot_none()
    }

    /// Maps more than a base page.
    pub const fn is_huge(self) -> bool {
        self.is_present() && !matches!(self.level, Level::Pte) && self.bits & HUGE != 0
    }

    /// Bytes of the page that it maps, or would map.
    pub const fn page_size(self) -> u64 {
        if self.is_huge() {
            self.level.span()
        } else {
            PAGE_SIZE
        }
    }

    /// The frame number behind `address`, where a page is present.
    pub const fn pfn(self, address: u64) -> Option<u64> {
        if !self.is_present() && !self.is_prot_none() {
            return None;
        }
        // An entry that isn't present is kept inverted, against L1TF (pgtable-invert.h).
        let frame = if self.is_present() {
            self.bits
        } else {
            !self.bits
        } & FRAME;
        // A huge entry keeps its PAT bit at bit 12: mask to the page's own alignment.
        let inside = address & (self.page_size() - 1) & !(PAGE_SIZE - 1);
        Some(((frame & !(self.page_size() - 1)) | inside) / PAGE_SIZE)
    }
}

/// The physical address of the table below the entry `bits`, or `None` where the walk ends at it.
pub const fn next_table(bits: u64) -> Option<u64> {
    if bits & PRESENT == 0 || bits & HUGE != 0 {
        None
    } else {
        Some(bits & FRAME)
    }
}
