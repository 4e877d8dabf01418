//! What a frame is used for: its `struct page`.

use memtrace_ebpf::{layout::PAGE_STRUCT, record::Frame};

use crate::hooks::{
    kernel::{forget, offset, read_into, read_member},
    paging::direct_map,
};

/// Words of a `struct page` and the next one.
pub(crate) const WORDS: usize = 2 * PAGE_STRUCT as usize / 8;

/// `FOLIO_MAPPING_ANON` (`include/linux/page-flags.h`); with the next bit, too, it is KSM's.
const ANONYMOUS: u64 = 1;

/// How often the frame is mapped, and what it is: a [`Frame`]. `memory` is where the structure is read to, `merge` for
/// [`forget`].
#[inline(always)]
pub(crate) fn look_at(pfn: u64, memory: &mut [u64; WORDS], merge: &mut u32) -> (u32, u32) {
    let page = direct_map().map_or(0, |map| map.vmemmap) + pfn * PAGE_STRUCT;
    if !read_into(page, memory) {
        return (0, Frame::Unknown as u32);
    }
    let word = |offset: u32, next: usize| memory[(offset as usize / 8 + next) & (WORDS - 1)];
    let head = word(offset!(page_head), 0);
    let own = (word(offset!(page_map_count), 0) >> (offset!(page_map_count) % 8 * 8)) as u32;
    // A part of a larger page says where its first is, as the one after a larger page's first does. No branch but one: the
    // verifier follows each to the hook's end.
    let tail = head & 1;
    let difference = word(offset!(page_head), WORDS / 2) ^ (page + 1);
    let first_of_many = 1 ^ (difference | difference.wrapping_neg()) >> 63;
    let large = forget((tail | first_of_many) as u32, merge);
    let (whole, mapping) = if large != 0 {
        let first = page.wrapping_add(tail.wrapping_mul(head.wrapping_sub(page + 1)));
        // What is mapped as a whole has one entry for all of its parts.
        let whole: u32 = read_member(first, offset!(folio_entire_map_count));
        (
            whole.wrapping_add(1),
            read_member(first, offset!(page_mapping)),
        )
    } else {
        (0, word(offset!(page_mapping), 0))
    };
    // Without a branch: no mapping at all is unknown, and the two low bits tell the others.
    let used = (mapping | mapping.wrapping_neg()) >> 63;
    let frame =
        used * (Frame::PageCache as u64 + (mapping & ANONYMOUS) + (mapping >> 1 & mapping & 1));
    (own.wrapping_add(1).wrapping_add(whole), frame as u32)
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
