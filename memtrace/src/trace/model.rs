//! The model of what is traced: tasks, address spaces, files; and the events that its changes are.

use std::sync::Arc;

use rustc_hash::FxHashMap as HashMap;

use memtrace_ebpf::{
    record::{Birth, EXEC_TRUNCATED, Exec, Exit, Fault, Known, Parts, Seen, Vma},
    syscall,
};

use super::{
    account::{BEFORE_EXEC, Book, Counts},
    call,
    event::{self, Account, Address, By, Event, Mmap, Returned, Shared, What},
    fault,
    files::Files,
    names,
    record::Record,
    region::{Mapped, Mm},
};

const PAGE_OFFSET_SHIFT: u32 = 12;
const CLONE_THREAD: u64 = 0x1_0000;

/// A traced thread.
struct Thread {
    pid: u32,
    comm: Arc<str>,
    mm: u64,
    /// The VMA that its last fault, or its last mapping call, was about.
    vma: Option<Mapped>,
    /// Whether its exit has been seen.
    exited: bool,
}

/// A traced process.
struct Process {
    /// Which of all processes it is, in the order of births.
    birth: u64,
    comm: Arc<str>,
    counts: Counts,
    /// Threads that have not begun to exit.
    running: u32,
    /// Threads that are not gone.
    threads: u32,
}

/// What is traced, as far as the records have told.
pub struct Model {
    zero_pfn: u64,
    threads: HashMap<u32, Thread>,
    /// Leaders whose id went to another thread of theirs that exec'ed, until they are gone.
    replaced: HashMap<u32, Thread>,
    processes: HashMap<u32, Process>,
    mms: HashMap<u64, Mm>,
    files: Files,
    births: u64,
    book: Book,
}

impl Model {
    /// A model of nothing yet. `zero_pfn` is the frame of the zero page.
    pub fn new(zero_pfn: u64) -> Self {
        Self {
            zero_pfn,
            threads: HashMap::default(),
            replaced: HashMap::default(),
            processes: HashMap::default(),
            mms: HashMap::default(),
            files: Files::default(),
            births: 0,
            book: Book::default(),
        }
    }

    /// Takes the next record, in the order of times; `ts` is its time in the output. The event that it is, if it is
    /// one by itself.
    pub fn take(&mut self, record: Record, ts: u64) -> Option<Event> {
        let tid = record.header().tid;
        match record {
            Record::Fault(fault) => self.fault(&fault, ts),
            Record::Vma(vma) => self.vma(&vma, ts),
            Record::Path(path, components) => {
                self.files.announce(&path, &components);
                None
            }
            Record::Birth(birth) => self.birth(&birth, ts),
            Record::Exec(exec, strings) => self.exec(&exec, &strings, ts),
            Record::Exit(exit) => self.exit(exit, ts),
            Record::Gone(gone) => {
                self.gone(tid, &gone.tally);
                None
            }
            Record::Call(call) => {
                if call.number == syscall::BRK
                    && let Some(thread) = self.threads.get(&tid)
                    && let Some(mm) = self.mms.get_mut(&thread.mm)
                {
                    mm.bounds.brk = call.ret as u64;
                }
                let thread = self.threads.get(&tid)?;
                let file = thread.vma.as_ref().and_then(Mapped::file);
                let what = call::event(&call, file)?;
                self.event(tid, ts, what)
            }
            Record::Unobserved(unobserved) => {
                let by = names::call(unobserved.call);
                let count = u64::from(unobserved.minor) + u64::from(unobserved.major);
                self.counts(tid)?.unobserved(by, count);
                None
            }
            Record::Rename(rename) => {
                let comm: Arc<str> = until_nul(&rename.comm).into();
                let thread = self.threads.get_mut(&tid)?;
                thread.comm = comm.clone();
                if thread.pid == tid {
                    self.processes.get_mut(&thread.pid)?.comm = comm;
                }
                None
            }
            Record::Held(_) => None,
        }
    }

    /// Ends the model: the accounts of all processes, and their sum. `living` is what the kernel side knows of the
    /// threads that are still there.
    pub fn finish(mut self, living: &[Known]) -> (Vec<Account>, Account) {
        for known in living {
            if let Some(process) = self.processes.get_mut(&known.pid) {
                process.counts.thread(&known.tally);
            }
        }
        for (pid, process) in self.processes.drain() {
            self.book
                .close(process.birth, pid, process.comm, &process.counts, true);
        }
        self.book.finish()
    }

    fn event(&self, tid: u32, ts: u64, what: What) -> Option<Event> {
        let thread = self.threads.get(&tid)?;
        Some(Event {
            ts,
            pid: thread.pid,
            tid,
            comm: thread.comm.clone(),
            what,
        })
    }

    fn counts(&mut self, tid: u32) -> Option<&mut Counts> {
        let thread = self.threads.get(&tid)?;
        Some(&mut self.processes.get_mut(&thread.pid)?.counts)
    }

    fn fault(&mut self, record: &Fault, ts: u64) -> Option<Event> {
        let thread = self.threads.get(&record.head.tid)?;
        let fault = fault::event(record, thread.vma.as_ref(), self.zero_pfn, ts);
        let counts = &mut self.processes.get_mut(&thread.pid)?.counts;
        counts.fault(fault.kind, fault.counted);
        self.event(record.head.tid, ts, What::Fault(fault))
    }

    fn vma(&mut self, vma: &Vma, ts: u64) -> Option<Event> {
        use memtrace_ebpf::fault::vm;
        if vma.flags & vm::EXEC != 0 && vma.file != 0 {
            self.files.is_executed(vma.file);
        }
        let by_exec = vma.head.a == Seen::Exec as u8;
        let mm = self.mms.get(&vma.mm);
        if (by_exec || mm.is_none()) && vma.file != 0 && vma.file != vma.exe {
            // An exec maps two files: the program and its interpreter.
            self.files.is_executed(vma.file);
        }
        let in_exec = Mm::in_exec(vma.exe);
        let mapped = Mapped::new(vma, mm.unwrap_or(&in_exec), &mut self.files);
        let thread = self.threads.get_mut(&vma.head.tid)?;
        let what = by_exec.then(|| {
            What::Mmap(Mmap {
                addr: Address(vma.start),
                len: vma.end - vma.start,
                // VM_READ, VM_WRITE and VM_EXEC are the PROT_* bits.
                prot: names::prot(vma.flags & (vm::READ | vm::WRITE | vm::EXEC)),
                flags: names::map(
                    (if vma.flags & vm::SHARED != 0 { 1 } else { 2 })
                        | (if vma.file == 0 { 0x20 } else { 0 })
                        | (vma.flags & vm::GROWSDOWN),
                ),
                file: mapped.file(),
                offset: (vma.file != 0).then_some(vma.pgoff << PAGE_OFFSET_SHIFT),
                ret: Returned::Address(Address(vma.start)),
                by: By::Exec,
                region: Some(mapped.region()),
            })
        });
        thread.vma = Some(mapped);
        self.event(vma.head.tid, ts, what?)
    }

    fn birth(&mut self, birth: &Birth, ts: u64) -> Option<Event> {
        let thread = birth.flags & CLONE_THREAD != 0;
        if birth.followed != 0 {
            self.add(birth);
        }
        let (parent, child) = (&birth.parent, &birth.child);
        let what = What::Clone(event::Clone {
            call: match birth.call {
                syscall::FORK => "fork",
                syscall::VFORK => "vfork",
                syscall::CLONE => "clone",
                syscall::CLONE3 => "clone3",
                _ => "kernel",
            },
            thread,
            child_pid: birth.child_pid,
            child_tid: birth.child_tid,
            flags: names::clone(birth.flags),
            exit_signal: (!thread && birth.exit_signal > 0).then_some(birth.exit_signal),
            shared: shared(parent, child),
            followed: birth.followed != 0,
        });
        // The first process is memtrace's own child: its parent isn't traced, and this no event.
        self.event(birth.head.tid, ts, what)
    }

    fn add(&mut self, birth: &Birth) {
        let comm: Arc<str> = self.threads.get(&birth.head.tid).map_or_else(
            || until_nul(&birth.comm).into(),
            |parent| parent.comm.clone(),
        );
        let inherited = self.mms.get(&birth.parent.mm).map(|mm| Mm {
            users: Vec::new(),
            // Only the thread that forks goes on in the child.
            stacks: mm
                .stacks
                .iter()
                .filter(|(tid, _)| *tid == birth.head.tid)
                .copied()
                .collect(),
            ..mm.clone()
        });
        let mm = self.mms.entry(birth.child.mm).or_default();
        // A new one may lie where another was whose last thread is not gone yet.
        if birth.child.mm != birth.parent.mm || mm.users.is_empty() {
            *mm = inherited.unwrap_or_default();
        }
        mm.users.push(birth.child_tid);
        if birth.stack != 0 {
            mm.stacks.push((birth.child_tid, birth.stack));
        }
        let births = &mut self.births;
        let process = self.processes.entry(birth.child_pid).or_insert_with(|| {
            *births += 1;
            Process {
                birth: *births,
                comm: comm.clone(),
                counts: Counts::default(),
                running: 0,
                threads: 0,
            }
        });
        process.running += 1;
        process.threads += 1;
        self.threads.insert(
            birth.child_tid,
            Thread {
                pid: birth.child_pid,
                comm,
                mm: birth.child.mm,
                vma: None,
                exited: false,
            },
        );
    }

    fn exec(&mut self, exec: &Exec, strings: &[u8], ts: u64) -> Option<Event> {
        let tid = exec.head.tid;
        if exec.old_tid != tid
            && let Some(thread) = self.threads.remove(&exec.old_tid)
            && let Some(leader) = self.threads.insert(tid, thread)
        {
            self.replaced.insert(tid, leader);
        }
        let thread = self.threads.get_mut(&tid)?;
        let old_mm = std::mem::replace(&mut thread.mm, exec.mm);
        thread.vma = None;
        let process = self.processes.get_mut(&thread.pid)?;
        process.comm = thread.comm.clone();
        process.counts.unobserved(
            BEFORE_EXEC,
            u64::from(exec.hidden_minor) + u64::from(exec.hidden_major),
        );
        self.leave_mm(old_mm, exec.old_tid);
        self.mms.insert(
            exec.mm,
            Mm {
                exe: exec.exe,
                bounds: exec.bounds,
                stacks: Vec::new(),
                users: vec![tid],
            },
        );
        let (name, args) = strings.split_at_checked(exec.name_len as usize)?;
        let args = args.strip_suffix(b"\0").unwrap_or(args);
        let what = What::Exec(event::Exec {
            file: until_nul(name),
            exe: self.files.path(exec.exe),
            args: if exec.args_len == 0 {
                Vec::new()
            } else {
                args.split(|byte| *byte == 0)
                    .map(|arg| String::from_utf8_lossy(arg).into_owned())
                    .collect()
            },
            truncated: exec.head.flags & EXEC_TRUNCATED != 0,
            old_tid: (exec.old_tid != tid).then_some(exec.old_tid),
        });
        self.event(tid, ts, what)
    }

    fn exit(&mut self, exit: Exit, ts: u64) -> Option<Event> {
        let tid = exit.head.tid;
        let thread = self.threads.get_mut(&tid)?;
        thread.exited = true;
        let process = self.processes.get_mut(&thread.pid)?;
        process.running = process.running.saturating_sub(1);
        let signal = exit.status & 0x7f;
        let what = What::Exit(event::Exit {
            code: (signal == 0).then_some(exit.status >> 8 & 0xff),
            signal: (signal != 0).then_some(signal),
            thread: process.running > 0,
        });
        self.event(tid, ts, what)
    }

    fn gone(&mut self, tid: u32, tally: &memtrace_ebpf::record::Tally) {
        let Some(thread) = self
            .replaced
            .remove(&tid)
            .or_else(|| self.threads.remove(&tid))
        else {
            return;
        };
        self.leave_mm(thread.mm, tid);
        let Some(process) = self.processes.get_mut(&thread.pid) else {
            return;
        };
        process.counts.thread(tally);
        process.threads = process.threads.saturating_sub(1);
        if !thread.exited {
            process.running = process.running.saturating_sub(1);
        }
        if process.threads == 0
            && let Some(process) = self.processes.remove(&thread.pid)
        {
            let Process {
                birth,
                comm,
                counts,
                ..
            } = process;
            self.book.close(birth, thread.pid, comm, &counts, false);
        }
    }

    /// A thread uses an address space no longer.
    fn leave_mm(&mut self, mm: u64, tid: u32) {
        if let Some(known) = self.mms.get_mut(&mm) {
            known.users.retain(|user| *user != tid);
            known.stacks.retain(|(owner, _)| *owner != tid);
            if known.users.is_empty() {
                self.mms.remove(&mm);
            }
        }
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

/// The text before the first zero byte.
fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
