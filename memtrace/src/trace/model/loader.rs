//! What loaders map: by that the BSS of programs and libraries is known from other memory.
//!
//! The kernel (`elf_load` in `fs/binfmt_elf.c`), and the dynamic linkers of glibc (`_dl_map_segments`), musl (`map_library`) and
//! others map it right after they have mapped a part of the file, at a place of their own choice: where that part ends.
//! Memory that lies there for any other reason is no BSS.

use memtrace_ebpf::{
    record::{Call, Vma},
    syscall,
};

use super::{
    Model,
    memory_call::{page_end, range},
};
use crate::trace::{
    bss::{Bss, Image},
    call::{self, MAP_ANONYMOUS, MAP_FIXED},
    files::Files,
    region::{Mapped, Mm},
};

/// A program or a library that a thread is loading.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    image: Image,
    /// Where what was mapped last of it ends.
    end: u64,
}

impl Model {
    /// A VMA that an exec has left: first those of the program, then those of its dynamic linker.
    pub(super) fn listed(&mut self, tid: u32, mm: u64, vma: &Vma, mapped: &Mapped) {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let before = thread.loading.take();
        thread.loading = mapped.image().map(|image| Loading {
            image,
            end: vma.end,
        });
        if vma.file == 0
            && let Some(Loading { image, end }) = before
            && end == vma.start
            && let Some(mm) = self.mms.get_mut(&mm)
        {
            mm.bss.insert(vma.start..vma.end, image);
        }
    }

    /// mmap has returned.
    pub(super) fn mmap_returned(&mut self, tid: u32, record: &Call) {
        let [_, len, _, flags, ..] = record.args;
        if call::is_error(record.ret) {
            return;
        }
        let start = record.ret as u64;
        let mapped = start..page_end(start.saturating_add(len));
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let before = thread.loading.take();
        let mut bss = None;
        if flags & MAP_ANONYMOUS == 0 {
            // Its VMA has been told of a moment before, unless that was lost.
            let vma = thread.vma.as_ref().filter(|vma| vma.contains(start));
            let image = vma.and_then(Mapped::image);
            thread.loading = image.map(|image| Loading {
                image,
                end: mapped.end,
            });
        } else if flags & MAP_FIXED != 0 {
            bss = before
                .filter(|loading| loading.end == start && self.files.is_code(loading.image.file))
                .map(|loading| loading.image);
        }
        if let Some(mm) = self.mms.get_mut(&thread.mm) {
            match bss {
                Some(image) => mm.bss.insert(mapped, image),
                None => mm.bss.remove(mapped),
            }
        }
    }

    /// A call other than mmap takes memory away, or puts other memory in its place.
    pub(super) fn unmapped(bss: &mut Bss, record: &Call) {
        let [address, len, new_len, ..] = record.args;
        match record.number {
            syscall::MUNMAP if record.ret == 0 => {
                bss.remove(address..page_end(range(address, len).end));
            }
            syscall::MREMAP if !call::is_error(record.ret) => {
                let new = record.ret as u64;
                if new != address {
                    bss.remove(address..page_end(range(address, len).end));
                    bss.remove(new..page_end(range(new, new_len).end));
                }
            }
            _ => {}
        }
    }
}

/// The BSS in an address space that memtrace attaches to: the program's follows its data; and where the libraries' is
/// that is behind a part of theirs, `told` says.
pub(super) fn found_bss(
    vmas: &[Vma],
    mm: &Mm,
    told: &[std::ops::Range<u64>],
    files: &mut Files,
) -> Bss {
    let mut bss = Bss::default();
    for (before, vma) in vmas.iter().zip(vmas.iter().skip(1)) {
        if before.file == 0 || vma.file != 0 || before.end != vma.start {
            continue;
        }
        let end = if mm.has_loaded(before) {
            // The heap may lie right behind it.
            let heap = mm.bounds.start_brk;
            let joined = (vma.start..vma.end).contains(&heap);
            Some(if joined { page_end(heap) } else { vma.end })
        } else {
            let told = told.iter().find(|told| told.start == vma.start);
            told.map(|told| told.end.min(vma.end))
        };
        if let Some(end) = end {
            let image = Image {
                file: before.file,
                path: files.path(before.path),
            };
            bss.insert(vma.start..end, image);
        }
    }
    bss
}
