//! Page-table entries: what they say, by the bits that [`crate::arch`] knows.

use crate::arch;

/// Bytes in a base page.
pub const PAGE_SIZE: u64 = 4096;

/// Types of swap entries from here on are none of a swap file, whatever the kernel is configured for (`MAX_SWAPFILES` in
/// `include/linux/swap.h`).
pub const SWAP_TYPES: u64 = 23;

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
        arch::present(self.bits) != 0
    }

    /// Writes go through without a fault.
    pub const fn is_writable(self) -> bool {
        self.is_present() && arch::writable(self.bits) != 0
    }

    /// Write-protected for the sake of a handler of userfaultfd.
    pub const fn is_uffd_wp(self) -> bool {
        self.is_present() && arch::uffd_wp(self.bits) != 0
    }

    /// Written since it was mapped or last cleaned.
    pub const fn is_dirty(self) -> bool {
        arch::dirty(self.bits) != 0
    }

    /// The page is there but every access faults: `mprotect(PROT_NONE)` or a NUMA hint.
    pub const fn is_prot_none(self) -> bool {
        arch::prot_none(self.bits) != 0
    }

    /// Its page is in a swap file. Other entries without a page are the kernel's markers: of a page that is being moved to
    /// another frame, say.
    pub const fn is_swap(self) -> bool {
        !self.is_none()
            && !self.is_present()
            && !self.is_prot_none()
            && arch::swap_type(self.bits) < SWAP_TYPES
    }

    /// Maps more than a base page.
    pub const fn is_huge(self) -> bool {
        self.is_present() && !matches!(self.level, Level::Pte) && arch::huge(self.bits) != 0
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
        let frame = if self.is_present() {
            self.bits & arch::FRAME
        } else {
            arch::hidden_frame(self.bits)
        };
        // A huge entry may have other bits below its frame: mask to the page's own alignment.
        let inside = address & (self.page_size() - 1) & !(PAGE_SIZE - 1);
        Some(((frame & !(self.page_size() - 1)) | inside) / PAGE_SIZE)
    }
}

/// The physical address of the table below the entry `bits`, or `None` where the walk ends at it.
pub const fn next_table(bits: u64) -> Option<u64> {
    if arch::present(bits) == 0 || arch::huge(bits) != 0 {
        None
    } else {
        Some(bits & arch::FRAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use arch::sample::{
        DIRTY, HUGE_NOISE, NOISE, READ_ONLY, TABLE, WRITABLE, huge, prot_none, swapped,
    };

    /// A larger page that may be read.
    const HUGE: u64 = huge(READ_ONLY);

    /// What an address adds to the frame of its page.
    const INSIDE: u64 = 0x12_3456;

    const fn entry(bits: u64, level: Level) -> Entry {
        Entry { bits, level }
    }

    #[test]
    fn levels_span_what_they_map() {
        let spans = [1, 2, 3, 4, 5].map(|number| {
            let level = Level::from_number(number);
            assert_eq!(level as u8, number);
            level.span()
        });
        assert_eq!(
            spans,
            [1 << 12, 1 << 21, 1 << 30, 1 << 39, 1 << 48],
            "4 KiB, 2 MiB, 1 GiB, 512 GiB, 256 TiB"
        );
        for unknown in [0, 6, 15] {
            assert_eq!(Level::from_number(unknown), Level::Pte);
        }
    }

    #[test]
    fn a_page_has_its_frame_and_nothing_else_in_it() {
        let frame = 0xa_bcde_f000;
        let page = entry(frame | WRITABLE | DIRTY | NOISE, Level::Pte);
        assert_eq!(page.pfn(0x7f00_0000_0fff), Some(0x00ab_cdef));
        assert_eq!(page.page_size(), PAGE_SIZE);
        assert!(page.is_present() && page.is_writable() && page.is_dirty());
        assert!(!page.is_none() && !page.is_swap() && !page.is_prot_none());
        let clean = entry(frame | READ_ONLY | NOISE, Level::Pte);
        assert!(clean.is_present() && !clean.is_writable() && !clean.is_dirty());
    }

    #[test]
    fn a_huge_page_has_a_frame_for_each_address() {
        let huge = entry(0x4000_0000 | HUGE | HUGE_NOISE, Level::Pmd);
        assert!(huge.is_huge());
        assert_eq!(huge.page_size(), 2 << 20);
        assert_eq!(huge.pfn(0x7f00_0000_0000), Some(0x4_0000));
        assert_eq!(huge.pfn(0x7f00_0000_0000 + INSIDE), Some(0x4_0123));
        let giant = entry(0x4000_0000 | HUGE, Level::Pud);
        assert_eq!(giant.page_size(), 1 << 30);
        assert_eq!(giant.pfn(0x4000_0000 * 7 + 0x3fff_ffff), Some(0x7_ffff));
    }

    #[test]
    fn nothing_is_huge_in_the_lowest_table() {
        let page = entry(0x5000 | HUGE, Level::Pte);
        assert!(!page.is_huge());
        assert_eq!(page.page_size(), PAGE_SIZE);
        assert_eq!(page.pfn(INSIDE), Some(5));
        let table = entry(0x5000 | TABLE, Level::Pmd);
        assert!(!table.is_huge());
    }

    #[test]
    fn a_page_without_access_has_a_frame() {
        let page = entry(prot_none(0xa_bcde_f000), Level::Pte);
        assert!(page.is_prot_none());
        assert!(!page.is_present() && !page.is_swap() && !page.is_none());
        assert!(!page.is_writable(), "whatever its other bits say");
        assert_eq!(page.pfn(INSIDE), Some(0x00ab_cdef));
        // In a present entry its bits mean something else.
        let bits = prot_none(0) & !arch::FRAME | 0xa_bcde_f000 | READ_ONLY;
        let present = entry(bits, Level::Pte);
        assert!(!present.is_prot_none());
        assert_eq!(present.pfn(INSIDE), Some(0x00ab_cdef));
    }

    #[test]
    fn what_is_not_there_has_no_frame() {
        assert!(Entry::NONE.is_none() && !Entry::NONE.is_swap());
        assert_eq!(Entry::NONE.pfn(INSIDE), None);
        let swapped = entry(swapped(3), Level::Pte);
        assert!(swapped.is_swap() && !swapped.is_none());
        assert!(!swapped.is_present() && !swapped.is_writable());
        assert_eq!(swapped.pfn(INSIDE), None);
        assert!(entry(self::swapped(22), Level::Pte).is_swap());
        let marker = entry(self::swapped(23), Level::Pte);
        assert!(!marker.is_swap() && !marker.is_none() && !marker.is_present());
    }

    #[test]
    fn a_walk_ends_at_a_page_or_at_nothing() {
        assert_eq!(next_table(0x1_2345_6000 | TABLE), Some(0x1_2345_6000));
        assert_eq!(next_table(0x1_2340_0000 | HUGE), None);
        assert_eq!(next_table(0x1_2345_6000), None);
        assert_eq!(next_table(0), None);
    }
}
