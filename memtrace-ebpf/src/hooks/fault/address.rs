//! What is at a fault's address: its VMA, the page-table entry, the frame.

use memtrace_ebpf::{
    arch,
    pte::Entry,
    record::{FAULT_UNMAPPED, FAULT_VMA_UNKNOWN, VmaReason},
};

use crate::hooks::{
    direct_map::direct_map,
    frame,
    kernel::Object,
    paging::{EntryCache, entry},
    thread::Thread,
    vma::{self, VmaLookup},
};

/// The VMA of a fault wasn't found.
pub(crate) const UNPLACED: u8 = FAULT_UNMAPPED | FAULT_VMA_UNKNOWN;

/// Finds the VMA of a fault: the flags that say how that went.
#[inline(always)]
pub(crate) fn place(thread: &mut Thread, mm: Object, address: u64, ts: u64) -> u8 {
    match vma::locate(thread, mm, address, ts, VmaReason::Fault) {
        VmaLookup::Mapped => 0,
        VmaLookup::Unmapped => FAULT_UNMAPPED,
        VmaLookup::Unknown => FAULT_VMA_UNKNOWN,
    }
}

/// Reads the page-table entry for an address of the thread's.
#[inline(always)]
pub(crate) fn walk(thread: &mut Thread, pgd: u64, address: u64, read: &mut EntryCache) -> Entry {
    let Some(map) = direct_map() else {
        return Entry::NONE;
    };
    if arch::is_kernel(address) {
        return Entry::NONE;
    }
    entry(map, pgd, address, &mut thread.table, read)
}

/// What is said of the frame that this entry of the level maps for the address: [`frame::frame_use`].
#[inline(always)]
pub(crate) fn frame_use(entry: u64, level: u32, address: u64) -> u64 {
    // Of a huge page the part at the address; its entry has other bits below the frame.
    let inside = u64::from(level >> 1) * 511;
    frame::frame_use((entry & arch::FRAME) >> 12 & !inside | address >> 12 & inside)
}
