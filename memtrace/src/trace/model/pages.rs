//! Pages that forks leave shared: what a fork copied, who breaks the sharing, and who gives pages up.

use std::{collections::VecDeque, mem};

use memtrace_ebpf::{
    fault::{Backing, Kind as FaultKind},
    pte::PAGE_SIZE,
    record::{Birth, FAULT_VMA_UNKNOWN, Fault, Frame, Handled, Ids},
};
use rustc_hash::FxHashSet as HashSet;

use super::{Mm, Model, PAGE_SHIFT};
use crate::trace::{
    event::{
        self, Address, Cause, Copied, CowCause, Event, EventKind, ForkAccount, ForkRef,
        NotSurveyed, ObjectKind,
    },
    fault,
    sharing::{Blame, Fork, Leave, Rest},
};

/// Sharers that are named.
const NAMED: usize = 16;
/// Copies that are kept until a fork that was under way may explain them.
const UNEXPLAINED: usize = 4096;

/// Forks with an untraced child that are remembered: as many as have an account of their own.
const KEPT: usize = 10_000;
/// Untraced children that are taken to be there still.
const CHILDREN: usize = 64;

/// Forks whose child isn't traced: nobody sees when it leaves a page.
#[derive(Default)]
pub(super) struct Unfollowed {
    forks: HashSet<u32>,
    /// The address spaces of the latest children.
    children: VecDeque<u32>,
}

impl Unfollowed {
    /// Adds a fork and its child's address space. Returns one that is to be taken for gone, as it may long be.
    fn add(&mut self, fork: u32, child: u32) -> Option<u32> {
        if self.forks.len() < KEPT {
            self.forks.insert(fork);
        }
        self.children.push_back(child);
        (self.children.len() > CHILDREN).then(|| self.children.pop_front())?
    }

    pub(super) fn contains(&self, fork: u32) -> bool {
        self.forks.contains(&fork)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.forks.len() + self.children.len()
    }
}

/// The account of a fork whose child nobody has seen: it may have copied each page that the parent has not.
pub(super) fn child_unseen(fork: &mut ForkAccount) {
    let given_up = mem::take(&mut fork.given_up);
    fork.unknown += given_up.exec + given_up.exit + given_up.munmap;
    for pages in [&mut fork.taken_over, &mut fork.still_shared] {
        fork.unknown += mem::take(pages);
    }
    for area in &mut fork.areas {
        for pages in [
            &mut area.taken_over,
            &mut area.given_up,
            &mut area.still_shared,
        ] {
            area.unknown += mem::take(pages);
        }
    }
}

impl Model {
    /// If a clone copied the address space: the fork's number, and what it copied.
    pub(super) fn forked(&mut self, birth: &Birth, ids: Ids, ts: u64) -> Option<(u32, Copied)> {
        let unknown = birth.child.mm == 0 || birth.parent.mm == 0;
        if unknown || birth.child.mm == birth.parent.mm {
            return None;
        }
        // Not of a thread, whose address space may be one that memtrace is attaching to.
        let pending = self.pending.remove(&birth.child.mm);
        let pending = pending.filter(|pending| pending.ts == birth.head.ts);
        let mut pending = pending.unwrap_or_default();
        self.forks += 1;
        let number = self.forks;
        let parent = self.mm_number(birth.head.tid);
        let child = self.mm_number(birth.child_tid);
        let thread = self.threads.get(&birth.head.tid)?;
        let rest = (birth.unsurveyed != 0).then(|| Rest {
            from: birth.unsurveyed >> PAGE_SHIFT,
            counted: (birth.anonymous != 0).then_some(birth.anonymous),
        });
        if let Some(rest) = rest {
            pending.present.remove_range(rest.from..);
        }
        let fork = Fork {
            number,
            ts,
            parent,
            child,
            parent_pid: thread.ids.pid,
            child_pid: ids.pid,
            parent_comm: thread.comm.clone(),
            table_bytes: birth.table_bytes,
            swapped: birth.swapped,
            rest,
        };
        let at_once = &pending.present & &pending.writable;
        let shared = &pending.present - &at_once;
        self.sharing.fork(fork, pending.areas, &shared, &at_once);
        if birth.followed == 0
            && let Some(oldest) = self.unfollowed.add(number, child)
        {
            self.sharing.left(oldest, Leave::Unseen);
        }
        // A sibling may have copied a page after the fork had shared it, and before the child was complete.
        if let Some(mm) = self.mms.get_mut(&birth.parent.mm) {
            // What it doesn't explain another may that is under way as well.
            mm.unexplained.retain(|&(when, page)| {
                let explained = when >= birth.began && shared.contains(page);
                if explained {
                    self.sharing.copied(parent, page);
                }
                !explained
            });
        }
        let copied = Copied {
            pages: pending.present.len(),
            at_once: at_once.len(),
            swapped: birth.swapped,
            table_bytes: birth.table_bytes,
            not_surveyed: rest.map(|rest| NotSurveyed {
                from: Address(rest.from * PAGE_SIZE),
                pages: rest
                    .counted
                    .map(|counted| counted.saturating_sub(pending.present.len())),
            }),
        };
        Some((number, copied))
    }

    pub(super) fn fault(
        &mut self,
        record: &Fault,
        handled: Option<&Handled>,
        ts: u64,
        events: &mut Vec<Event>,
    ) {
        let tid = record.head.tid;
        let Some(thread) = self.threads.get(&tid) else {
            return;
        };
        let vma = thread.vma.as_ref();
        let bss = vma.and_then(|vma| Some(&self.mms.get(&vma.mm)?.bss));
        let mut fault = fault::event(record, vma, bss, self.zero_pfn, ts);
        // Before an exec is complete, faults are in an address space that has no number yet.
        let of_vma = thread
            .vma
            .as_ref()
            .filter(|vma| vma.serial == record.vma && record.head.flags & FAULT_VMA_UNKNOWN == 0);
        let mm = match (handled, of_vma) {
            (Some(handled), _) => handled.mm,
            (None, Some(vma)) => vma.mm,
            (None, None) => thread.mm,
        };
        let private = of_vma.is_none_or(|vma| {
            matches!(
                vma.backing,
                Backing::Anonymous | Backing::HugeTlb | Backing::PrivateFile
            )
        });
        let pid = thread.pid;
        if let Some(handled) = handled {
            let owner = (mm != thread.mm).then(|| self.owner(mm)).flatten();
            fault.handled = Some(fault::handled(handled, owner));
        }
        self.page_changed(mm, record, &mut fault, private, ts);
        if fault.kind == FaultKind::CowCopy && fault.cause.is_none() {
            // In an address space whose exec is not complete.
            fault.cause = Some(Box::new(without_fork(record)));
        }
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if self.summary {
            // The hooks count.
            return;
        }
        process.counts.fault(fault.kind, fault.counted);
        if let Some(thread) = self.threads.get(&tid) {
            events.push(thread.event(tid, ts, EventKind::Fault(fault)));
        }
    }

    /// The process, as a reader sees it, whose address space it is; the first, if they are several.
    fn owner(&self, mm: u64) -> Option<u32> {
        let users = self.mms.get(&mm)?.users.iter();
        users
            .filter_map(|tid| Some(self.threads.get(tid)?.ids.pid))
            .min()
    }

    /// What a fault means to the sharing of its page; a copy's cause.
    fn page_changed(
        &mut self,
        address: u64,
        record: &Fault,
        fault: &mut event::Fault,
        private: bool,
        ts: u64,
    ) {
        let Some(mm) = self.mms.get_mut(&address) else {
            return;
        };
        let number = mm.number;
        if number != 0 && mm.running == 0 && !mm.users.contains(&record.head.tid) {
            // It is gone, and this is another at the same address, of an exec that isn't complete.
            self.sharing.left(number, Leave::Exit);
            return;
        }
        let page = fault.addr.0 >> PAGE_SHIFT;
        if let Some(survey) = &mut mm.survey
            && private
            && fault.pfn_before.is_none()
            && fault.pfn_after.is_some()
        {
            survey.came.insert(page);
        }
        if number == 0 || !private {
            return;
        }
        let size = fault.page_size / PAGE_SIZE;
        let others = (page & !(size - 1)..=page | (size - 1)).filter(|other| *other != page);
        let of_fork = !matches!(
            Frame::from_number(record.detail().frame.into()),
            Frame::PageCache | Frame::Ksm
        );
        if of_fork && matches!(fault.kind, FaultKind::CowCopy | FaultKind::CowReuse) {
            for page in others.clone().chain([page]) {
                self.sharing
                    .shows_shared(number, page, fault.region, fault.file.as_ref());
            }
        }
        match fault.kind {
            FaultKind::CowCopy => {
                let cause = self.copied(address, number, page, record, ts);
                for other in others {
                    self.drop_exited(number, other, cause.map_count);
                    self.sharing.copied(number, other);
                }
                fault.cause = Some(Box::new(cause));
            }
            FaultKind::CowReuse | FaultKind::UffdWp => {
                for page in others.chain([page]) {
                    self.drop_exited(number, page, Some(1));
                    self.sharing.taken_over(number, page);
                }
            }
            FaultKind::ZeroRead
            | FaultKind::ZeroFill
            | FaultKind::CowZero
            | FaultKind::FileMap
            | FaultKind::FileRead
            | FaultKind::FileCow
            | FaultKind::SwapIn
            | FaultKind::UffdFill => self.sharing.lost(number, page),
            _ => {}
        }
    }

    /// A write has copied a page: why it had to.
    fn copied(&mut self, address: u64, mm: u32, page: u64, record: &Fault, ts: u64) -> Cause {
        let frame = Frame::from_number(record.detail().frame.into());
        let map_count = (frame != Frame::Unknown).then_some(record.map_count);
        let sharers = self.drop_exited(mm, page, map_count);
        let mapped_once = map_count.is_some_and(|count| count <= 1);
        let before = self.mms.get(&address).is_some_and(|mm| mm.before);
        // Whoever else maps the page is nobody who shares it since a fork that was seen.
        let of_others = before && !mapped_once && sharers.is_empty();
        let no_fork = matches!(frame, Frame::Ksm | Frame::PageCache) || of_others;
        let blame = if no_fork {
            self.sharing.lost(mm, page);
            None
        } else {
            self.sharing.copied(mm, page)
        };
        let because = match (frame, blame) {
            (Frame::Ksm, _) => CowCause::Ksm,
            (Frame::PageCache, _) => CowCause::PageCache,
            (_, Some(Blame { reference, .. })) if reference && mapped_once => CowCause::Reference,
            (_, Some(_)) => CowCause::Fork,
            (Frame::Anonymous, None) if mapped_once => CowCause::Reference,
            (Frame::Anonymous, None) if before => CowCause::ForkBefore,
            (_, None) => CowCause::Unknown,
        };
        if matches!(because, CowCause::Unknown | CowCause::ForkBefore)
            && let Some(mm) = self.mms.get_mut(&address)
        {
            if mm.unexplained.len() >= UNEXPLAINED {
                mm.unexplained.drain(..UNEXPLAINED / 2);
            }
            mm.unexplained.push((record.head.ts, page));
        }
        let mut pids: Vec<u32> = sharers
            .iter()
            .filter_map(|&number| self.numbered(number))
            .flat_map(|mm| &mm.users)
            .filter_map(|tid| Some(self.threads.get(tid)?.ids.pid))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        let sharer_count = pids.len() as u32;
        pids.truncate(NAMED);
        Cause {
            cause: because,
            fork: blame.map(|blame| ForkRef {
                number: blame.fork.number,
                parent: blame.fork.parent_pid,
                child: blame.fork.child_pid,
                ago: ts.saturating_sub(blame.fork.ts),
            }),
            sharers: pids,
            sharer_count,
            map_count,
        }
    }

    /// Ends the sharing of a page with address spaces that have left it, as its frame is mapped so often only: those whose
    /// last task has exited, but is not told to be gone yet (`exit_mm` in `kernel/exit.c`). The others, which share it still.
    fn drop_exited(&mut self, mm: u32, page: u64, map_count: Option<u32>) -> Vec<u32> {
        let sharers = self.sharing.sharers(mm, page);
        if map_count.is_none_or(|count| count as usize > sharers.len()) {
            return sharers;
        }
        let runs = |number: &u32| self.numbered(*number).is_some_and(|mm| mm.running > 0);
        let (running, mut exited): (Vec<_>, Vec<_>) = sharers.into_iter().partition(runs);
        exited.sort_by_key(|&number| self.numbered(number).map(|mm| mm.exited));
        self.sharing.exited_at(mm, page, &exited);
        running
    }

    /// The address space with this number, if it is there yet.
    fn numbered(&self, number: u32) -> Option<&Mm> {
        self.mms.get(self.by_number.get(&number)?)
    }

    /// The kernel took faults on the thread's behalf without an exception, in this call: each may have copied a page.
    pub(super) fn unseen(&mut self, tid: u32, by: &str, count: u64) {
        match by {
            // The arguments of the new program, which nobody shares.
            "execve" | "execveat" => {}
            // It may be the memory of another process, written by /proc/PID/mem, too.
            "process_vm_writev" | "ptrace" | "write" | "writev" | "pwrite64" | "pwritev"
            | "pwritev2" => {
                self.sharing.unseen(None, count);
            }
            _ => self.sharing.unseen(Some(self.mm_number(tid)), count),
        }
    }

    /// A thread of the process that is shown as `pid` has left its address space by an exec.
    pub(super) fn left_by_exec(&mut self, pid: u32, tid: u32, address: u64) {
        let Some(mm) = self.mms.get(&address) else {
            return;
        };
        if mm.number == 0 || !mm.users.contains(&tid) {
            return;
        }
        self.sharing.execed(mm.number, pid);
        // After a vfork it is the parent's, too.
        if mm.running <= 1 {
            self.sharing.left(mm.number, Leave::Exec);
        }
    }

    /// The number of a task's address space; 0 for none.
    fn mm_number(&self, tid: u32) -> u32 {
        self.objects.number(tid, ObjectKind::Mm).unwrap_or(0)
    }
}

/// The cause of a copy that no fork is known to have to do with.
fn without_fork(record: &Fault) -> Cause {
    let frame = Frame::from_number(record.detail().frame.into());
    Cause {
        cause: match frame {
            Frame::Ksm => CowCause::Ksm,
            Frame::PageCache => CowCause::PageCache,
            Frame::Anonymous | Frame::Unknown => CowCause::Unknown,
        },
        fork: None,
        sharers: Vec::new(),
        sharer_count: 0,
        map_count: (frame != Frame::Unknown).then_some(record.map_count),
    }
}
