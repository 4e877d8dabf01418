//! What happens to memory.

use std::ops::Range;

use memtrace_ebpf::{
    pte::PAGE_SIZE,
    record::{
        Birth, Bounds, Call, Detail, Fault, Frame, Header, Kind, Pages, Path, Surveyed, Vma,
        VmaReason,
    },
};

use super::{READ, Story, WRITE, anonymous, detailed, minor, ro, rw, wire};

/// The first page of the memory that most stories are about, and how much it is.
pub const FIRST: u64 = 0x7b000;
const LEN: u64 = 0x1000;
/// Pages that a table maps.
const TABLE: u64 = 512;

/// The memory that most stories are about.
pub fn heap() -> Vma {
    anonymous(FIRST * PAGE_SIZE, (FIRST + LEN) * PAGE_SIZE)
}

/// The address of one of its pages.
pub const fn heap_page(page: u64) -> u64 {
    (FIRST + page) * PAGE_SIZE
}

/// A fault on a frame of which this is known.
pub fn of_frame(fault: Fault, frame: Frame, map_count: u32) -> Fault {
    let fault = detailed(fault, |detail| detail.frame = frame as u8);
    Fault { map_count, ..fault }
}

/// What is private and present of a VMA.
#[derive(Clone)]
pub struct Area {
    pub vma: Vma,
    /// Pages that are shared until a write.
    pub shared: Vec<u64>,
    /// Pages that the fork has copied.
    pub pinned: Vec<u64>,
}

/// Some pages of [`heap`], counted from its first.
pub fn heap_pages(pages: Range<u64>) -> Area {
    Area {
        vma: heap(),
        shared: pages.map(|page| FIRST + page).collect(),
        pinned: Vec::new(),
    }
}

impl Story {
    /// The path of a file is told. Its number is that of the file, as none has another name.
    pub fn path(&mut self, tid: u32, file: u64, path: &str) {
        let components: Vec<&str> = path.split('/').skip(1).collect();
        let mut bytes = Vec::new();
        for component in components.iter().rev() {
            bytes.extend_from_slice(component.as_bytes());
            bytes.push(0);
        }
        let record = Path {
            head: Header {
                ts: 0,
                ..self.head(tid, Kind::Path)
            },
            path: file,
            len: bytes.len() as u32,
            ..Path::default()
        };
        self.records.push(wire(&record, &bytes));
    }

    /// What a fork leaves of a VMA in the child.
    pub(super) fn forked_area(&mut self, birth: &Birth, area: &Area) {
        self.pages(birth.head, birth.child.mm, &area.shared, &area.pinned);
        let record = Vma {
            head: Header {
                kind: Kind::Vma as u8,
                flags: area.vma.head.flags,
                detail: Detail::reason(VmaReason::Fork as u8),
                ..birth.head
            },
            mm: birth.child.mm,
            private: (area.shared.len() + area.pinned.len()) as u64,
            ..area.vma
        };
        self.records.push(wire(&record, &[]));
    }

    /// Private pages, table by table.
    fn pages(&mut self, head: Header, mm: u64, protected: &[u64], writable: &[u64]) {
        let mut tables: Vec<u64> = [protected, writable]
            .concat()
            .iter()
            .map(|page| page / TABLE * TABLE)
            .collect();
        tables.sort_unstable();
        tables.dedup();
        let bits = |first: u64, pages: &[u64]| {
            let mut bits = [0; 8];
            for page in pages.iter().filter(|page| *page / TABLE * TABLE == first) {
                bits[((page - first) / 64) as usize] |= 1 << (page % 64);
            }
            bits
        };
        for first in tables {
            let writable = bits(first, writable);
            let mut present = bits(first, protected);
            present
                .iter_mut()
                .zip(writable)
                .for_each(|(of, more)| *of |= more);
            let record = Pages {
                head: Header {
                    kind: Kind::Pages as u8,
                    ..head
                },
                mm,
                first,
                present,
                writable,
            };
            self.records.push(wire(&record, &[]));
        }
    }

    /// What a process is made of, at an attach: its private pages are `area.pinned`, as they may be written, and
    /// `area.shared`; `resident` are all that are there.
    pub fn survey(&mut self, tid: u32, areas: &[(Area, u64)]) -> u64 {
        let head = Header {
            detail: Detail::reason(VmaReason::Attach as u8),
            ..self.head(tid, Kind::Pages)
        };
        let mm = self.parts(tid).mm;
        for (area, resident) in areas {
            self.pages(head, mm, &area.shared, &area.pinned);
            let record = Vma {
                head: Header {
                    kind: Kind::Vma as u8,
                    flags: area.vma.head.flags,
                    detail: Detail::reason(VmaReason::Attach as u8),
                    ..head
                },
                mm,
                resident: *resident,
                private: (area.shared.len() + area.pinned.len()) as u64,
                ..area.vma
            };
            self.records.push(wire(&record, &[]));
        }
        head.ts
    }

    /// All that a process is made of has been told.
    pub fn surveyed(&mut self, tid: u32, exe: u64, bounds: Bounds) {
        let record = Surveyed {
            head: self.head(tid, Kind::Surveyed),
            mm: self.parts(tid).mm,
            exe,
            bounds,
        };
        self.records.push(wire(&record, &[]));
    }

    /// The hooks saw a VMA.
    pub fn vma(&mut self, tid: u32, seen: VmaReason, vma: Vma) {
        let head = self.head(tid, Kind::Vma);
        let task = self.task_mut(tid);
        task.serial += 1;
        task.seen = Some((task.parts.mm, vma.start));
        let record = Vma {
            head: Header {
                flags: vma.head.flags,
                detail: Detail::reason(seen as u8),
                ..head
            },
            mm: task.parts.mm,
            serial: task.serial,
            ..vma
        };
        self.records.push(wire(&record, &[]));
    }

    /// The hooks saw a VMA, but its record was lost.
    pub fn lost_vma(&mut self, tid: u32) {
        self.tick();
        self.task_mut(tid).serial += 1;
    }

    /// A fault in the VMA seen last.
    pub fn fault(&mut self, tid: u32, fault: Fault) {
        self.fault_at(0x11, tid, fault);
    }

    /// The same; the levels of its entries are those of `levels`.
    pub fn fault_at(&mut self, levels: u8, tid: u32, fault: Fault) {
        let fault = detailed(fault, |detail| detail.levels = levels);
        let record = Fault {
            head: Header {
                flags: fault.head.flags,
                detail: fault.head.detail,
                ..self.head(tid, Kind::Fault)
            },
            vma: self.tasks[&tid].serial,
            ..fault
        };
        self.records.push(wire(&record, &[]));
    }

    /// A page at `address` of `vma` is read, which is told of with it.
    pub fn touch(&mut self, tid: u32, vma: Vma, address: u64) {
        self.vma(tid, VmaReason::Fault, vma);
        self.fault(tid, minor(READ, address, 0, ro(0x99)));
    }

    /// A fault in a VMA, which is told of if the thread's last one was in another.
    pub fn fault_in(&mut self, tid: u32, vma: Vma, fault: Fault) {
        let task = &self.tasks[&tid];
        if !self.summary && task.seen != Some((task.parts.mm, vma.start)) {
            self.vma(tid, VmaReason::Fault, vma);
        }
        self.fault(tid, fault);
    }

    /// A write to a page of [`heap`] is copied. `frame` is what the old frame is, and how often it is mapped.
    pub fn copies_frame(&mut self, tid: u32, page: u64, (frame, map_count): (Frame, u32)) {
        let new = 0x10_0000 + self.now;
        let fault = minor(WRITE, heap_page(page) + 8, ro(0x1000 + page), rw(new));
        self.fault_in(tid, heap(), of_frame(fault, frame, map_count));
    }

    /// A write to a page of [`heap`] is copied, as so many map it.
    pub fn copies(&mut self, tid: u32, page: u64, map_count: u32) {
        self.copies_frame(tid, page, (Frame::Anonymous, map_count));
    }

    /// A write to a page of [`heap`] takes it over.
    pub fn takes_over(&mut self, tid: u32, page: u64) {
        let fault = minor(WRITE, heap_page(page), ro(0x1000 + page), rw(0x1000 + page));
        self.fault_in(tid, heap(), of_frame(fault, Frame::Anonymous, 1));
    }

    /// A write finds a page of [`heap`] untouched.
    pub fn fills(&mut self, tid: u32, page: u64) {
        let fault = minor(WRITE, heap_page(page), 0, rw(0x20_0000 + page));
        self.fault_in(tid, heap(), fault);
    }

    /// A mapping call has returned.
    pub fn call(&mut self, tid: u32, number: u32, args: [u64; 6], ret: i64) {
        self.call_by(tid, number, args, ret, 0);
    }

    /// The same, by a call with these flags.
    pub fn call_by(&mut self, tid: u32, number: u32, args: [u64; 6], ret: i64, flags: u8) {
        let mut record = Call {
            head: self.head(tid, Kind::Call),
            number,
            args,
            ret,
            ..Call::default()
        };
        record.head.flags = flags;
        self.records.push(wire(&record, &[]));
    }
}
