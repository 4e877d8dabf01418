//! The mm's own tree of VMAs: finding the one of an address.
//!
//! `bpf_find_vma` would do, but costs 16 microseconds where interrupts are off, as they are in a page fault. So the
//! tree is walked here with probe reads: the maple tree of 6.1 and later (`lib/maple_tree.c`), or the red-black tree before.
//! Without the mm's lock a node may change under the walk; what it found is believed only if it covers the address and belongs to the mm.

use core::ptr;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memtrace_ebpf::layout::ABSENT;

use crate::hooks::{
    kernel::{offset, read_into, read_member},
    verifier::{self, launder_scalar, repeat},
};

/// Words in a maple node: 256 bytes, aligned to as much.
const NODE_WORDS: usize = 32;
/// Levels of a tree that are walked, twice: with ten children a node, more than an mm can have VMAs.
const LEVELS: u32 = 16;
/// Levels of a red-black tree: twice the logarithm of the number of VMAs.
const RB_LEVELS: u32 = 40;
/// Node types (`enum maple_type`); below `RANGE_64` they are leaves.
const RANGE_64: u64 = 2;
const ARANGE_64: u64 = 3;

/// What is being read: too large for the stack.
#[repr(C)]
struct Scratch {
    /// The walk: where it begins, what it looks for, the entry it has come to, and the last address that this one
    /// holds for.
    root: u64,
    address: u64,
    entry: u64,
    /// In a red-black tree the best VMA so far.
    last: u64,
    /// 1 when the entry is a leaf's.
    done: u64,
    /// Of the node: where its slots begin, and the last slot in use.
    first_slot: u32,
    end: u32,
    /// And, of a leaf, the slot that was found.
    slot: u32,
    pad: u32,
    node: [u64; NODE_WORDS],
    vma: [u64; NODE_WORDS],
    /// Whose VMA is looked for, and what was found.
    mm: u64,
    found: VmaFields,
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The root of the tree of VMAs of the `mm_struct` at this address.
#[inline(always)]
fn root(mm: u64) -> u64 {
    if offset!(mm_mt_root) == ABSENT {
        read_member(mm, offset!(mm_rb_root))
    } else {
        read_member(mm, offset!(mm_mt_root))
    }
}

/// This CPU's scratch. Global functions change it behind the compiler's back: so no reference to it may be held while one
/// runs.
#[inline(always)]
fn scratch() -> Option<&'static mut Scratch> {
    verifier::scratch(&SCRATCH)
}

/// Walks the scratch's tree to the first VMA that ends above `address` (`mtree_range_walk`, and once more behind a gap).
/// Its address, or 0 when there is none.
#[inline(always)]
fn walk(address: u64) -> Option<u64> {
    let before = scratch()?;
    before.root = root(before.mm);
    before.address = address;
    before.entry = before.root;
    before.last = u64::MAX;
    before.done = 0;
    if offset!(mm_mt_root) == ABSENT {
        before.last = 0;
        repeat!(RB_LEVELS, descend_rb);
    } else {
        repeat!(LEVELS, descend);
    }
    let after = scratch()?;
    (after.done != 0).then_some(after.entry)
}

/// One level down in a red-black tree (`find_vma` in `mm/mmap.c` before 6.1). 1 ends the walk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn descend_rb() -> u32 {
    let Some(scratch) = scratch() else { return 1 };
    let vma = scratch.entry.wrapping_sub(u64::from(offset!(vma_rb)));
    if scratch.entry != 0 && read_member::<u64>(vma, offset!(vma_end)) <= scratch.address {
        scratch.entry = read_member(scratch.entry, offset!(rb_right));
        return 0;
    }
    if scratch.entry != 0 {
        scratch.last = vma;
        if read_member::<u64>(vma, offset!(vma_start)) > scratch.address {
            scratch.entry = read_member(scratch.entry, offset!(rb_left));
            return 0;
        }
    }
    scratch.entry = scratch.last;
    scratch.done = 1;
    1
}

/// One level down in a maple tree. 1 ends the walk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn descend() -> u32 {
    let Some(scratch) = scratch() else { return 1 };
    let kind = (scratch.entry >> 3) & 0xf;
    if !read_into(scratch.entry & !0xff, &mut scratch.node) {
        return 1;
    }
    let node = &scratch.node;
    // struct maple_arange_64 and maple_range_64: parent, pivots, slots; the end of the data is in `meta`, which the
    // latter lays over its last slot, in use only if the last pivot is and isn't the node's maximum (ma_data_end).
    let (first_slot, end) = if kind == ARANGE_64 {
        (10, node[30] & 0xff)
    } else if node[15] == 0 {
        (16, node[31] & 0xff)
    } else if node[15] == scratch.last {
        (16, 14)
    } else {
        (16, 15)
    };
    let first_slot = launder_scalar(first_slot, &mut scratch.first_slot) as usize;
    let end = u64::from(launder_scalar(end as u32, &mut scratch.end));
    // How many pivots before the last slot are below the address, without a branch: the verifier would follow each on
    // its own. The difference's sign is right as both are user addresses, below 2^63; a pivot that isn't one lies at
    // or behind `end`.
    let used = (1_u64 << (end & 15)) - 1;
    let address = scratch.address;
    let mut index = 0;
    let mut at = 0;
    while at < 15 {
        // SAFETY: a part of the node. Volatile: one after the other, as all at once would fill the stack.
        let pivot = unsafe { ptr::read_volatile(&raw const node[1 + at]) };
        index += (pivot.wrapping_sub(address) >> 63) & (used >> at);
        at += 1;
    }
    if index < end {
        scratch.last = node[(1 + index as usize) & 31];
    }
    scratch.entry = node[(first_slot + index as usize) & 31];
    if kind >= RANGE_64 {
        return 0;
    }
    if scratch.entry == 0 && scratch.last != u64::MAX {
        // Gaps are never neighbours: what comes next is a VMA, if anything does.
        scratch.address = scratch.last + 1;
        scratch.entry = scratch.root;
        scratch.last = u64::MAX;
        return 0;
    }
    scratch.slot = index as u32;
    scratch.done = 1;
    1
}

/// The VMA behind the one that was found last, if it is in the same leaf. What is in between may be a gap, but no two.
#[inline(always)]
fn next_in_leaf() -> Option<u64> {
    if offset!(mm_mt_root) == ABSENT {
        return None;
    }
    let scratch = scratch()?;
    let mut tries = 0;
    while tries < 2 {
        scratch.slot += 1;
        if scratch.slot > scratch.end {
            return None;
        }
        let entry = scratch.node[((scratch.first_slot + scratch.slot) & 31) as usize];
        if entry != 0 {
            return Some(entry);
        }
        tries += 1;
    }
    None
}

/// A VMA as it was read.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct VmaFields {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) flags: u64,
    pub(crate) pgoff: u64,
    pub(crate) ops: u64,
    pub(crate) file: u64,
    /// Null when it never had an anonymous page.
    pub(crate) anon: u64,
}

impl VmaFields {
    pub(crate) const NONE: Self = Self {
        start: 0,
        end: 0,
        flags: 0,
        pgoff: 0,
        ops: 0,
        file: 0,
        anon: 0,
    };
}

/// Reads the VMA at `vma` whole, if it belongs to `mm`.
#[inline(always)]
fn read_vma(vma: u64, mm: u64) -> Option<VmaFields> {
    let words = &mut scratch()?.vma;
    if !read_into(vma, words) {
        return None;
    }
    let word = |offset: u32| -> u64 { words[(offset as usize / 8) & 31] };
    if word(offset!(vma_mm)) != mm {
        return None;
    }
    Some(VmaFields {
        start: word(offset!(vma_start)),
        end: word(offset!(vma_end)),
        flags: word(offset!(vma_flags)),
        pgoff: word(offset!(vma_pgoff)),
        ops: word(offset!(vma_ops)),
        file: word(offset!(vma_file)),
        anon: word(offset!(vma_anon_vma)),
    })
}

/// What a look into the tree gave.
pub(crate) enum Lookup {
    Found(VmaFields),
    /// There is no VMA from the address on.
    Nothing,
    /// The tree could not be read, or was being changed.
    Unreadable,
}

/// The first VMA that ends above `address`, as `find_vma` gives it.
#[inline(always)]
pub(crate) fn find_at_or_above(mm: u64, address: u64) -> Lookup {
    let Some(scratch) = self::scratch() else {
        return Lookup::Unreadable;
    };
    // By way of memory: what the verifier knows to be a pointer can't be an argument.
    scratch.mm = mm;
    match (look_up(address), self::scratch()) {
        (FOUND, Some(scratch)) => Lookup::Found(scratch.found),
        (NOTHING, _) => Lookup::Nothing,
        _ => Lookup::Unreadable,
    }
}

/// What [`look_up`] returns.
const FOUND: u32 = 0;
const NOTHING: u32 = 1;
const UNREADABLE: u32 = 2;

/// Looks for the first VMA that ends above `address`, and leaves it in this CPU's scratch.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look_up(address: u64) -> u32 {
    let vma = match walk(address) {
        Some(0) => return NOTHING,
        Some(vma) => vma,
        None => return UNREADABLE,
    };
    let Some(scratch) = scratch() else {
        return UNREADABLE;
    };
    match read_vma(vma, scratch.mm) {
        Some(found) if found.end > address => {
            scratch.found = found;
            FOUND
        }
        _ => UNREADABLE,
    }
}

/// The first VMA that ends above `address`, which is the end of the one that this CPU has found last, in an address space
/// that nobody changes meanwhile; or 0.
#[inline(always)]
pub(crate) fn find_next(mm: u64, address: u64) -> Lookup {
    if address != 0
        && let Some(vma) = next_in_leaf()
        && let Some(found) = read_vma(vma, mm)
        && found.start >= address
    {
        return Lookup::Found(found);
    }
    find_at_or_above(mm, address)
}
