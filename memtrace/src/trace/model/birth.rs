//! Births: who made whom, what both share, how long it took.

use std::{ops::Range, sync::Arc};

use memtrace_ebpf::{
    record::{Birth, Ids, Parts, RETURNED_IN_CHILD, Returned},
    syscall,
};

use super::{Mm, Model, Thread, by_call, global, until_nul};
use crate::trace::{
    event::{self, Cloned, Copied, Event, EventKind, First, Shared, TaskLifetime, VforkRelease},
    matrix::matrix,
    names::{self, flag},
    objects::Means,
};

/// A clone whose return in the parent is to come.
pub(super) struct Cloning {
    child: u32,
    child_ids: Ids,
    fork: Option<u32>,
    born: u64,
    followed: bool,
    vfork: bool,
    /// Whether the child is back in user mode.
    child_returned: bool,
    let_go: Option<VforkRelease>,
    /// Its return: how long the call took, and how long the parent was held. Kept until it is known what let it go.
    returned: Option<(u64, u64)>,
}

/// Ids as a reader sees them: those of memtrace's pid namespace, where the task is in it.
pub(super) fn shown(ids: Ids, pid: u32, tid: u32) -> Ids {
    if ids.pid == 0 || ids.tid == 0 {
        Ids { pid, tid }
    } else {
        ids
    }
}

impl Model {
    pub(super) fn birth(&mut self, birth: &Birth, ts: u64, events: &mut Vec<Event>) {
        let (parent_tid, child_tid) = (birth.head.tid, birth.child_tid);
        let adopted = self
            .threads
            .get(&child_tid)
            .is_some_and(|thread| thread.parent == 0);
        if adopted && self.is_of(child_tid, birth.child_pid) {
            // The attach has taken it out of the kernel's list a moment before.
            return;
        }
        let is_thread = birth.flags & flag::THREAD != 0;
        self.ids_come_again(birth.child_pid, child_tid, is_thread, ts);
        let ids = shown(birth.child_ids, birth.child_pid, child_tid);
        let known = self.threads.contains_key(&parent_tid);
        if known {
            // What the parent has come by without a call that is looked at, such as an I/O context.
            let changes = self
                .objects
                .observe(parent_tid, &birth.parent, None, Means::Made, ts);
            self.lives.changed(parent_tid, &changes, ts);
        }
        let parent = known.then_some(parent_tid);
        let changes = self
            .objects
            .observe(child_tid, &birth.child, parent, Means::Made, ts);
        let comm: Arc<str> = self.threads.get(&parent_tid).map_or_else(
            || until_nul(&birth.comm).into(),
            |parent| parent.comm.clone(),
        );
        if birth.followed != 0 {
            self.add(birth, ids, comm.clone(), ts);
            let parent = self.parent_of(birth);
            let life = TaskLifetime {
                pid: ids.pid,
                tid: ids.tid,
                global: global(ids, birth.child_pid, child_tid),
                parent: parent.map(|parent| self.shown(parent)),
                comm,
                from: ts,
                ..TaskLifetime::default()
            };
            self.lives.begin(child_tid, parent, life);
            self.lives.changed(child_tid, &changes, ts);
            self.number_mm(child_tid, birth.child.mm);
        }
        let fork = known.then(|| self.forked(birth, ids, ts)).flatten();
        if let Some(event) = self.clone_event(birth, ids, fork, ts) {
            events.push(event);
            let joined = self.objects.shared(child_tid);
            events.extend(self.share(child_tid, ts, "clone", joined));
        }
        let number = fork.map(|(number, _)| number);
        if let (Some(number), Some(process)) = (number, self.processes.get_mut(&birth.child_pid)) {
            process.fork = number;
            self.sharing.named(number, process.comm.clone());
        }
        if let Some(parent) = self.threads.get_mut(&parent_tid)
            && let Some(cloning) = parent.cloning.as_deref_mut()
            && cloning.vfork
            && cloning.followed
        {
            // It goes on, so it was let go: by an exec, as an exit would have been told before.
            cloning.let_go.get_or_insert(VforkRelease::Exec);
        }
        events.extend(self.finish_cloning(parent_tid, ts));
        if let Some(parent) = self.threads.get_mut(&parent_tid) {
            parent.cloning = Some(Box::new(Cloning {
                child: child_tid,
                child_ids: ids,
                fork: number,
                born: ts,
                followed: birth.followed != 0,
                vfork: birth.flags & flag::VFORK != 0,
                child_returned: false,
                let_go: None,
                returned: None,
            }));
        }
        if birth.followed == 0 {
            self.objects.end(child_tid);
        }
    }

    /// The traced thread whose child is born. A thread is put below the one that made it.
    fn parent_of(&self, birth: &Birth) -> Option<u32> {
        let parent = if birth.flags & flag::THREAD != 0 {
            birth.head.tid
        } else {
            birth.real_parent
        };
        self.threads.contains_key(&parent).then_some(parent)
    }

    /// The event of a birth. The first process is memtrace's own child: its parent isn't traced, and this no event.
    fn clone_event(
        &self,
        birth: &Birth,
        ids: Ids,
        fork: Option<(u32, Copied)>,
        ts: u64,
    ) -> Option<Event> {
        let thread = birth.flags & flag::THREAD != 0;
        let what = EventKind::Clone(event::Clone {
            call: match birth.call {
                syscall::FORK => "fork",
                syscall::VFORK => "vfork",
                syscall::CLONE => "clone",
                syscall::CLONE3 => "clone3",
                _ => "kernel",
            }
            .into(),
            thread,
            child_pid: ids.pid,
            child_tid: ids.tid,
            child_global: global(ids, birth.child_pid, birth.child_tid).map(Into::into),
            flags: names::clone(birth.flags),
            exit_signal: (!thread && birth.exit_signal > 0).then_some(birth.exit_signal),
            ppid: (!thread).then_some(birth.ppid),
            shared: shared(&birth.parent, &birth.child),
            objects: matrix(birth, &self.objects),
            fork: fork.map(|(number, _)| number),
            copied: fork.map(|(_, copied)| copied),
            followed: birth.followed != 0,
        });
        let event = self.event(birth.head.tid, ts, what);
        event.map(|event| by_call(event, &birth.head))
    }

    fn add(&mut self, birth: &Birth, ids: Ids, comm: Arc<str>, ts: u64) {
        let inherited = self.mms.get(&birth.parent.mm).map(|mm| Mm {
            users: Vec::new(),
            running: 0,
            number: 0,
            unexplained: Vec::new(),
            survey: None,
            // Only the thread that forks goes on in the child.
            stacks: mm
                .stacks
                .iter()
                .filter(|(tid, _)| *tid == birth.head.tid)
                .cloned()
                .collect(),
            ..mm.clone()
        });
        if birth.child.mm != birth.parent.mm {
            self.new_mm(birth.child.mm, inherited.unwrap_or_default());
        }
        let mm = self.mms.entry(birth.child.mm).or_default();
        mm.users.push(birth.child_tid);
        mm.running += 1;
        if birth.stack != 0 {
            mm.stacks.push((birth.child_tid, stack(birth)));
        }
        self.add_thread(
            Ids {
                pid: birth.child_pid,
                tid: birth.child_tid,
            },
            ids,
            birth.head.tid,
            comm,
            birth.child.mm,
            ts,
        );
    }

    /// Adds a thread, and its process if it is the first of it.
    pub(super) fn add_thread(
        &mut self,
        Ids { pid, tid }: Ids,
        ids: Ids,
        parent: u32,
        comm: Arc<str>,
        mm: u64,
        ts: u64,
    ) {
        let process = self.process(pid, ids.pid, comm.clone(), ts);
        if process.threads == 0 && parent != 0 && pid != tid {
            // A thread of the process has made it: that one's birth was lost.
            process.counts.incomplete();
        }
        process.running += 1;
        process.threads += 1;
        self.threads.insert(
            tid,
            Thread {
                pid,
                ids,
                parent,
                comm,
                mm,
                vma: None,
                loading: None,
                cloning: None,
                exited: false,
            },
        );
    }

    /// A clone has returned.
    pub(super) fn returned(&mut self, returned: Returned, ts: u64, events: &mut Vec<Event>) {
        let tid = returned.head.tid;
        events.extend(self.returns(&returned, ts));
        if returned.head.flags & RETURNED_IN_CHILD != 0 {
            if let Some(cloning) = self.cloning_of(tid) {
                cloning.child_returned = true;
            }
            return;
        }
        let cloning = self
            .threads
            .get_mut(&tid)
            .and_then(|thread| thread.cloning.as_deref_mut())
            .filter(|cloning| cloning.child == returned.child_tid);
        let Some(cloning) = cloning else { return };
        // From the end of the call another task may have had the CPU.
        let end = ts.saturating_sub(returned.waited);
        // The hook at the birth took its time in the parent, before the child could run.
        let since = |begin| end.saturating_sub(begin).saturating_sub(returned.hooked);
        let dur = since(returned.began);
        cloning.returned = Some((dur, since(cloning.born)));
        if let Some(fork) = cloning.fork {
            self.sharing.returned(fork, dur);
        }
        // The child of a vfork lets its parent go a moment before its exec is complete.
        if !cloning.vfork || !cloning.followed || cloning.let_go.is_some() {
            events.extend(self.finish_cloning(tid, ts));
        }
    }

    /// The event of a clone that has returned.
    fn finish_cloning(&mut self, tid: u32, ts: u64) -> Option<Event> {
        let cloning = self.threads.get_mut(&tid)?.cloning.take()?;
        let (dur, held) = cloning.returned?;
        let first = if cloning.child_returned {
            First::Child
        } else {
            First::Parent
        };
        let what = EventKind::Cloned(Cloned {
            child_pid: cloning.child_ids.pid,
            child_tid: cloning.child_ids.tid,
            fork: cloning.fork,
            dur,
            first: cloning.followed.then_some(first),
            held: cloning.vfork.then_some(held),
            let_go: cloning.let_go,
        });
        self.event(tid, ts, what)
    }

    /// The clone that has made this task, while it is under way in the parent.
    fn cloning_of(&mut self, child: u32) -> Option<&mut Cloning> {
        let parent = self.threads.get(&child)?.parent;
        let cloning = self.threads.get_mut(&parent)?.cloning.as_deref_mut()?;
        (cloning.child == child).then_some(cloning)
    }

    /// A child has exec'ed or ended: a parent that vfork holds goes on, or has gone on.
    pub(super) fn let_go(&mut self, child: u32, how: VforkRelease, ts: u64) -> Option<Event> {
        let cloning = self.cloning_of(child).filter(|cloning| cloning.vfork)?;
        cloning.let_go.get_or_insert(how);
        cloning.returned?;
        let parent = self.threads.get(&child)?.parent;
        self.finish_cloning(parent, ts)
    }

    /// A parent ends while it is not known what let it go: vfork's wait ends when it is killed.
    pub(super) fn held_parent_dies(&mut self, tid: u32, killed: bool, ts: u64) -> Option<Event> {
        let cloning = self.threads.get_mut(&tid)?.cloning.as_deref_mut()?;
        if !cloning.vfork {
            return None;
        }
        if killed {
            cloning.let_go.get_or_insert(VforkRelease::Signal);
        }
        if cloning.returned.is_none() {
            let held = ts.saturating_sub(cloning.born);
            cloning.returned = Some((held, held));
        }
        self.finish_cloning(tid, ts)
    }
}

const fn shared(parent: &Parts, child: &Parts) -> Shared {
    const fn same(one: u64, other: u64) -> bool {
        one != 0 && one == other
    }
    Shared {
        mm: same(parent.mm, child.mm),
        files: same(parent.files, child.files),
        fs: same(parent.fs, child.fs),
        sighand: same(parent.sighand, child.sighand),
        signal: same(parent.signal, child.signal),
        nsproxy: same(parent.nsproxy, child.nsproxy),
        cred: same(parent.cred, child.cred),
        io: same(parent.io, child.io),
        sysvsem: same(parent.sysvsem, child.sysvsem),
    }
}

/// The stack that a call gives the child: what is known of it is an address, or all.
fn stack(birth: &Birth) -> Range<u64> {
    let end = birth.stack + 8;
    match birth.stack_size {
        0 => birth.stack..end,
        size => end.saturating_sub(size)..end,
    }
}
