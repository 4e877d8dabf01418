//! What the hooks write of births, execs and ends.

use memtrace_ebpf::{
    record::{
        Birth, Detail, Exec, Exit, Gone, Header, Ids, Kind, Objects, Pages, Parts,
        RETURNED_IN_CHILD, Returned, Tally, Vma, VmaReason,
    },
    syscall,
};

use super::{
    super::story::{FIRST, FORK, MEMTRACE, PTHREAD, heap, known, wire},
    Doing, Machine, Thread,
};

impl Machine {
    fn parts(&self, space: u32) -> Parts {
        Parts {
            mm: self.memory.address(space),
            ..Parts::default()
        }
    }

    fn child(&mut self, space: u32, pid: Option<u32>) -> Thread {
        self.ids += 1;
        Thread {
            tid: self.ids,
            pid: pid.unwrap_or(self.ids),
            space,
            serial: 0,
            seen: 0,
            open: None,
            doing: Doing::Nothing,
            fresh: true,
        }
    }

    /// memtrace starts the first process.
    pub(super) fn first(&mut self) {
        let space = self.memory.new_space();
        let child = Thread {
            fresh: false,
            ..self.child(space, None)
        };
        let record = Birth {
            head: Self::head(MEMTRACE, self.now, Kind::Birth),
            parent_pid: MEMTRACE,
            child_pid: child.pid,
            child_tid: child.tid,
            followed: 1,
            child: self.parts(space),
            ..Birth::default()
        };
        self.promise(0, wire(&record, &[]));
        self.cpus[0].child = Some(child);
    }

    /// A child is complete: one with `copy` for its memory, or a thread.
    pub(super) fn birth(&mut self, cpu: usize, began: u64, copy: Option<u32>) {
        let parent = *self.thread(cpu);
        let child = self.child(
            copy.unwrap_or(parent.space),
            copy.is_none().then_some(parent.pid),
        );
        let head = Self::head(parent.tid, self.now, Kind::Birth);
        let (parent_parts, child_parts) = (self.parts(parent.space), self.parts(child.space));
        match copy {
            Some(copy) => {
                let present = self.memory.present(copy);
                self.seen.forking.push(began..head.ts);
                self.survey(cpu, head, child_parts.mm, &present);
            }
            None => self.memory.join(parent.space),
        }
        let record = Birth {
            head,
            parent_pid: parent.pid,
            child_pid: child.pid,
            child_tid: child.tid,
            exit_signal: 17,
            flags: if copy.is_some() { FORK } else { PTHREAD },
            call: syscall::CLONE,
            followed: 1,
            child_ids: Ids {
                pid: child.pid,
                tid: child.tid,
            },
            real_parent: parent.tid,
            ppid: parent.pid,
            began,
            parent: parent_parts,
            child: child_parts,
            ..Birth::default()
        };
        self.promise(cpu, wire(&record, &[]));
        self.cpus[cpu].child = Some(child);
        self.thread(cpu).doing = Doing::Return {
            began,
            child: child.tid,
        };
    }

    /// The pages that a fork has left shared.
    fn survey(&mut self, cpu: usize, head: Header, mm: u64, present: &[u64]) {
        self.seen.shared += present.len() as u64;
        if present.is_empty() {
            return;
        }
        let first = FIRST / 512 * 512;
        let mut bits = [0; 8];
        for page in present {
            let bit = FIRST + page - first;
            bits[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        let pages = Pages {
            head: Header {
                kind: Kind::Pages as u8,
                ..head
            },
            mm,
            first,
            present: bits,
            writable: [0; 8],
        };
        let vma = Vma {
            head: Header {
                kind: Kind::Vma as u8,
                detail: Detail::reason(VmaReason::Fork as u8),
                ..head
            },
            mm,
            private: present.len() as u64,
            ..heap()
        };
        self.promise(cpu, wire(&pages, &[]));
        self.promise(cpu, wire(&vma, &[]));
    }

    pub(super) fn return_in_parent(&mut self, cpu: usize, began: u64, child_tid: u32) {
        let record = Returned {
            head: Self::head(self.thread(cpu).tid, self.now, Kind::Returned),
            began,
            hooked: 0,
            child_tid,
            ..Returned::default()
        };
        self.thread(cpu).doing = Doing::Nothing;
        self.promise(cpu, wire(&record, &[]));
    }

    pub(super) fn return_in_child(&mut self, cpu: usize) {
        let mut head = Self::head(self.thread(cpu).tid, self.now, Kind::Returned);
        head.flags = RETURNED_IN_CHILD;
        let record = Returned {
            head,
            ..Returned::default()
        };
        self.promise(cpu, wire(&record, &[]));
    }

    /// An exec is complete, after some faults in the new memory.
    pub(super) fn exec(&mut self, cpu: usize, thread: Thread) {
        if self.random.below(2) == 0 {
            let page = self.random.below(super::PAGES);
            self.fault(cpu, page);
            return;
        }
        self.close(cpu);
        let now = self.now;
        let parts = self.parts(thread.space);
        let exec = Exec {
            head: Self::head(thread.pid, now, Kind::Exec),
            pid: thread.pid,
            old_tid: thread.tid,
            mm: parts.mm,
            ..Exec::default()
        };
        let objects = Objects {
            head: Self::head(thread.pid, now, Kind::Objects),
            call: syscall::EXECVE,
            pad: 0,
            parts,
        };
        self.promise(cpu, wire(&exec, &[]));
        self.promise(cpu, wire(&objects, &[]));
        let thread = self.thread(cpu);
        // A thread that was not the first is it now.
        thread.tid = thread.pid;
        thread.seen = 0;
        thread.doing = Doing::Nothing;
    }

    pub(super) fn exit(&mut self, cpu: usize) {
        self.close(cpu);
        let record = Exit {
            head: Self::head(self.thread(cpu).tid, self.now, Kind::Exit),
            ..Exit::default()
        };
        self.thread(cpu).doing = Doing::Exit { left: false };
        self.promise(cpu, wire(&record, &[]));
    }

    pub(super) fn gone(&mut self, cpu: usize, thread: Thread) {
        let record = Gone {
            head: Self::head(thread.tid, self.now, Kind::Gone),
            known: known(thread.pid, thread.tid, Tally::default()),
        };
        self.promise(cpu, wire(&record, &[]));
        self.cpus[cpu].runs = None;
    }
}
