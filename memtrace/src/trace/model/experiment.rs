//! What only the lab asks for.

use memtrace_ebpf::record::{
    BirthDetail, RETURNED_IN_CHILD, Returned, SWITCH_OUT_RUNNABLE, SwitchIn, SwitchOut,
};
use rustc_hash::FxHashMap as HashMap;

use super::Model;
use crate::trace::{
    event::{self, Address, Both, Event, EventKind},
    names,
};

/// `DEFAULT_PRIO` (`include/linux/sched/prio.h`): that of the nice value 0.
const NICE_0: i32 = 120;

/// Small numbers for objects that each task has for itself, by their addresses: whose each is, too.
#[derive(Default)]
pub(super) struct Numbers {
    known: HashMap<u64, (u32, u32)>,
    count: u32,
}

impl Numbers {
    /// The number of what a task has at an address; none for the address 0, which is none.
    fn of(&mut self, address: u64, tid: u32) -> Option<u32> {
        if let Some((number, _)) = self.known.get(&address) {
            return Some(*number);
        }
        (address != 0).then(|| self.new_number(address, tid))
    }

    /// The same for a task that has just been made. Where a task that lives has it, it is that one's; else it is
    /// another than what was at this address before.
    fn of_new(&mut self, address: u64, tid: u32, lives: impl FnOnce(u32) -> bool) -> Option<u32> {
        match self.known.get(&address) {
            Some((number, owner)) if lives(*owner) => Some(*number),
            _ => (address != 0).then(|| self.new_number(address, tid)),
        }
    }

    fn new_number(&mut self, address: u64, tid: u32) -> u32 {
        self.count += 1;
        self.known.insert(address, (self.count, tid));
        self.count
    }
}

impl Model {
    pub(super) fn born(&mut self, born: &BirthDetail, ts: u64) -> Option<Event> {
        let (parent, child) = (born.head.tid, born.child_tid);
        let ids = self.threads.get(&child)?.ids;
        let lives = |tid| tid != child && self.threads.contains_key(&tid);
        let both = |numbers: &mut Numbers, [of_parent, of_child]: [u64; 2]| Both {
            parent: numbers.of(of_parent, parent),
            child: numbers.of_new(of_child, child, lives),
        };
        let task = both(&mut self.tasks, born.tasks);
        let kernel_stack = both(&mut self.kernel_stacks, born.stacks);
        let known = born.callers.iter().take(born.depth as usize);
        let what = EventKind::BirthDetail(event::BirthDetail {
            child_pid: ids.pid,
            child_tid: ids.tid,
            task,
            kernel_stack,
            callers: known.copied().map(Address).collect(),
        });
        self.event(parent, ts, what)
    }

    pub(super) fn runs(&mut self, runs: &SwitchIn, ts: u64) -> Option<Event> {
        let tid = runs.head.tid;
        let told = runs.static_prio != 0;
        let what = EventKind::SwitchIn(event::SwitchIn {
            cpu: runs.head.cpu.into(),
            task: self.tasks.of(runs.task, tid),
            kernel_stack: self.kernel_stacks.of(runs.stack, tid),
            mm: self
                .mms
                .get(&runs.mm)
                .map(|mm| mm.number)
                .filter(|number| *number != 0),
            tls: Address(runs.thread_pointer),
            policy: told.then(|| names::policy(runs.policy).into()),
            nice: told.then_some(runs.static_prio - NICE_0),
            rt_priority: runs.rt_priority,
        });
        self.event(tid, ts, what)
    }

    pub(super) fn rests(&self, rests: &SwitchOut, ts: u64) -> Option<Event> {
        let what = EventKind::SwitchOut(event::SwitchOut {
            cpu: rests.head.cpu.into(),
            runnable: rests.head.flags & SWITCH_OUT_RUNNABLE != 0,
        });
        self.event(rests.head.tid, ts, what)
    }

    /// A call that made a task returns. Only the lab is told where to.
    pub(super) fn returns(&self, returned: &Returned, ts: u64) -> Option<Event> {
        if returned.ip == 0 {
            return None;
        }
        let what = EventKind::Return(event::Return {
            call: names::call(returned.call).into(),
            in_child: returned.head.flags & RETURNED_IN_CHILD != 0,
            ret: returned.ret,
            ip: Address(returned.ip),
        });
        self.event(returned.head.tid, ts, what)
    }
}
