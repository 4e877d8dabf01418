//! The VMA of an address: a thread remembers the last one, and a record tells of each that it comes to.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memtrace_ebpf::{
    fault::vm,
    layout::ABSENT,
    record::{Detail, Header, Kind, VMA_HAS_OPS, VMA_HUGETLB, VMA_SHMEM, Vma, VmaReason},
};

use crate::hooks::{
    file,
    kernel::{Object, config, offset, read_member},
    program::program,
    ring,
    thread::{self, Thread, VmaCache},
    tree::{Lookup, VmaFields, find_at_or_above},
    verifier::{self, launder_ptr, repeat},
};

/// VMAs of a fresh program that are listed: there are about fifteen.
const LISTED: u32 = 64;

/// Where an address lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum VmaLookup {
    /// In the thread's [`VmaCache`].
    Mapped,
    /// In no VMA.
    Unmapped,
    /// The tree could not be read.
    Unknown,
}

/// Makes the thread's [`VmaCache`] that of `address`, sending a record of it when it is another one or has changed.
#[inline(always)]
pub(crate) fn locate(
    thread: &mut Thread,
    mm: Object,
    address: u64,
    ts: u64,
    reason: VmaReason,
) -> VmaLookup {
    let seq: u32 = mm.load(offset!(mm_lock_seq));
    let cache = &thread.vma;
    if cache.mm == mm.address()
        && cache.seq == seq
        && offset!(mm_lock_seq) != ABSENT
        && address >= cache.start
        && address < cache.end
    {
        return VmaLookup::Mapped;
    }
    let found = match find_at_or_above(mm.address(), address) {
        // Below a stack that grows, it is the one that the kernel is about to extend (expand_stack).
        Lookup::Found(found) if found.start <= address || found.flags & vm::GROWSDOWN != 0 => found,
        Lookup::Found(_) | Lookup::Nothing => return VmaLookup::Unmapped,
        Lookup::Unreadable => return VmaLookup::Unknown,
    };
    remember(thread, mm, found, seq, ts, reason);
    if found.start <= address {
        VmaLookup::Mapped
    } else {
        VmaLookup::Unmapped
    }
}

/// Makes the thread's [`VmaCache`] that of a VMA that the kernel has locked, in the same way.
#[inline(always)]
pub(crate) fn take(thread: &mut Thread, mm: Object, vma: Object, ts: u64, reason: VmaReason) {
    let found = VmaFields {
        start: vma.load(offset!(vma_start)),
        end: vma.load(offset!(vma_end)),
        flags: vma.load(offset!(vma_flags)),
        pgoff: vma.load(offset!(vma_pgoff)),
        ops: launder_ptr(vma.follow(offset!(vma_ops)), &mut thread.launder_ptr),
        file: launder_ptr(vma.follow(offset!(vma_file)), &mut thread.launder_ptr),
        anon: 0,
    };
    remember(thread, mm, found, mm.load(offset!(mm_lock_seq)), ts, reason);
}

/// Sends a record of each VMA of the current thread's fresh program.
#[inline(always)]
pub(crate) fn list(ts: u64) {
    let Some(place) = listed() else { return };
    place.address = 0;
    place.ts = ts;
    repeat!(LISTED, list_next);
}

/// How far [`list`] is.
struct Listed {
    address: u64,
    ts: u64,
}

#[map]
static LIST: PerCpuArray<Listed> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn listed() -> Option<&'static mut Listed> {
    verifier::scratch(&LIST)
}

/// The next VMA. 1 ends the list.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn list_next() -> u32 {
    let Some(place) = listed() else { return 1 };
    let task = Object::current();
    let mm = task.follow(offset!(task_mm));
    let Some(thread) = thread::find(task) else {
        return 1;
    };
    let Lookup::Found(found) = find_at_or_above(mm.address(), place.address) else {
        return 1;
    };
    let Some(place) = listed() else { return 1 };
    place.address = found.end;
    remember(thread, mm, found, 0, place.ts, VmaReason::Exec);
    0
}

/// Puts a VMA into the thread's cache, and sends a record if it differs from what was there.
#[inline(always)]
fn remember(
    thread: &mut Thread,
    mm: Object,
    found: VmaFields,
    seq: u32,
    ts: u64,
    reason: VmaReason,
) {
    let cache = &mut thread.vma;
    let same = cache.mm == mm.address()
        && cache.start == found.start
        && cache.end == found.end
        && cache.flags == found.flags
        && cache.file == found.file
        && cache.pgoff == found.pgoff;
    cache.seq = seq;
    if same {
        return;
    }
    let backed = file::backed(found.file);
    let flags = record_flags(&found, &backed);
    // An exec sets the program a moment after the address space (begin_new_exec in fs/exec.c), and at its end the cache is
    // emptied.
    let exe = if cache.mm == mm.address() && cache.exe != 0 {
        cache.exe
    } else {
        program(launder_ptr(mm, &mut thread.launder_ptr))
    };
    *cache = VmaCache {
        mm: mm.address(),
        start: found.start,
        end: found.end,
        flags: found.flags,
        file: found.file,
        pgoff: found.pgoff,
        exe,
        counts: counts(&found, &backed),
        seq,
        serial: cache.serial + 1,
        record_flags: u32::from(flags),
        pad: 0,
    };
    if config!(summary) != 0 && !matches!(reason, VmaReason::Exec | VmaReason::Call) {
        return;
    }
    let Some(outgoing) = outgoing() else { return };
    outgoing.head = Header {
        flags,
        detail: Detail::reason(reason as u8),
        ..thread.head(Kind::Vma, ts)
    };
    outgoing.mm = mm.address();
    outgoing.fs = Object::current().follow(offset!(task_fs)).address();
    outgoing.found = found;
    outgoing.serial = thread.vma.serial;
    outgoing.exe = exe;
    outgoing.pages = [0; 2];
    if send_outgoing() != 0 {
        ring::lose(Kind::Vma as u32);
        // The next fault in it looks for it again, and tells.
        thread.vma.mm = 0;
    }
}

/// Where the kernel counts the pages of a VMA that shares them: [`VmaCache::counts`].
#[inline(always)]
fn counts(found: &VmaFields, backed: &file::Backed) -> [u64; 2] {
    let huge = found.flags & vm::HUGETLB != 0;
    let in_memory = backed.in_memory && !huge;
    if !in_memory && (found.flags & vm::MAYSHARE == 0 || found.file == 0) {
        return [0; 2];
    }
    let mapping: u64 = read_member(found.file, offset!(file_mapping));
    let present = mapping.wrapping_add(u64::from(offset!(mapping_nrpages)));
    let all = if in_memory {
        let info = backed.inode.wrapping_sub(u64::from(offset!(shmem_inode)));
        info.wrapping_add(u64::from(offset!(shmem_alloced)))
    } else {
        // Nothing of hugetlbfs's is ever in swap.
        present
    };
    [present, all]
}

/// The flags of a VMA's record.
#[inline(always)]
pub(crate) fn record_flags(found: &VmaFields, backed: &file::Backed) -> u8 {
    (if found.ops != 0 { VMA_HAS_OPS } else { 0 })
        | (if backed.in_memory { VMA_SHMEM } else { 0 })
        | (if found.flags & vm::HUGETLB != 0 {
            VMA_HUGETLB
        } else {
            0
        })
}

/// A VMA that is to be sent.
pub(crate) struct Outgoing {
    pub(crate) head: Header,
    /// Its address space.
    pub(crate) mm: u64,
    pub(crate) found: VmaFields,
    /// Counts the thread's VMAs.
    pub(crate) serial: u32,
    /// The identity of the program.
    pub(crate) exe: u64,
    /// The `fs_struct` of the task by whose root directory the file's path is told.
    pub(crate) fs: u64,
    /// By a survey: its resident and its private pages.
    pub(crate) pages: [u64; 2],
}

/// What [`send_outgoing`] sends: not on the stack, as that has 512 bytes for a hook and all that it calls.
#[map]
static OUTGOING: PerCpuArray<Outgoing> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's outgoing VMA, to be filled in.
#[inline(always)]
pub(crate) fn outgoing() -> Option<&'static mut Outgoing> {
    verifier::scratch(&OUTGOING)
}

/// Sends this CPU's outgoing VMA. 1 when there is no room for it, which is not counted.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_outgoing() -> u32 {
    let Some(vma) = outgoing() else { return 1 };
    if vma.head.detail.is(VmaReason::Fault) && !ring::has_room() {
        return 1;
    }
    let path = file::tell(vma.found.file, vma.fs, vma.head.tid);
    let file = if path == 0 { 0 } else { file::told_file() };
    let Some(vma) = outgoing() else { return 1 };
    let sent = ring::try_send_filled(|record: &mut Vma| {
        *record = Vma {
            head: vma.head,
            mm: vma.mm,
            start: vma.found.start,
            end: vma.found.end,
            flags: vma.found.flags,
            pgoff: vma.found.pgoff,
            file,
            path,
            exe: vma.exe,
            serial: vma.serial,
            pad: 0,
            resident: vma.pages[0],
            private: vma.pages[1],
        };
    });
    u32::from(!sent)
}
