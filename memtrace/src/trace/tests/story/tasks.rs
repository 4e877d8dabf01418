//! Births, execs and ends of tasks, and what they use.

use std::ops::Range;

use memtrace_ebpf::{
    record::{
        Birth, Bounds, Exec, ExistingTask, Exit, Failed, Gone, Ids, Kind, Objects, Parts,
        RETURNED_IN_CHILD, Rename, Returned, Tally, ThreadSummary, Unobserved,
    },
    syscall,
};

use super::{Area, Story, Task, wire};
use crate::trace::names::flag;

/// Flags of `fork` as libc calls it, of `pthread_create`, and of `vfork`.
pub const FORK: u64 = 0x0120_0011;
pub const PTHREAD: u64 = 0x003d_0f00;
pub const VFORK: u64 = 0x4111;

/// The signal for the child's end, in the flags; the bit above it is `CLONE_NEWTIME` in those of clone3.
const SIGNAL: u64 = 0x7f;

impl Story {
    /// Objects of each kind, all new.
    pub fn all_parts(&mut self) -> Parts {
        let mut new = || self.address();
        Parts {
            mm: new(),
            files: new(),
            fs: new(),
            sighand: new(),
            signal: new(),
            group: new(),
            nsproxy: new(),
            mnt_ns: new(),
            uts_ns: new(),
            ipc_ns: new(),
            pid_ns: new(),
            net_ns: new(),
            cgroup_ns: new(),
            time_ns: new(),
            user_ns: new(),
            cred: new(),
            io: new(),
            sysvsem: new(),
        }
    }

    /// `parent` makes a task of its own kind: by `flags` it is known what of its parts. `mm` is the child's address
    /// space, where it has its own; `areas` are what of it is private.
    pub fn clone_as(
        &mut self,
        parent: u32,
        (pid, tid): (u32, u32),
        (flags, mm): (u64, u64),
        areas: &[Area],
        change: impl FnOnce(&mut Birth),
    ) {
        let began = self.tick();
        let new = self.all_parts();
        let from = self.task_mut(parent);
        if flags & flag::SYSVSEM != 0 && from.parts.sysvsem == 0 {
            // As copy_semundo in ipc/sem.c does.
            from.parts.sysvsem = new.sysvsem;
        }
        let from = *from;
        let real_parent = if flags & (flag::PARENT | flag::THREAD) != 0 {
            from.parent
        } else {
            parent
        };
        let mut record = Birth {
            head: self.head(parent, Kind::Birth),
            parent_pid: from.pid,
            child_pid: pid,
            child_tid: tid,
            exit_signal: if flags & flag::THREAD != 0 {
                -1
            } else {
                (flags & SIGNAL) as i32
            },
            flags: flags & !SIGNAL,
            call: syscall::CLONE,
            followed: 1,
            child_ids: Ids { pid, tid },
            real_parent,
            ppid: self.tasks.get(&real_parent).map_or(0, |of| of.pid),
            began,
            parent: from.parts,
            child: inherited(&from.parts, &Parts { mm, ..new }, flags),
            comm: *b"first\0\0\0\0\0\0\0\0\0\0\0",
            ..Birth::default()
        };
        change(&mut record);
        for area in areas {
            self.forked_area(&record, area);
        }
        self.pids.insert(record.child_tid, record.child_pid);
        self.tasks.insert(
            record.child_tid,
            Task {
                pid: record.child_pid,
                parent: record.real_parent,
                parts: record.child,
                ..Task::default()
            },
        );
        self.records.push(wire(&record, &[]));
    }

    /// `parent` forks a process with an address space of its own.
    pub fn fork(&mut self, parent: u32, pid: u32, mm: u64) {
        self.fork_of(parent, pid, mm, &[]);
    }

    /// The same, leaving pages shared.
    pub fn fork_of(&mut self, parent: u32, pid: u32, mm: u64, areas: &[Area]) {
        self.fork_as(parent, pid, mm, areas, |_| ());
    }

    /// The same, of which `change` says the rest.
    pub fn fork_as(
        &mut self,
        parent: u32,
        pid: u32,
        mm: u64,
        areas: &[Area],
        change: impl FnOnce(&mut Birth),
    ) {
        self.clone_as(parent, (pid, pid), (FORK, mm), areas, change);
    }

    /// `parent` forks a process in its own address space.
    pub fn vfork(&mut self, parent: u32, pid: u32) {
        self.clone_as(parent, (pid, pid), (VFORK, 0), &[], |birth| {
            birth.call = syscall::VFORK;
        });
    }

    /// `parent` starts a thread whose stack has `stack` in it.
    pub fn thread(&mut self, parent: u32, tid: u32, stack: u64) {
        let pid = self.tasks[&parent].pid;
        self.clone_as(parent, (pid, tid), (PTHREAD, 0), &[], |birth| {
            birth.call = syscall::CLONE3;
            birth.stack = stack;
        });
    }

    /// The same, with all of the stack known.
    pub fn thread_on(&mut self, parent: u32, tid: u32, stack: Range<u64>) {
        let pid = self.tasks[&parent].pid;
        self.clone_as(parent, (pid, tid), (PTHREAD, 0), &[], |birth| {
            birth.call = syscall::CLONE3;
            birth.stack = stack.end - 8;
            birth.stack_size = stack.end - stack.start;
        });
    }

    /// A clone that made `child` returns in the parent, `hooked` nanoseconds of which the hooks took.
    pub fn returned(&mut self, parent: u32, child: u32, began: u64, hooked: u64) {
        let record = Returned {
            head: self.head(parent, Kind::Returned),
            began,
            hooked,
            child_tid: child,
            ..Returned::default()
        };
        self.records.push(wire(&record, &[]));
    }

    /// A child is back in user mode for the first time.
    pub fn returned_in_child(&mut self, child: u32) {
        let mut record = Returned {
            head: self.head(child, Kind::Returned),
            ..Returned::default()
        };
        record.head.flags = RETURNED_IN_CHILD;
        self.records.push(wire(&record, &[]));
    }

    /// The thread that was `old_tid` has exec'ed. What it shares with other processes of its files and signal handlers
    /// becomes its own.
    pub fn exec(&mut self, old_tid: u32, mm: u64, exe: u64, bounds: Bounds, args: &[&str]) {
        let task = self.tasks.remove(&old_tid).expect("a thread of the story");
        let tid = task.pid;
        self.tasks.retain(|_, other| other.pid != tid);
        let mut parts = task.parts;
        parts.mm = mm;
        parts.cred = self.address();
        if old_tid != tid {
            parts.group = self.address();
        }
        if self
            .tasks
            .values()
            .any(|other| other.parts.files == parts.files)
        {
            parts.files = self.address();
        }
        if self
            .tasks
            .values()
            .any(|other| other.parts.sighand == parts.sighand)
        {
            parts.sighand = self.address();
        }
        self.tasks.insert(
            tid,
            Task {
                parts,
                seen: None,
                ..task
            },
        );
        let name = b"./prog\0";
        let args: String = args.iter().flat_map(|arg| [*arg, "\0"]).collect();
        let record = Exec {
            head: self.head(tid, Kind::Exec),
            pid: tid,
            old_tid,
            mm,
            exe,
            path: exe,
            bounds,
            name_len: name.len() as u32,
            args_len: args.len() as u32,
            ..Exec::default()
        };
        self.records
            .push(wire(&record, &[name, args.as_bytes()].concat()));
        self.at(record.head.ts, |story| {
            story.objects(tid, syscall::EXECVE, |_| ());
        });
    }

    /// The same of a program of which only the memory matters.
    pub fn execs(&mut self, tid: u32, mm: u64) {
        self.exec(tid, mm, 0, Bounds::default(), &[]);
    }

    /// An exec of the thread's is under way: it uses the new address space already.
    pub fn in_exec(&mut self, tid: u32, mm: u64) {
        self.task_mut(tid).parts.mm = mm;
    }

    /// A call has changed what the thread uses.
    pub fn objects(&mut self, tid: u32, call: u32, change: impl FnOnce(&mut Parts)) {
        let head = self.head(tid, Kind::Objects);
        let task = self.task_mut(tid);
        change(&mut task.parts);
        let record = Objects {
            head,
            call,
            parts: task.parts,
            ..Objects::default()
        };
        self.records.push(wire(&record, &[]));
    }

    /// A thread that runs already is found; `change` says what of it isn't as usual.
    pub fn found(
        &mut self,
        pid: u32,
        tid: u32,
        parts: Parts,
        change: impl FnOnce(&mut ExistingTask),
    ) {
        let mut record = ExistingTask {
            head: self.head(tid, Kind::ExistingTask),
            pid,
            parent_pid: 1,
            ids: Ids { pid, tid },
            parts,
            comm: *b"server\0\0\0\0\0\0\0\0\0\0",
            ..ExistingTask::default()
        };
        change(&mut record);
        let task = Task {
            pid,
            parts,
            ..Task::default()
        };
        self.pids.insert(tid, task.pid);
        self.tasks.insert(tid, task);
        self.records.push(wire(&record, &[]));
    }

    /// The kernel counted faults without an exception.
    pub fn unobserved(&mut self, tid: u32, call: u32, minor: u32, major: u32) {
        let record = Unobserved {
            head: self.head(tid, Kind::Unobserved),
            call,
            minor,
            major,
            ..Unobserved::default()
        };
        self.records.push(wire(&record, &[]));
    }

    pub fn rename(&mut self, tid: u32, name: &str) {
        let mut record = Rename {
            head: self.head(tid, Kind::Rename),
            ..Rename::default()
        };
        record.comm[..name.len()].copy_from_slice(name.as_bytes());
        self.records.push(wire(&record, &[]));
    }

    /// A clone or an exec fails, of which `change` says the rest.
    pub fn failed(&mut self, tid: u32, call: u32, name: &str, change: impl FnOnce(&mut Failed)) {
        let name = if name.is_empty() {
            Vec::new()
        } else {
            [name.as_bytes(), b"\0"].concat()
        };
        let mut record = Failed {
            head: self.head(tid, Kind::Failed),
            call,
            name_len: name.len() as u32,
            ..Failed::default()
        };
        change(&mut record);
        self.records.push(wire(&record, &name));
    }

    pub fn exit(&mut self, tid: u32, status: u32) {
        self.exit_by(tid, status, 0);
    }

    /// A thread exits, as another of its process execs if `by_exec` isn't 0.
    pub fn exit_by(&mut self, tid: u32, status: u32, by_exec: u32) {
        let record = Exit {
            head: self.head(tid, Kind::Exit),
            status,
            by_exec,
        };
        self.records.push(wire(&record, &[]));
    }

    pub fn gone(&mut self, tid: u32, tally: Tally) {
        let record = Gone {
            head: self.head(tid, Kind::Gone),
            known: known(*self.pids.get(&tid).unwrap_or(&tid), tid, tally),
        };
        self.records.push(wire(&record, &[]));
    }

    /// A thread exits, and is gone.
    pub fn ends(&mut self, tid: u32) {
        self.ends_with(tid, Tally::default());
    }

    /// The same of one on which this was counted.
    pub fn ends_with(&mut self, tid: u32, tally: Tally) {
        self.exit(tid, 0);
        self.gone(tid, tally);
        self.tasks.remove(&tid);
    }
}

/// What the hooks know of a thread.
pub fn known(pid: u32, tid: u32, tally: Tally) -> ThreadSummary {
    ThreadSummary {
        tally,
        pid,
        tid,
        ids: Ids { pid, tid },
        comm: *b"known\0\0\0\0\0\0\0\0\0\0\0",
    }
}

/// What a clone gives a child: the parent's, or `new` ones (`copy_process` in `kernel/fork.c`).
pub fn inherited(parent: &Parts, new: &Parts, flags: u64) -> Parts {
    let shared_if = |bit, parent, new| if flags & bit != 0 { parent } else { new };
    let new_if = |bit, parent, new| if flags & bit != 0 { new } else { parent };
    Parts {
        mm: shared_if(flag::VM, parent.mm, new.mm),
        files: shared_if(flag::FILES, parent.files, new.files),
        fs: shared_if(flag::FS, parent.fs, new.fs),
        sighand: shared_if(flag::SIGHAND, parent.sighand, new.sighand),
        signal: shared_if(flag::THREAD, parent.signal, new.signal),
        group: shared_if(flag::THREAD, parent.group, new.group),
        nsproxy: new_if(flag::ANY_NS, parent.nsproxy, new.nsproxy),
        mnt_ns: new_if(flag::NEWNS, parent.mnt_ns, new.mnt_ns),
        uts_ns: new_if(flag::NEWUTS, parent.uts_ns, new.uts_ns),
        ipc_ns: new_if(flag::NEWIPC, parent.ipc_ns, new.ipc_ns),
        pid_ns: new_if(flag::NEWPID, parent.pid_ns, new.pid_ns),
        net_ns: new_if(flag::NEWNET, parent.net_ns, new.net_ns),
        cgroup_ns: new_if(flag::NEWCGROUP, parent.cgroup_ns, new.cgroup_ns),
        time_ns: new_if(flag::NEWTIME, parent.time_ns, new.time_ns),
        user_ns: new_if(flag::NEWUSER, parent.user_ns, new.user_ns),
        cred: shared_if(flag::THREAD, parent.cred, new.cred),
        io: shared_if(flag::IO, parent.io, 0),
        sysvsem: shared_if(flag::SYSVSEM, parent.sysvsem, 0),
    }
}
