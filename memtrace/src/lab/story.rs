//! For tests: what a judge is given, made by hand.

use super::observed::{Mark, Observed, Snapshot};
use crate::trace::event::{
    Access, Address, ByObject, Clone, Cloned, Copied, Counted, Event, EventKind, Exec, Exit, Fault,
    FaultKind, Mode, Region, Shared,
};

/// Tells a story, an event after the other.
#[derive(Debug, Default)]
pub struct Story {
    seen: Observed,
    now: u64,
}

impl Story {
    /// Something happens to the first thread of a process.
    pub fn event(&mut self, pid: u32, what: EventKind) -> &mut Event {
        self.thread_event(pid, pid, what)
    }

    /// Something happens to a thread.
    pub fn thread_event(&mut self, pid: u32, tid: u32, what: EventKind) -> &mut Event {
        self.now += 1000;
        self.seen.events.push(Event {
            ts: self.now,
            pid,
            tid,
            global: None,
            abi: None,
            comm: "prog".into(),
            what,
        });
        let last = self.seen.events.len() - 1;
        &mut self.seen.events[last]
    }

    /// A process's write fault, in its data, that the kernel counts.
    pub fn fault(
        &mut self,
        pid: u32,
        address: u64,
        kind: FaultKind,
        before: u64,
        after: u64,
    ) -> &mut Fault {
        let fault = Fault {
            addr: Address(address),
            ip: Address(0x40_1000),
            access: Access::Write,
            mode: Mode::User,
            kind,
            region: Region::Data,
            part: None,
            file: None,
            offset: None,
            page_size: 4096,
            pfn_before: Some(before),
            pfn_after: Some(after),
            counted: Some(Counted::Minor),
            signal: None,
            detail: None,
            handled: None,
            cause: None,
            late: 0,
        };
        match &mut self.event(pid, EventKind::Fault(fault)).what {
            EventKind::Fault(fault) => fault,
            _ => unreachable!("it was made here"),
        }
    }

    /// A process makes another, which gets a copy of its address space, or shares it where nothing is copied.
    pub fn birth(&mut self, parent: u32, child: u32, copied: Option<Copied>) -> &mut Clone {
        let clone = Clone {
            call: "clone".into(),
            thread: false,
            child_pid: child,
            child_tid: child,
            child_global: None,
            flags: Vec::new(),
            exit_signal: Some(17),
            ppid: Some(parent),
            shared: Shared {
                mm: copied.is_none(),
                files: false,
                fs: false,
                sighand: false,
                signal: false,
                nsproxy: false,
                cred: false,
                io: false,
                sysvsem: false,
            },
            objects: ByObject::default(),
            fork: copied.map(|_| child),
            copied,
            followed: true,
        };
        match &mut self.event(parent, EventKind::Clone(clone)).what {
            EventKind::Clone(clone) => clone,
            _ => unreachable!("it was made here"),
        }
    }

    /// The call that made a child returns in its parent.
    pub fn cloned(&mut self, parent: u32, child: u32, dur: u64) -> &mut Cloned {
        let cloned = Cloned {
            child_pid: child,
            child_tid: child,
            fork: None,
            dur,
            first: None,
            held: None,
            let_go: None,
        };
        match &mut self.event(parent, EventKind::Cloned(cloned)).what {
            EventKind::Cloned(cloned) => cloned,
            _ => unreachable!("it was made here"),
        }
    }

    /// A process becomes another program.
    pub fn exec(&mut self, pid: u32, file: &str) -> &mut Exec {
        let exec = Exec {
            file: file.to_owned(),
            exe: Some(file.into()),
            args: Vec::new(),
            truncated: false,
            old_tid: None,
        };
        match &mut self.event(pid, EventKind::Exec(exec)).what {
            EventKind::Exec(exec) => exec,
            _ => unreachable!("it was made here"),
        }
    }

    /// A process ends.
    pub fn exit(&mut self, pid: u32, code: Option<u32>, signal: Option<u32>) {
        let exit = Exit {
            code,
            signal,
            core: false,
            thread: false,
            by_exec: None,
        };
        self.event(pid, EventKind::Exit(exit));
    }

    /// The program makes a mark, with values.
    pub fn mark(&mut self, pid: u32, name: &str, values: &[(&str, u64)]) -> &mut Snapshot {
        self.now += 1000;
        self.seen.marks.push(Mark {
            ts: self.now,
            pid,
            tid: pid,
            name: name.to_owned(),
            values: values
                .iter()
                .map(|(key, value)| ((*key).to_owned(), *value))
                .collect(),
            snapshot: Snapshot {
                frames: values.iter().map(|(_, value)| (*value, None)).collect(),
                ..Snapshot::default()
            },
        });
        let last = self.seen.marks.len() - 1;
        &mut self.seen.marks[last].snapshot
    }

    /// The same with pages, as `mark_pages` of lab.h names them; each has a frame, or none.
    pub fn mark_pages(
        &mut self,
        pid: u32,
        name: &str,
        pages: &[(u64, Option<u64>)],
    ) -> &mut Snapshot {
        let names: Vec<_> = (0..pages.len())
            .map(|number| format!("page{number}"))
            .collect();
        let values: Vec<_> = names
            .iter()
            .zip(pages)
            .map(|(name, page)| (name.as_str(), page.0))
            .collect();
        let snapshot = self.mark(pid, name, &values);
        snapshot.frames = pages.iter().copied().collect();
        snapshot
    }

    /// The story so far, to be changed.
    pub fn seen(&mut self) -> &mut Observed {
        &mut self.seen
    }

    /// The story.
    pub fn observed(self) -> Observed {
        self.seen
    }
}

impl Snapshot {
    /// What pagemap shows for the mark's addresses, in their order.
    pub fn frames(&mut self, frames: &[u64]) -> &mut Self {
        for (slot, frame) in self.frames.values_mut().zip(frames) {
            *slot = Some(*frame);
        }
        self
    }
}
