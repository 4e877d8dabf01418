//! Tasks that ran already when memtrace attached to them.

use std::sync::Arc;

use memtrace_ebpf::record::{ExistingTask, Ids, Surveyed, Vma};

use super::{Mm, Model, existing, global, loader::found_bss, until_nul};
use crate::trace::{
    event::{self, By, Event, EventKind, TaskLifetime},
    objects::Means,
    region::{Mapped, Survey},
};

use super::birth::shown;

impl Model {
    /// A thread is traced from now on.
    pub(super) fn task(&mut self, task: &ExistingTask, ts: u64, events: &mut Vec<Event>) {
        let (pid, tid) = (task.pid, task.head.tid);
        if self.is_of(tid, pid) {
            // Its birth has been seen: it was in the kernel's list a moment before.
            return;
        }
        let ids = shown(task.ids, pid, tid);
        let comm: Arc<str> = until_nul(&task.comm).into();
        let changes = self
            .objects
            .observe(tid, &task.parts, None, Means::Found, ts);
        self.meet(Ids { pid, tid }, ids, comm.clone(), ts);
        self.lives.changed(tid, &changes, ts);
        let mm = self.mms.entry(task.parts.mm).or_insert_with(|| Mm {
            before: true,
            survey: Some(Box::default()),
            ..Mm::default()
        });
        mm.users.push(tid);
        mm.running += 1;
        self.add_thread(Ids { pid, tid }, ids, 0, comm, task.parts.mm, ts);
        self.number_mm(tid, task.parts.mm);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.counts.base(task.min_flt, task.maj_flt);
        }
        let what = EventKind::ExistingTask(event::ExistingTask {
            ppid: task.parent_pid,
            objects: self.objects.numbers(tid),
            resident: None,
            private: None,
        });
        let event = self.event(tid, ts, what);
        if let Some(mm) = self.mms.get_mut(&task.parts.mm)
            && let Some(survey) = &mut mm.survey
            && survey.leader.is_none()
        {
            // With what it is made of, which comes next.
            survey.leader = event;
        } else {
            events.extend(event);
        }
    }

    /// The life of a task begins in which it is known, though nobody has told of its birth.
    pub(super) fn meet(&mut self, own: Ids, ids: Ids, comm: Arc<str>, ts: u64) {
        let life = TaskLifetime {
            pid: ids.pid,
            tid: ids.tid,
            global: global(ids, own.pid, own.tid),
            comm,
            from: ts,
            ..TaskLifetime::default()
        };
        self.lives.begin(own.tid, None, life);
    }

    /// Whether a thread that lives is known, and is one of this process.
    pub(super) fn is_of(&self, tid: u32, pid: u32) -> bool {
        self.threads
            .get(&tid)
            .is_some_and(|thread| thread.pid == pid && !thread.exited)
    }

    /// An address space is gone before all was told that it is made of: the event of its first thread, with what there
    /// is.
    pub(super) fn survey_ends(&mut self, address: u64) -> Option<Event> {
        let mm = self.mms.get_mut(&address).filter(|mm| mm.running == 0)?;
        mm.survey.take()?.leader
    }

    /// What each thread's last fault fell into may be something else, as far as is known now.
    fn rename_mapped(&mut self, address: u64, vmas: &[Vma]) {
        let Some(mm) = self.mms.get(&address) else {
            return;
        };
        for user in &mm.users {
            if let Some(thread) = self.threads.get_mut(user)
                && let Some(mapped) = &thread.vma
                && let Ok(at) = vmas.binary_search_by_key(&mapped.start(), |vma| vma.start)
            {
                let serial = mapped.serial;
                let vma = Vma { serial, ..vmas[at] };
                thread.vma = Some(Mapped::new(&vma, mm, &mut self.files));
            }
        }
    }

    /// All that a process's address space is made of has been told.
    pub(super) fn surveyed(&mut self, surveyed: &Surveyed, ts: u64, events: &mut Vec<Event>) {
        let tid = surveyed.head.tid;
        let mut pending = self.pending.remove(&surveyed.mm).unwrap_or_default();
        let Some(mm) = self.mms.get_mut(&surveyed.mm) else {
            return;
        };
        mm.exe = surveyed.exe;
        mm.bounds = surveyed.bounds;
        mm.find_base(&pending.vmas);
        let Some(survey) = mm.survey.take() else {
            return;
        };
        let Survey { leader, came } = *survey;
        // What came while the pages were being counted, before their turn, isn't what was there: the events tell of it.
        let came = came & &pending.present;
        for vma in &mut pending.vmas {
            let pages = vma.start >> super::PAGE_SHIFT..vma.end >> super::PAGE_SHIFT;
            let came = came.range_cardinality(pages);
            vma.private = vma.private.saturating_sub(came);
            vma.resident = vma.resident.saturating_sub(came);
        }
        self.rename_mapped(surveyed.mm, &pending.vmas);
        let total = |of: fn(&memtrace_ebpf::record::Vma) -> u64| pending.vmas.iter().map(of).sum();
        if let Some(mut leader) = leader {
            if let EventKind::ExistingTask(task) = &mut leader.what {
                task.resident = Some(total(|vma| vma.resident));
                task.private = Some(total(|vma| vma.private));
            }
            leader.ts = ts;
            events.push(leader);
        }
        // All processes are taken under trace before the first is surveyed: so who shares what is known.
        let users = self.mms.get(&surveyed.mm).map(|mm| mm.users.clone());
        for user in users.unwrap_or_default() {
            let joined = self.objects.shared(user);
            events.extend(self.share(user, ts, "attach", joined));
        }
        let told = self.threads.get(&tid).map(|thread| thread.ids.pid);
        let told = told.and_then(|pid| self.found.remove(&pid));
        if let Some(mm) = self.mms.get_mut(&surveyed.mm) {
            mm.bss = found_bss(
                &pending.vmas,
                mm,
                &told.unwrap_or_default(),
                &mut self.files,
            );
        }
        for vma in &pending.vmas {
            let Some(mm) = self.mms.get(&surveyed.mm) else {
                break;
            };
            let mapped = Mapped::new(vma, mm, &mut self.files);
            let first = mapped.first(Some(&mm.bss));
            let what = EventKind::Mmap(existing(vma, first, By::Attach));
            events.extend(self.event(tid, ts, what));
        }
    }
}
