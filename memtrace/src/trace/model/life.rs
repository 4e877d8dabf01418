//! What becomes of tasks: execs, changes of what they use, and ends.

use memtrace_ebpf::{
    record::{EXEC_TRUNCATED, Exec, Exit, FAILED_FATALLY, Failed, Gone, Ids},
    syscall,
};

use super::{Mm, Model, Thread, by_call, until_nul};
use crate::trace::{
    event::{self, ByObject, Event, EventKind, ObjectReleased, VforkRelease},
    names::{self, flag},
    objects::Means,
    sharing::Leave,
};

/// In a wait status: the kernel wrote a core dump.
const CORE_DUMPED: u32 = 0x80;
/// In the flags of clone: the signal for the child's end.
const CSIGNAL: u64 = 0xff;
/// A directory that a name is relative to: the working directory.
const AT_FDCWD: i32 = -100;

impl Model {
    pub(super) fn exec(&mut self, exec: &Exec, strings: &[u8], ts: u64, events: &mut Vec<Event>) {
        let tid = exec.head.tid;
        let old_tid = (exec.old_tid != tid).then(|| self.shown(exec.old_tid));
        if exec.old_tid != tid
            && let Some(thread) = self.threads.remove(&exec.old_tid)
        {
            // Its id is the process's now.
            let ids = Ids {
                tid: thread.ids.pid,
                ..thread.ids
            };
            let thread = Thread { ids, ..thread };
            if let Some(leader) = self.threads.insert(tid, thread) {
                self.replaced.insert(tid, leader);
                self.ended(tid, ts);
            }
            self.objects.renumber(exec.old_tid, tid);
            if let Some(thread) = self.threads.get(&tid) {
                let (shown, global) = (thread.ids.tid, thread.global(tid));
                self.lives.renumber(exec.old_tid, tid, shown, global);
            }
        }
        let Some(thread) = self.threads.get(&tid) else {
            return;
        };
        let (pid, old_mm) = (thread.ids.pid, thread.mm);
        self.left_by_exec(pid, exec.old_tid, old_mm);
        let let_go = self.let_go(tid, VforkRelease::Exec, ts);
        if let Some(mm) = self.mms.get_mut(&old_mm) {
            mm.running = mm.running.saturating_sub(1);
        }
        if let Some(event) = self.survey_ends(old_mm) {
            events.push(Event { ts, ..event });
        }
        self.leave_mm(old_mm, exec.old_tid);
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        thread.mm = exec.mm;
        thread.vma = None;
        thread.loading = None;
        thread.cloning = None;
        if let Some(process) = self.processes.get_mut(&thread.pid) {
            process.comm = thread.comm.clone();
            self.sharing.named(process.fork, thread.comm.clone());
            // An exec of the program's own has none.
            let (minor, major) = (exec.pre_exec_minor.into(), exec.pre_exec_major.into());
            process.counts.before_exec(minor, major);
        }
        let mm = Mm {
            exe: exec.exe,
            bounds: exec.bounds,
            base: exec.bounds.start_code,
            users: vec![tid],
            running: 1,
            ..Mm::default()
        };
        self.new_mm(exec.mm, mm);
        let Some((name, args)) = strings.split_at_checked(exec.name_len as usize) else {
            return;
        };
        let args = args.strip_suffix(b"\0").unwrap_or(args);
        let what = EventKind::Exec(event::Exec {
            file: until_nul(name),
            exe: self.files.path(exec.path),
            args: if exec.args_len == 0 {
                Vec::new()
            } else {
                args.split(|byte| *byte == 0)
                    .map(|arg| String::from_utf8_lossy(arg).into_owned())
                    .collect()
            },
            truncated: exec.head.flags & EXEC_TRUNCATED != 0,
            old_tid,
        });
        let event = self.event(tid, ts, what);
        events.extend(event.map(|event| by_call(event, &exec.head)));
        events.extend(let_go);
    }

    /// A clone or an exec has failed.
    pub(super) fn failed(&mut self, failed: &Failed, name: &[u8], ts: u64) -> Option<Event> {
        let fatal = failed.head.flags & FAILED_FATALLY != 0;
        let exe = fatal.then(|| self.files.path(failed.path)).flatten();
        let flags = match failed.call {
            syscall::CLONE => failed.flags & !CSIGNAL & u64::from(u32::MAX),
            syscall::VFORK => flag::VM | flag::VFORK,
            _ => failed.flags,
        };
        let what = EventKind::Failed(event::Failed {
            call: names::call(failed.call).into(),
            file: (!name.is_empty()).then(|| named(failed, until_nul(name))),
            exe,
            flags: syscall::makes_task(failed.call).then(|| names::clone(flags)),
            fatal,
            ret: failed.ret,
        });
        let event = self.event(failed.head.tid, ts, what);
        event.map(|event| by_call(event, &failed.head))
    }

    /// A call, or an exec, may have changed which objects a task uses.
    pub(super) fn objects_changed(
        &mut self,
        record: &memtrace_ebpf::record::Objects,
        ts: u64,
        events: &mut Vec<Event>,
    ) {
        let tid = record.head.tid;
        if !self.threads.contains_key(&tid) {
            return;
        }
        let (by, means) = match record.call {
            syscall::EXECVE => ("exec", Means::Made),
            syscall::SETNS => ("setns", Means::Found),
            call => (names::call(call), Means::Made),
        };
        if record.call == syscall::EXECVE {
            self.objects.new_leader(tid, record.parts.group);
        }
        let (changes, left, joined) = self.objects.change(tid, &record.parts, means, ts);
        self.lives.changed(tid, &changes, ts);
        self.number_mm(tid, record.parts.mm);
        events.extend(self.unshare(tid, ts, by, left));
        events.extend(self.share(tid, ts, by, joined));
    }

    pub(super) fn exit(&mut self, exit: Exit, ts: u64, events: &mut Vec<Event>) {
        let tid = exit.head.tid;
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        thread.exited = true;
        let mm_address = thread.mm;
        let Some(process) = self.processes.get_mut(&thread.pid) else {
            return;
        };
        process.running = process.running.saturating_sub(1);
        let thread = process.running > 0;
        let signal = exit.status & 0x7f;
        let by_exec = (exit.by_exec != 0).then(|| self.shown(exit.by_exec));
        let what = EventKind::Exit(event::Exit {
            code: (signal == 0 && by_exec.is_none()).then_some(exit.status >> 8 & 0xff),
            signal: (signal != 0).then_some(signal),
            core: signal != 0 && exit.status & CORE_DUMPED != 0,
            thread,
            by_exec,
        });
        let killed = signal != 0 || by_exec.is_some();
        events.extend(self.event(tid, ts, what));
        events.extend(self.let_go(tid, VforkRelease::Exit, ts));
        events.extend(self.held_parent_dies(tid, killed, ts));
        if let Some(mm) = self.mms.get_mut(&mm_address) {
            // It is left when they are all gone: their ends write to it yet (exit_mm_release in kernel/fork.c).
            mm.running = mm.running.saturating_sub(1);
            mm.exited = ts;
        }
        if let Some(event) = self.survey_ends(mm_address) {
            events.push(Event { ts, ..event });
        }
        let left = self.ended(tid, ts);
        events.extend(self.unshare(tid, ts, "exit", left));
    }

    /// A task uses nothing any more. What it shared with others to the end.
    fn ended(&mut self, tid: u32, ts: u64) -> ByObject<ObjectReleased> {
        let left = self.objects.end(tid);
        self.lives.end(tid, ts);
        ByObject(left)
    }

    pub(super) fn gone(&mut self, gone: &Gone, ts: u64) {
        let tid = gone.head.tid;
        let (thread, replaced) = match self.replaced.remove(&tid) {
            Some(thread) => (Some(thread), true),
            None => (self.threads.remove(&tid), false),
        };
        // Of one whose birth was lost there is only this.
        let process = self.counted(&gone.known, ts);
        process.leader_gone |= tid == gone.known.pid;
        match thread {
            Some(thread) => self.leaves(&thread, tid, replaced, ts),
            None => self.lives.missed(),
        }
        self.close_if_over(gone.known.pid, ts);
    }

    pub(super) fn close_if_over(&mut self, pid: u32, ts: u64) {
        let process = self.processes.get(&pid);
        if process.is_some_and(|process| process.threads == 0)
            && let Some(process) = self.processes.remove(&pid)
        {
            self.close(pid, process, ts);
        }
    }

    /// A thread is no more.
    pub(super) fn leaves(&mut self, thread: &Thread, tid: u32, replaced: bool, ts: u64) {
        if !replaced {
            self.ended(tid, ts);
        }
        if !thread.exited
            && let Some(mm) = self.mms.get_mut(&thread.mm)
        {
            mm.running = mm.running.saturating_sub(1);
        }
        self.leave_mm(thread.mm, tid);
        let Some(process) = self.processes.get_mut(&thread.pid) else {
            return;
        };
        process.threads = process.threads.saturating_sub(1);
        if !thread.exited {
            process.running = process.running.saturating_sub(1);
        }
    }

    /// There is a new address space. It may lie where another was: the kernel frees that before the last thread that had it
    /// is gone, and before the record of an exec that has left it.
    pub(super) fn new_mm(&mut self, address: u64, mm: Mm) {
        let Some(before) = self.mms.insert(address, mm) else {
            return;
        };
        self.by_number.remove(&before.number);
        if before.running > 0 {
            for user in &before.users {
                if let Some(thread) = self.threads.get(user) {
                    self.sharing.execed(before.number, thread.ids.pid);
                }
            }
            self.sharing.left(before.number, Leave::Exec);
        } else if before.number != 0 {
            self.sharing.left(before.number, Leave::Exit);
        }
        for user in before.users {
            let replaced = self.replaced.get_mut(&user);
            for thread in replaced.into_iter().chain(self.threads.get_mut(&user)) {
                if thread.mm == address {
                    thread.mm = 0;
                }
            }
        }
    }

    /// A thread uses an address space no longer.
    fn leave_mm(&mut self, mm: u64, tid: u32) {
        if let Some(known) = self.mms.get_mut(&mm) {
            known.users.retain(|user| *user != tid);
            known.stacks.retain(|(owner, _)| *owner != tid);
            if known.users.is_empty() {
                let number = known.number;
                self.mms.remove(&mm);
                self.by_number.remove(&number);
                self.sharing.left(number, Leave::Exit);
            }
        }
    }
}

/// What the kernel calls the file that was to run (`alloc_bprm` in `fs/exec.c`): the event of an exec names it so, too.
fn named(failed: &Failed, name: String) -> String {
    let dirfd = failed.dirfd;
    if failed.call != syscall::EXECVEAT || dirfd == AT_FDCWD || name.starts_with('/') {
        name
    } else if name.is_empty() {
        format!("/dev/fd/{dirfd}")
    } else {
        format!("/dev/fd/{dirfd}/{name}")
    }
}
