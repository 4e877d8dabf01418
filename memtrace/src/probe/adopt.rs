//! Has the kernel side take running processes under trace: see the hook of the same name.

use anyhow::{Context as _, Result};
use aya::{
    maps::{Array, MapData},
    programs::raw_trace_point::RawTracePointLink,
};
use memtrace_ebpf::control::{ADOPT_MAGIC, ADOPT_SURVEY, ADOPT_THREADS, Adopted, UNANSWERED};

use super::{
    call::ask,
    hooks::{ADOPT_PROCESS, tracepoint},
    load::Probe,
};
use crate::kernel::again::again;

/// The words of an [`Adopted`].
const WORDS: usize = size_of::<Adopted>() / 8;

/// Takes running processes under trace. The hook for it is gone when this is dropped.
pub struct Adoption {
    _link: RawTracePointLink,
    answer: Array<MapData, [u64; WORDS]>,
}

/// The next part of a process's address space that is to be surveyed.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The process, as memtrace's pid namespace has it.
    pid: u32,
    /// The address space; 0 before the first part.
    mm: u64,
    /// Where the part begins.
    from: u64,
}

impl Part {
    /// The first part of a process's.
    pub const fn first(pid: u32) -> Self {
        Self {
            pid,
            mm: 0,
            from: 0,
        }
    }
}

impl Probe {
    /// Attaches the hook by which running processes are taken under trace. Only the first call gives it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn adoption(&mut self) -> Result<Adoption> {
        let answer = self
            .ebpf
            .take_map("ADOPTED")
            .context("the object has no map ADOPTED")?;
        let program = tracepoint(&mut self.ebpf, ADOPT_PROCESS)?;
        again(|| program.load()).context("the kernel refused the hook adopt_process")?;
        let link = program
            .attach("sys_enter")
            .context("can't attach to raw_syscalls:sys_enter")?;
        Ok(Adoption {
            _link: program.take_link(link)?,
            answer: Array::try_from(answer)?,
        })
    }
}

impl Adoption {
    /// Takes these processes under trace, ids as memtrace's pid namespace has them, with all their threads. Returns those of
    /// which a thread was there that was not traced yet.
    ///
    /// # Errors
    /// The kernel refuses to show the answer.
    pub fn adopt(&mut self, pids: &[u32]) -> Result<Vec<u32>> {
        let mut there = Vec::new();
        for &pid in pids {
            if there.contains(&pid) {
                continue;
            }
            // Whom an untraced thread makes meanwhile isn't traced: until nobody is new.
            let mut adopted = self.ask(pid, ADOPT_THREADS, 0)?;
            if adopted.added > 0 {
                there.push(pid);
            }
            while adopted.added > 0 {
                adopted = self.ask(pid, ADOPT_THREADS, 0)?;
            }
        }
        Ok(there)
    }

    /// Has the hook send what a part of a process's address space is made of. A part is as much as takes the CPU from others
    /// for a moment, and as there is room for in the ring buffer. Returns the next part, if there is one: none if the process
    /// has ended, or has another address space now.
    ///
    /// # Errors
    /// The kernel refuses to show the answer.
    pub fn survey(&mut self, part: Part) -> Result<Option<Part>> {
        let answer = self.ask(part.pid, ADOPT_SURVEY, part.from)?;
        let is_there = answer.leader != 0 && answer.mm != 0;
        let is_same = part.mm == 0 || part.mm == answer.mm;
        let next = Part {
            mm: answer.mm,
            from: answer.next,
            ..part
        };
        Ok((is_there && is_same && answer.complete == 0).then_some(next))
    }

    fn ask(&mut self, pid: u32, what: u64, from: u64) -> Result<Adopted> {
        let unanswered = Adopted {
            leader: UNANSWERED,
            ..Adopted::default()
        };
        self.answer
            .set(0, bytemuck::cast::<_, [u64; WORDS]>(unanswered), 0)?;
        ask(
            ADOPT_PROCESS,
            [ADOPT_MAGIC, u64::from(pid), what, from],
            || {
                let answer: Adopted = bytemuck::cast(self.answer.get(&0, 0)?);
                Ok((answer.leader != UNANSWERED).then_some(answer))
            },
        )
    }
}
