//! What the program `stores` has done: a thread and a child process store to the same pages.

use crate::{
    lab::{
        finding::Undecided,
        observed::{Mark, Observed},
    },
    trace::event::{Clone, Event, Fault, FaultKind},
};

/// What the thread and the child store.
pub const BY_THREAD: u64 = b't' as u64;
pub const BY_CHILD: u64 = b'c' as u64;

/// The program's run.
pub struct Stores<'a> {
    seen: &'a Observed,
    /// Before the thread.
    pub ready: &'a Mark,
    /// The thread has stored.
    pub by_thread: &'a Mark,
    /// The thread is gone, there is no child yet.
    pub after_thread: &'a Mark,
    /// The child has stored.
    pub by_child: &'a Mark,
    /// The child is gone.
    pub after_child: &'a Mark,
    /// The birth of the thread.
    pub thread: (&'a Event, &'a Clone),
    /// The birth of the child.
    pub child: (&'a Event, &'a Clone),
}

impl<'a> Stores<'a> {
    /// The run, if all of it was seen.
    pub fn of(seen: &'a Observed) -> Result<Self, Undecided> {
        let by_thread = seen.mark("thread has stored")?;
        let by_child = seen.mark("child has stored")?;
        Ok(Self {
            seen,
            ready: seen.mark("ready")?,
            by_thread,
            after_thread: seen.mark("after the thread")?,
            by_child,
            after_child: seen.mark("after the child")?,
            thread: seen.birth(by_thread.tid)?,
            child: seen.birth(by_child.tid)?,
        })
    }

    /// The parent's own first store to a page: the frame that it got.
    pub fn first(&self, page: u64) -> Result<(&'a Event, u64), Undecided> {
        self.seen
            .faults_at(self.ready.pid, page)
            .filter(|(event, _)| event.ts < self.ready.ts)
            .filter_map(|(event, fault)| Some((event, fault.pfn_after?)))
            .last()
            .ok_or_else(|| Undecided::because("the parent's first store was not seen"))
    }

    /// The thread's fault at a page that gave it another frame.
    pub fn threads_copy(&self, page: u64) -> Option<(&'a Event, &'a Fault)> {
        self.seen
            .faults_at(self.ready.pid, page)
            .find(|(event, fault)| {
                event.tid == self.by_thread.tid && fault.pfn_after != fault.pfn_before
            })
    }

    /// The child's fault at a page.
    pub fn childs_fault(&self, page: u64) -> Option<(&'a Event, &'a Fault)> {
        let mut faults = self.seen.faults_at(self.by_child.pid, page);
        faults.find(|(event, _)| event.ts < self.by_child.ts)
    }

    /// The child's fault that copied a page.
    pub fn childs_copy(&self, page: u64) -> Option<(&'a Event, &'a Fault)> {
        self.childs_fault(page)
            .filter(|(_, fault)| fault.kind == FaultKind::CowCopy)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::lab::story::Story;

    pub const OWN: u64 = 0x1000;
    pub const COMMON: u64 = 0x2000;

    /// Process 1 has the private page in frame 10, the shared one in frame 20.
    /// Whether the thread, 2, and the child, 3, get a copy of the private page, and the child one of the shared page.
    pub fn story(threads_copy: bool, childs_copy: bool, commons_copy: bool) -> Observed {
        let mut story = Story::default();
        let values = |own: u8, common: u8| {
            let (own, common) = (u64::from(own), u64::from(common));
            [
                ("own", OWN),
                ("common", COMMON),
                ("in_own", own),
                ("in_common", common),
            ]
        };
        let mark = |story: &mut Story, pid, name, at: [u64; 2], reads: [u8; 2]| {
            let snapshot = story.mark(pid, name, &values(reads[0], reads[1]));
            snapshot.frames = [(OWN, Some(at[0])), (COMMON, Some(at[1]))].into();
        };
        story.fault(1, OWN, FaultKind::ZeroFill, 0, 10).pfn_before = None;
        story.fault(1, COMMON, FaultKind::ShmFill, 0, 20).pfn_before = None;
        mark(&mut story, 1, "ready", [10, 20], [b'm', b'm']);

        let thread = story.birth(1, 2, None);
        (thread.thread, thread.child_pid) = (true, 1);
        if threads_copy {
            story.fault(1, OWN, FaultKind::CowCopy, 10, 11);
            story.seen().events.last_mut().expect("one").tid = 2;
        }
        let threads = if threads_copy { 11 } else { 10 };
        mark(
            &mut story,
            1,
            "thread has stored",
            [threads, 20],
            [b't', b'm'],
        );
        story.seen().marks.last_mut().expect("one").tid = 2;
        let found = if threads_copy { b'm' } else { b't' };
        mark(&mut story, 1, "after the thread", [10, 20], [found, b'm']);

        story.birth(1, 3, Some(crate::trace::event::Copied::default()));
        if childs_copy {
            story.fault(3, OWN, FaultKind::CowCopy, 10, 12);
        }
        let childs = if commons_copy { 21 } else { 20 };
        let (kind, before) = if commons_copy {
            (FaultKind::CowCopy, Some(20))
        } else {
            (FaultKind::SharedWrite, None)
        };
        story.fault(3, COMMON, kind, 0, childs).pfn_before = before;
        let own = if childs_copy { 12 } else { 10 };
        mark(
            &mut story,
            3,
            "child has stored",
            [own, childs],
            [b'c', b'c'],
        );
        let found = if childs_copy { found } else { b'c' };
        let common = if commons_copy { b'm' } else { b'c' };
        mark(&mut story, 1, "after the child", [10, 20], [found, common]);
        story.observed()
    }
}
