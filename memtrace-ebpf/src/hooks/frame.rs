//! What a frame is used for: its `struct page`.

use memtrace_ebpf::{layout::PAGE_STRUCT, record::Frame};

use crate::hooks::{
    kernel::{offset, read_into, read_member},
    paging::direct_map,
};

/// Words of a `struct page`.
pub(crate) const WORDS: usize = PAGE_STRUCT as usize / 8;

/// `FOLIO_MAPPING_ANON` (`include/linux/page-flags.h`); with the next bit, too, it is KSM's.
const ANONYMOUS: u64 = 1;

/// How often the frame is mapped, and what it is: a [`Frame`]. `memory` is where the structure is read to.
#[inline(always)]
pub(crate) fn look_at(pfn: u64, memory: &mut [u64; WORDS]) -> (u32, u32) {
    let vmemmap = direct_map().map_or(0, |map| map.vmemmap);
    if !read_into(vmemmap + pfn * PAGE_STRUCT, memory) {
        return (0, Frame::Unknown as u32);
    }
    let at = offset!(page_map_count) as usize;
    let map_count = (memory[(at / 8) & (WORDS - 1)] >> (at % 8 * 8)) as u32;
    let head = memory[(offset!(page_head) as usize / 8) & (WORDS - 1)];
    let mapping = if head & 1 == 0 {
        memory[(offset!(page_mapping) as usize / 8) & (WORDS - 1)]
    } else {
        // A part of a larger page, whose first has it (compound_head).
        read_member(head - 1, offset!(page_mapping))
    };
    // Without a branch: no mapping at all is unknown, and the two low bits tell the others.
    let used = (mapping | mapping.wrapping_neg()) >> 63;
    let frame =
        used * (Frame::PageCache as u64 + (mapping & ANONYMOUS) + (mapping >> 1 & mapping & 1));
    (map_count.wrapping_add(1), frame as u32)
}

/// Whether the frame is anonymous memory (`folio_test_anon`).
#[inline(always)]
pub(crate) fn is_anonymous(pfn: u64) -> bool {
    let vmemmap = direct_map().map_or(0, |map| map.vmemmap);
    let page = vmemmap + pfn * PAGE_STRUCT;
    let head: u64 = read_member(page, offset!(page_head));
    let page = if head & 1 == 0 { page } else { head - 1 };
    read_member::<u64>(page, offset!(page_mapping)) & ANONYMOUS != 0
}
