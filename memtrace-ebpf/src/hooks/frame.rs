//! What a frame is used for: its `struct page`.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memtrace_ebpf::{
    layout::{ABSENT, PAGE_STRUCT},
    record::Frame,
};

use crate::hooks::{
    direct_map::direct_map,
    kernel::{loads_directly, offset, read_into, read_member, read_word},
    verifier,
};

/// Words of a `struct page`.
const WORDS: usize = PAGE_STRUCT as usize / 8;
/// Pages in one that is mapped as a whole, and what its frame is a multiple of.
const LARGE: u64 = 512;

/// A mask that leaves 256 MiB of structures is above all addresses of a `struct page`.
const MASKS: u64 = 0xffff_ffff_f000_0000;

/// `FOLIO_MAPPING_ANON` and `FOLIO_MAPPING_KSM` (`include/linux/page-flags.h`).
const ANONYMOUS: u64 = 1;
const KSM: u64 = 3;

/// Where structures are read to.
#[map]
static PAGE: PerCpuArray<[u64; WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// How often the frame is mapped, in the low half, and what it is, in the high half: a [`Frame`].
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn frame_use(pfn: u64) -> u64 {
    let page = direct_map().map_or(0, |map| map.vmemmap) + pfn * PAGE_STRUCT;
    let [head, counts, own_mapping] = words(
        page,
        [
            offset!(page_head),
            offset!(page_map_count),
            offset!(page_mapping),
        ],
    );
    // A part of a larger page says where its first is, as the one after a larger page's first does.
    let tail = head & 1 != 0;
    // `_refcount` is in the same word, and of all pages that are mapped a tail's alone is 0: this one has no `struct page`.
    if counts == 0 && !tail {
        return 0;
    }
    let own = (counts >> (offset!(page_map_count) % 8 * 8)) as i32;
    let own = own.wrapping_add(1);
    // What is below is no count, but the type of a page that can't be mapped so, as hugetlb's first since 6.10
    // (page_mapcount_is_type in include/linux/page-flags.h).
    let own = (own & !(own >> 31)) as u32;
    let first = first_of(page, head);
    let next = page + PAGE_STRUCT;
    let large = tail
        || pfn.is_multiple_of(LARGE)
            && first_of(next, read_member(next, offset!(page_head))) == page;
    // What is mapped as a whole has one entry for all of its parts.
    let whole = if large { entire_map_count(first) } else { 0 };
    let mapping = if tail {
        read_member(first, offset!(page_mapping))
    } else {
        own_mapping
    };
    let frame = if mapping == 0 {
        Frame::Unknown
    } else if mapping & KSM == KSM {
        Frame::Ksm
    } else if mapping & ANONYMOUS != 0 {
        Frame::Anonymous
    } else {
        Frame::PageCache
    };
    u64::from(own.wrapping_add(whole)) | (frame as u64) << 32
}

/// The words of the `struct page` at this address in which these members are; zero where they can't be read.
#[inline(always)]
fn words(page: u64, offsets: [u32; 3]) -> [u64; 3] {
    if loads_directly() {
        return offsets.map(|offset| read_word(page + u64::from(offset / 8 * 8)));
    }
    // One call of a helper for all.
    let Some(memory) = verifier::scratch(&PAGE) else {
        return [0; 3];
    };
    read_into(page, memory);
    offsets.map(|offset| memory[(offset as usize / 8) & (WORDS - 1)])
}

/// How often the larger page that begins with this `struct page` is mapped as a whole; before 6.2 less what the count of
/// each part has too much while one maps it as a whole and another not (`__page_mapcount` in `mm/util.c`).
#[inline(always)]
fn entire_map_count(first: u64) -> u32 {
    if offset!(folio_entire_map_count) != ABSENT {
        return read_member::<u32>(first, offset!(folio_entire_map_count)).wrapping_add(1);
    }
    let flags: u64 = read_member(first + PAGE_STRUCT, offset!(page_flags));
    let double = (flags >> (offset!(page_double_map) & 63)) as u32 & 1;
    read_member::<u32>(first, offset!(page_entire_map_count))
        .wrapping_add(1)
        .wrapping_sub(double)
}

/// The first page of the one that this `struct page` is part of, from what that says (`_compound_head` in
/// `include/linux/page-flags.h`): its own address less one, or, from 7.0 on where the kernel can do without most of the
/// structures, the mask that makes the first's address of any part's.
#[inline(always)]
fn first_of(page: u64, head: u64) -> u64 {
    if head & 1 == 0 {
        page
    } else if head >= MASKS {
        page & (head - 1)
    } else {
        head - 1
    }
}

/// Whether the frame is anonymous memory (`folio_test_anon`).
#[inline(always)]
pub(crate) fn is_anonymous(pfn: u64) -> bool {
    let vmemmap = direct_map().map_or(0, |map| map.vmemmap);
    let page = vmemmap + pfn * PAGE_STRUCT;
    let head: u64 = read_member(page, offset!(page_head));
    read_member::<u64>(first_of(page, head), offset!(page_mapping)) & ANONYMOUS != 0
}
