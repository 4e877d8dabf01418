//! The kernel's own functions that the hooks call (kfuncs): their numbers are in its types, so the calls are put in before the load.

use anyhow::{Context as _, Result};
use memtrace_ebpf::control::{CAST_CALL, CAST_FUNCTION, PREEMPTION_CALLS};
use object::{Object as _, ObjectSection as _, SectionKind};

use super::preempt;
use crate::kernel::btf::Btf;

/// What the sections of the hooks on tracepoints begin with.
const TRACEPOINTS: &str = "raw_tp/";
/// `BPF_JMP | BPF_CALL`; the register's place tells what is called: a helper (0) or a function of the kernel's.
const CALL: u8 = 0x85;
const PSEUDO_KFUNC_CALL: u8 = 2;
/// `r0 = 0`.
const NOTHING: [u8; 8] = [0xb7, 0, 0, 0, 0, 0, 0, 0];
/// A structure that begins with a plain word, in all kernels: whatever is read as a word is read as this one's.
const WORD: &str = "rb_node";

/// The numbers of the functions that this kernel has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kfuncs {
    /// What keeps a hook from being preempted.
    pub(super) preempt: Option<preempt::Functions>,
    /// Whether the hooks on tracepoints need that, too.
    pub(super) in_tracepoints: bool,
    /// What makes a pointer of an address, and the structure that it then is taken for.
    pub(super) cast: Option<(u32, u32)>,
}

impl Kfuncs {
    /// Those in the running kernel's types.
    pub(super) fn of(btf: &Btf) -> Self {
        let cast = || Some((btf.function(CAST_FUNCTION)?, btf.id_of(WORD)?));
        Self {
            preempt: preempt::Functions::of(btf),
            in_tracepoints: preempt::switches_in_tracepoints(),
            cast: cast(),
        }
    }

    /// The BPF object with calls of these functions where a hook needs them; without any, where the kernel hasn't got them.
    pub(super) fn linked(self, object: &[u8]) -> Result<Vec<u8>> {
        let mut linked = object.to_vec();
        let file = object::File::parse(object).context("the BPF object")?;
        for section in file
            .sections()
            .filter(|section| section.kind() == SectionKind::Text)
        {
            let Some((start, size)) = section.file_range() else {
                continue;
            };
            let code = linked
                .get_mut(start as usize..(start + size) as usize)
                .context("the BPF object is cut off")?;
            let is_disturbed = self.in_tracepoints || !section.name()?.starts_with(TRACEPOINTS);
            let needed = Self {
                preempt: self.preempt.filter(|_| is_disturbed),
                ..self
            };
            for instruction in code.as_chunks_mut().0 {
                needed.link(instruction);
            }
        }
        Ok(linked)
    }

    fn link(self, instruction: &mut [u8; 8]) {
        let [CALL, 0, 0, 0, number @ ..] = *instruction else {
            return;
        };
        let number = u32::from_le_bytes(number);
        let id = if number == CAST_CALL {
            self.cast.map(|(function, _)| function)
        } else if let Some(which) = PREEMPTION_CALLS.iter().position(|&call| call == number) {
            self.preempt.map(|functions| functions.ids()[which])
        } else {
            return;
        };
        *instruction = NOTHING;
        if let Some(id) = id {
            instruction[..2].copy_from_slice(&[CALL, PSEUDO_KFUNC_CALL << 4]);
            instruction[4..].copy_from_slice(&id.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::object::DIRECT;

    const CAST: u32 = 0x1_0203;

    fn all(in_tracepoints: bool) -> Kfuncs {
        Kfuncs {
            preempt: Some(preempt::Functions::numbered([11, 12, 13, 14])),
            in_tracepoints,
            cast: Some((CAST, 7)),
        }
    }

    fn call(number: u32) -> [u8; 8] {
        let [a, b, c, d] = number.to_le_bytes();
        [CALL, 0, 0, 0, a, b, c, d]
    }

    /// How often the code in the sections that begin with `start` calls each of these functions of the kernel's.
    fn calls(object: &[u8], start: &str, ids: &[u32]) -> Result<Vec<usize>> {
        let file = object::File::parse(object)?;
        let mut counts = vec![0; ids.len()];
        for section in file.sections() {
            if section.kind() != SectionKind::Text || !section.name()?.starts_with(start) {
                continue;
            }
            for instruction in section.data()?.as_chunks::<8>().0 {
                if let [CALL, 0x20, 0, 0, id @ ..] = *instruction {
                    let which = ids.iter().position(|&of| of == u32::from_le_bytes(id));
                    counts[which.context("a call of another function")?] += 1;
                }
            }
        }
        Ok(counts)
    }

    #[test]
    fn a_call_is_made_of_the_kernels_function_or_taken_out() {
        let linked = |number, functions: Kfuncs| {
            let mut instruction = call(number);
            functions.link(&mut instruction);
            instruction
        };
        let some = all(true);
        assert_eq!(linked(CAST_CALL, some), [CALL, 0x20, 0, 0, 3, 2, 1, 0]);
        for (number, id) in PREEMPTION_CALLS.into_iter().zip([11, 12, 13, 14]) {
            assert_eq!(linked(number, some), [CALL, 0x20, 0, 0, id, 0, 0, 0]);
            assert_eq!(linked(number, Kfuncs::default()), NOTHING);
        }
        assert_eq!(linked(CAST_CALL, Kfuncs::default()), NOTHING);
        // bpf_ktime_get_ns
        assert_eq!(linked(5, some), call(5));
    }

    #[test]
    fn hooks_on_tracepoints_hold_preemption_off_only_where_the_kernel_does_not() -> Result<()> {
        for in_tracepoints in [true, false] {
            let linked = all(in_tracepoints).linked(DIRECT)?;
            let held = |start| calls(&linked, start, &[11, 12, 13, 14, CAST]);
            assert_eq!(held("raw_tp/")?[0] > 0, in_tracepoints);
            assert_eq!(held("fentry/")?[..4], [1, 1, 2, 1]);
            assert!(held("raw_tp/")?[4] > 0);
        }
        Ok(())
    }

    #[test]
    fn without_the_functions_nothing_calls_them() -> Result<()> {
        let linked = Kfuncs::default().linked(DIRECT)?;
        calls(&linked, "", &[]).map(drop)
    }
}
