//! The model of what is traced: tasks, address spaces, files; and the events that its changes are.

use memtrace_ebpf::record::Record;
use std::{ops::Range, sync::Arc};

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use memtrace_ebpf::{
    arch::COMPAT_ABI,
    record::{COMPAT_CALL, Header, Ids, Vma, VmaReason},
    syscall,
};

use super::{
    account::{AccountBook, Counts, Process},
    call,
    event::{
        self, Address, By, ByObject, Event, EventKind, Global, Mmap, ObjectReleased, ObjectShared,
        Returned, Share, Unshare,
    },
    files::Files,
    lives::Lifetimes,
    losses::Losses,
    names,
    objects::Objects,
    region::{Location, Mapped, Mm},
    sharing::Sharing,
};

mod attach;
mod birth;
mod experiment;
mod finish;
mod life;
mod loader;
mod lost;
mod memory_call;
mod pages;
mod pending;

use birth::Cloning;
use experiment::Numbers;
pub use finish::Finished;
use loader::Loading;
use pages::Unfollowed;
use pending::Pending;
#[cfg(test)]
pub use pending::SURVEYS;

const PAGE_SHIFT: u32 = 12;

/// A traced thread.
struct Thread {
    /// Its process, by its global id.
    pid: u32,
    /// What a reader sees.
    ids: Ids,
    /// The thread that made it.
    parent: u32,
    comm: Arc<str>,
    mm: u64,
    /// The VMA that its last fault, or its last mapping call, was about.
    vma: Option<Mapped>,
    /// What it is loading.
    loading: Option<Loading>,
    /// The clone that it is in.
    cloning: Option<Box<Cloning>>,
    /// Whether its exit has been seen.
    exited: bool,
}

impl Thread {
    fn global(&self, tid: u32) -> Option<Global> {
        global(self.ids, self.pid, tid)
    }

    /// What happened to it: `tid` is its global id.
    fn event(&self, tid: u32, ts: u64, what: EventKind) -> Event {
        Event {
            ts,
            pid: self.ids.pid,
            tid: self.ids.tid,
            global: self.global(tid),
            comm: self.comm.clone(),
            abi: None,
            what,
        }
    }
}

/// The event, of the call that this record is of.
fn by_call(event: Event, record: &Header) -> Event {
    let compat = record.flags & COMPAT_CALL != 0;
    Event {
        abi: compat.then(|| COMPAT_ABI.into()),
        ..event
    }
}

/// The ids in the initial pid namespace, where they aren't those that a reader sees.
fn global(shown: Ids, pid: u32, tid: u32) -> Option<Global> {
    (shown.pid != pid || shown.tid != tid).then_some(Global { pid, tid })
}

/// What is traced, as far as the records have told.
pub struct Model {
    zero_pfn: u64,
    /// The time of the last record.
    now: u64,
    /// Faults are counted by the hooks; what comes of them is for the accounts of forks.
    summary: bool,
    threads: HashMap<u32, Thread>,
    /// Leaders whose id went to another thread of theirs that exec'ed, until they are gone.
    replaced: HashMap<u32, Thread>,
    processes: HashMap<u32, Process>,
    mms: HashMap<u64, Mm>,
    /// Address spaces by their numbers.
    by_number: HashMap<u32, u64>,
    files: Files,
    objects: Objects,
    lives: Lifetimes,
    sharing: Sharing,
    forks: u32,
    /// Forks whose child isn't traced.
    unfollowed: Unfollowed,
    /// Surveys whose records are coming, by the address space.
    pending: HashMap<u64, Pending>,
    /// Where the BSS of libraries is in processes that memtrace attaches to, by their ids as a reader sees them.
    found: HashMap<u32, Vec<Range<u64>>>,
    births: u64,
    losses: Losses,
    /// Threads that did something, and whose births were lost.
    strangers: HashSet<u32>,
    book: AccountBook,
    /// For the lab: each `task_struct`, and each kernel stack.
    tasks: Numbers,
    kernel_stacks: Numbers,
}

impl Model {
    /// A model of nothing yet. `zero_pfn` is the frame of the zero page; with `summary` the hooks count the faults.
    pub fn new(zero_pfn: u64, summary: bool) -> Self {
        Self {
            zero_pfn,
            now: 0,
            summary,
            threads: HashMap::default(),
            replaced: HashMap::default(),
            processes: HashMap::default(),
            mms: HashMap::default(),
            by_number: HashMap::default(),
            files: Files::default(),
            objects: Objects::default(),
            lives: Lifetimes::default(),
            sharing: Sharing::default(),
            forks: 0,
            unfollowed: Unfollowed::default(),
            pending: HashMap::default(),
            found: HashMap::default(),
            births: 0,
            losses: Losses::default(),
            strangers: HashSet::default(),
            book: AccountBook::default(),
            tasks: Numbers::default(),
            kernel_stacks: Numbers::default(),
        }
    }

    /// Takes the next record, in the order of times; `ts` is its time in the output. The events that it is are added to
    /// `events`.
    pub fn take(&mut self, record: Record, ts: u64, events: &mut Vec<Event>) {
        let tid = record.header().tid;
        self.now = ts;
        self.sharing.at(ts);
        self.meets(&record);
        match record {
            Record::Fault(fault) => self.fault(&fault, None, ts, events),
            Record::Handled(record) => self.fault(&record.fault, Some(&record), ts, events),
            Record::Vma(vma) => self.vma(&vma, ts, events),
            Record::Path(path, components) => self.files.told(&path, &components),
            Record::Birth(birth) => self.birth(&birth, ts, events),
            Record::Returned(returned) => self.returned(returned, ts, events),
            Record::Objects(objects) => self.objects_changed(&objects, ts, events),
            Record::Exec(exec, strings) => self.exec(&exec, &strings, ts, events),
            Record::Failed(failed, name) => events.extend(self.failed(&failed, &name, ts)),
            Record::Exit(exit) => self.exit(exit, ts, events),
            Record::Gone(gone) => self.gone(&gone, ts),
            Record::Call(call) => {
                self.memory_call(tid, &call);
                if call.number == syscall::MMAP {
                    self.mmap_returned(tid, &call);
                }
                let Some(thread) = self.threads.get(&tid) else {
                    return;
                };
                let file = thread.vma.as_ref().and_then(Mapped::file);
                let process = self.advised(&call).map(|thread| thread.ids.pid);
                let what = call::event(&call, file, process);
                let event = what.and_then(|what| self.event(tid, ts, what));
                events.extend(event.map(|event| by_call(event, &call.head)));
            }
            Record::Unobserved(unobserved) => {
                let by = names::call(unobserved.call);
                let count = u64::from(unobserved.minor) + u64::from(unobserved.major);
                if let Some(counts) = self.counts(tid) {
                    counts.unobserved(by, count);
                }
                self.unseen(tid, by, count);
            }
            Record::Rename(rename) => self.rename(tid, until_nul(&rename.comm).into()),
            Record::Pages(pages) => {
                self.pending(pages.mm, &pages.head).pages(&pages);
            }
            Record::ExistingTask(task) => self.task(&task, ts, events),
            Record::Surveyed(surveyed) => self.surveyed(&surveyed, ts, events),
            Record::FaultPending(_) => {}
            Record::BirthDetail(born) => events.extend(self.born(&born, ts)),
            Record::SwitchIn(runs) => events.extend(self.runs(&runs, ts)),
            Record::SwitchOut(rests) => events.extend(self.rests(&rests, ts)),
        }
    }

    /// Learns where the BSS of libraries is in a process that memtrace attaches to, before its survey is taken.
    pub fn found(&mut self, pid: u32, bss: Vec<Range<u64>>) {
        self.found.insert(pid, bss);
    }

    /// How much is kept of what, for tests.
    #[cfg(test)]
    pub fn footprint(&self) -> Vec<(&'static str, usize)> {
        let of_mms = |size: fn(&Mm) -> usize| self.mms.values().map(size).sum();
        let [edges, solos, forks] = self.sharing.sizes();
        let [used, users, tasks, remembered] = self.objects.sizes();
        let [lives, living] = self.lives.sizes();
        let vmas = self
            .threads
            .values()
            .filter_map(|thread| thread.vma.as_ref());
        vec![
            ("threads", self.threads.len()),
            ("replaced", self.replaced.len()),
            ("processes", self.processes.len()),
            ("address spaces", self.mms.len()),
            ("their numbers", self.by_number.len()),
            ("their users", of_mms(|mm| mm.users.len())),
            ("stacks", of_mms(|mm| mm.stacks.len())),
            ("stacks in VMAs", vmas.map(Mapped::stack_count).sum()),
            ("BSS", of_mms(|mm| mm.bss.len())),
            ("unexplained", of_mms(|mm| mm.unexplained.len())),
            ("surveys", self.pending.len()),
            ("unfollowed", self.unfollowed.len()),
            ("edges", edges),
            ("solos", solos),
            ("forks", forks),
            ("objects", used),
            ("their users", users),
            ("tasks with objects", tasks),
            ("namespaces", remembered),
            ("paths", self.files.len()),
            ("lives", lives),
            ("living", living),
        ]
    }

    /// Whether a process lives, as far as the records have told, by its id as a reader sees it.
    pub fn has_process(&self, pid: u32) -> bool {
        self.processes.values().any(|process| process.shown == pid)
    }

    fn event(&self, tid: u32, ts: u64, what: EventKind) -> Option<Event> {
        Some(self.threads.get(&tid)?.event(tid, ts, what))
    }

    fn counts(&mut self, tid: u32) -> Option<&mut Counts> {
        let thread = self.threads.get(&tid)?;
        Some(&mut self.processes.get_mut(&thread.pid)?.counts)
    }

    /// The thread's id as a reader sees it.
    fn shown(&self, tid: u32) -> u32 {
        self.threads.get(&tid).map_or(tid, |thread| thread.ids.tid)
    }

    /// Has threads told by their ids as a reader sees them.
    fn show<'a>(&self, tids: impl Iterator<Item = &'a mut u32>) {
        tids.for_each(|tid| *tid = self.shown(*tid));
    }

    /// The event of objects that a task shares with others from now on, if there are any.
    fn share(
        &self,
        tid: u32,
        ts: u64,
        by: &'static str,
        mut objects: ByObject<ObjectShared>,
    ) -> Option<Event> {
        if objects.0.is_empty() {
            return None;
        }
        self.show(
            objects
                .0
                .iter_mut()
                .flat_map(|(_, shared)| &mut shared.with),
        );
        let by = by.into();
        self.event(tid, ts, EventKind::Share(Share { by, objects }))
    }

    /// The event of objects that a task no longer shares with others, if there are any.
    fn unshare(
        &self,
        tid: u32,
        ts: u64,
        by: &'static str,
        mut objects: ByObject<ObjectReleased>,
    ) -> Option<Event> {
        if objects.0.is_empty() {
            return None;
        }
        self.show(objects.0.iter_mut().flat_map(|(_, left)| &mut left.with));
        let by = by.into();
        self.event(tid, ts, EventKind::Unshare(Unshare { by, objects }))
    }

    fn rename(&mut self, tid: u32, comm: Arc<str>) {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        thread.comm = comm.clone();
        if thread.pid == tid
            && let Some(process) = self.processes.get_mut(&thread.pid)
        {
            process.comm = comm.clone();
            self.sharing.named(process.fork, comm.clone());
        }
        self.lives.named(tid, comm);
    }

    fn vma(&mut self, vma: &Vma, ts: u64, events: &mut Vec<Event>) {
        use memtrace_ebpf::fault::vm;
        if vma.flags & vm::EXEC != 0 && vma.file != 0 {
            self.files.is_executed(vma.file);
        }
        if vma.head.detail.is(VmaReason::Attach) {
            self.pending(vma.mm, &vma.head).vma(vma);
            return;
        }
        let by_exec = vma.head.detail.is(VmaReason::Exec);
        let tid = vma.head.tid;
        // A fork's are in the child, which is not known yet, and are what they are in the parent.
        let mm_address = if vma.head.detail.is(VmaReason::Fork) {
            self.threads.get(&tid).map_or(0, |thread| thread.mm)
        } else {
            vma.mm
        };
        if by_exec
            && let Some(mm) = self.mms.get_mut(&mm_address)
            && vma.file == mm.exe
        {
            mm.base = mm.base.min(vma.start);
        }
        let mm = self.mms.get(&mm_address);
        if (by_exec || mm.is_none()) && vma.file != 0 && vma.file != vma.exe {
            // An exec maps two files: the program and its interpreter.
            self.files.is_executed(vma.file);
        }
        let in_exec = Mm::in_exec(vma.exe);
        let mapped = Mapped::new(vma, mm.unwrap_or(&in_exec), &mut self.files);
        if vma.head.detail.is(VmaReason::Fork) {
            let bss = mm.map(|mm| mm.bss.clone()).unwrap_or_default();
            self.pending(vma.mm, &vma.head).area(vma, &mapped, &bss);
            return;
        }
        if by_exec {
            self.listed(tid, mm_address, vma, &mapped);
        }
        let bss = self.mms.get(&mm_address).map(|mm| &mm.bss);
        let what = (by_exec && !self.summary)
            .then(|| EventKind::Mmap(existing(vma, mapped.first(bss), By::Exec)));
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let elsewhere = vma.head.detail.is(VmaReason::Elsewhere);
        let left = (vma.mm != thread.mm && !elsewhere).then_some((thread.ids.pid, thread.mm));
        thread.vma = Some(mapped);
        if let Some((pid, old)) = left {
            // An exec is under way, and has left the old address space behind.
            self.left_by_exec(pid, tid, old);
        }
        events.extend(what.and_then(|what| self.event(tid, ts, what)));
    }

    /// Gives a task's address space the number that its objects have.
    fn number_mm(&mut self, tid: u32, address: u64) {
        let number = self.objects.number(tid, event::ObjectKind::Mm);
        if let (Some(number), Some(mm)) = (number, self.mms.get_mut(&address)) {
            mm.number = number;
            self.by_number.insert(number, address);
        }
    }
}

/// A mapping that was there before any call was seen to make it.
fn existing(vma: &Vma, first: Location, by: By) -> Mmap {
    use memtrace_ebpf::fault::vm;
    let surveyed = |pages| (by == By::Attach).then_some(pages);
    Mmap {
        addr: Address(vma.start),
        len: vma.end.saturating_sub(vma.start),
        // VM_READ, VM_WRITE and VM_EXEC are the PROT_* bits.
        prot: names::prot(vma.flags & (vm::READ | vm::WRITE | vm::EXEC)),
        flags: names::map(
            (if vma.flags & vm::MAYSHARE != 0 { 1 } else { 2 })
                | (if vma.file == 0 { 0x20 } else { 0 })
                | (vma.flags & vm::GROWSDOWN),
        ),
        file: first.file,
        offset: (vma.file != 0).then_some(vma.pgoff.wrapping_shl(PAGE_SHIFT)),
        ret: Returned::Address(Address(vma.start)),
        by,
        region: Some(first.region),
        resident: surveyed(vma.resident),
        private: surveyed(vma.private),
    }
}

/// The text before the first zero byte.
fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
