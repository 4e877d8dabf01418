//! Surveys of address spaces whose records are coming.

use memtrace_ebpf::record::{Header, Pages, Vma, VmaReason};
use roaring::RoaringTreemap;

use super::{Model, PAGE_SHIFT};
use crate::trace::{bss::Bss, region::Mapped, sharing::ForkArea};

/// Surveys of forks of which word is awaited at the most: each has one time, and comes in one piece but for what is late.
pub const SURVEYS: usize = 64;

/// A survey whose records are coming.
#[derive(Default)]
pub(super) struct Pending {
    /// The time of all its records; 0 at an attach.
    pub(super) ts: u64,
    /// Private pages that are present.
    pub(super) present: RoaringTreemap,
    /// And those among them that may be written as they are.
    pub(super) writable: RoaringTreemap,
    pub(super) areas: Vec<ForkArea>,
    /// At an attach: the VMAs.
    pub(super) vmas: Vec<Vma>,
}

impl Pending {
    /// Takes the pages of a table.
    pub(super) fn pages(&mut self, record: &Pages) {
        add(&mut self.present, record.first, &record.present);
        add(&mut self.writable, record.first, &record.writable);
    }

    /// Takes a VMA of a process that memtrace attaches to, or the next part of one.
    pub(super) fn vma(&mut self, vma: &Vma) {
        match self.vmas.last_mut() {
            Some(last) if last.start == vma.start => {
                last.end = vma.end;
                last.resident += vma.resident;
                last.private += vma.private;
            }
            _ => self.vmas.push(*vma),
        }
    }

    /// Takes a VMA that pages lie in.
    pub(super) fn area(&mut self, vma: &Vma, mapped: &Mapped, bss: &Bss) {
        if vma.private == 0 {
            return;
        }
        let parts = mapped.parts(bss).into_iter();
        self.areas.extend(parts.map(|(part, place)| ForkArea {
            pages: part.start >> PAGE_SHIFT..part.end >> PAGE_SHIFT,
            region: place.region,
            file: place.file,
        }));
    }
}

/// Adds the pages whose bits are set, the lowest standing for `first`.
fn add(pages: &mut RoaringTreemap, first: u64, bits: &[u64; 8]) {
    for (word, mut bits) in (0..).zip(bits.iter().copied()) {
        let mut at = first + 64 * word;
        // A run of set bits at a time.
        while bits != 0 {
            let gap = bits.trailing_zeros();
            bits >>= gap;
            let run = bits.trailing_ones();
            at += u64::from(gap);
            pages.insert_range(at..at + u64::from(run));
            at += u64::from(run);
            bits = bits.checked_shr(run).unwrap_or(0);
        }
    }
}

impl Model {
    /// The survey of an address space that a record of this time is of. If one before never ended, its last record was
    /// lost. At an attach the parts of a survey have times of their own, and make one.
    pub(super) fn pending(&mut self, mm: u64, head: &Header) -> &mut Pending {
        let ts = if head.detail.is(VmaReason::Attach) {
            0
        } else {
            head.ts
        };
        if !self.pending.contains_key(&mm) {
            self.forget_oldest_survey();
        }
        let pending = self.pending.entry(mm).or_default();
        if pending.ts != ts {
            *pending = Pending {
                ts,
                ..Pending::default()
            };
        }
        pending
    }

    /// Makes room for one more. Where births are lost their surveys stay behind, each at an address that need not come again.
    fn forget_oldest_survey(&mut self) {
        if self.pending.len() < SURVEYS {
            return;
        }
        // Those of an attach are as many as processes are attached to.
        let of_forks = self.pending.iter().filter(|(_, survey)| survey.ts != 0);
        if of_forks.clone().count() >= SURVEYS
            && let Some((&oldest, _)) = of_forks.min_by_key(|(_, survey)| survey.ts)
        {
            self.pending.remove(&oldest);
        }
    }
}
