//! The kind of a fault, where the hooks count by kind (`--summary`) and send no record for user space to decide by.

use memtrace_ebpf::{
    fault::{Backing, Facts, Kind, kind, vm},
    pte::{Entry, Level},
    record::{
        FAULT_FRESH, FAULT_GREW, FAULT_MAJOR, FAULT_MINOR, FAULT_MM_GONE, FAULT_UNMAPPED,
        FAULT_VMA_UNKNOWN, Frame, VMA_HAS_OPS, VMA_SHMEM,
    },
};

use crate::hooks::{
    fault::address::UNPLACED,
    kernel::{Object, config},
    thread,
    verifier::launder_scalar,
};

/// The kind of the current thread's open fault, as a number: it ended with this entry of this level, these flags, and in
/// this signal (0 for none).
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_kind(after: u64, level: u32, flags: u32, signal: u32) -> u32 {
    let Some(thread) = thread::find(Object::current()) else {
        return Kind::Other as u32;
    };
    let flags = flags as u8;
    let open = &thread.open;
    let cache = &thread.vma;
    let vma = cache.record_flags as u8;
    let before = Entry {
        bits: open.before,
        level: Level::from_number(open.level),
    };
    let after = Entry {
        bits: after,
        level: Level::from_number(level as u8),
    };
    let zero = Some(u64::from(config!(zero_pfn)));
    let (old, new) = (before.pfn(open.address), after.pfn(open.address));
    let frames = u32::from(old == new) | u32::from(old == zero) << 1 | u32::from(new == zero) << 2;
    let frames = launder_scalar(frames, &mut thread.launder_scalar);
    kind(&Facts {
        error: open.error,
        before,
        after,
        same_frame: frames & 1 != 0,
        zero_before: frames & 2 != 0,
        zero_after: frames & 4 != 0,
        counted: flags & (FAULT_MINOR | FAULT_MAJOR) != 0,
        major: flags & FAULT_MAJOR != 0,
        signal: signal != 0,
        backing: if flags & (FAULT_UNMAPPED | FAULT_VMA_UNKNOWN) == FAULT_VMA_UNKNOWN {
            Backing::Unknown
        } else {
            Backing::of(
                cache.flags,
                vma & VMA_HAS_OPS != 0,
                cache.file != 0,
                vma & VMA_SHMEM != 0,
            )
        },
        grew: flags & FAULT_GREW != 0,
        fresh: flags & FAULT_FRESH != 0,
        uffd_registered: flags & UNPLACED == 0 && cache.flags & vm::UFFD_MISSING != 0,
        uffd_wp: flags & UNPLACED == 0 && cache.flags & vm::UFFD_WP != 0,
        left: flags & FAULT_MM_GONE != 0,
        shared_frame: Frame::is_shared(open.frame, open.map_count),
    }) as u32
}
