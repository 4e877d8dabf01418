//! What the hooks send for the lab alone.

use memtrace_ebpf::record::{
    BirthDetail, Header, Kind, RETURNED_IN_CHILD, Returned, SwitchIn, SwitchOut,
};

use super::{Story, wire};

impl Story {
    /// A parent has made a child: the `task_struct` and the kernel stack of each.
    pub fn born(&mut self, parent: u32, child: u32, tasks: [u64; 2], stacks: [u64; 2]) {
        let mut record = BirthDetail {
            head: self.head(parent, Kind::BirthDetail),
            child_tid: child,
            depth: 2,
            tasks,
            stacks,
            ..BirthDetail::default()
        };
        record.callers[..3].copy_from_slice(&[0xffff_ffff_8100_0010, 0xffff_ffff_8100_0020, 7]);
        self.records.push(wire(&record, &[]));
    }

    /// A thread gets CPU 1.
    pub fn runs(&mut self, tid: u32, change: impl FnOnce(&mut SwitchIn)) {
        let mut record = SwitchIn {
            head: Header {
                cpu: 1,
                ..self.head(tid, Kind::SwitchIn)
            },
            mm: self.parts(tid).mm,
            ..SwitchIn::default()
        };
        change(&mut record);
        self.records.push(wire(&record, &[]));
    }

    /// It leaves CPU 1.
    pub fn rests(&mut self, tid: u32, flags: u8) {
        let head = Header {
            cpu: 1,
            flags,
            ..self.head(tid, Kind::SwitchOut)
        };
        self.records.push(wire(&SwitchOut { head }, &[]));
    }

    /// A fork returns to this instruction; 0 where that isn't told.
    pub fn returns(&mut self, tid: u32, in_child: bool, ret: i64, ip: u64) {
        let mut record = Returned {
            head: self.head(tid, Kind::Returned),
            call: memtrace_ebpf::syscall::FORK,
            ret,
            ip,
            ..Returned::default()
        };
        if in_child {
            record.head.flags = RETURNED_IN_CHILD;
        }
        self.records.push(wire(&record, &[]));
    }
}
