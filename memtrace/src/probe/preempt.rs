//! The calls by which a hook keeps other tasks from its CPU: functions of the kernel's, whose numbers its types tell.

use anyhow::{Context as _, Result};
use memtrace_ebpf::control::{PREEMPTION_CALLS, PREEMPTION_FUNCTIONS};
use object::{Object as _, ObjectSection as _, SectionKind};

use crate::kernel::{btf::Btf, preemption::Preemption, require};

/// In an older one a hook that is not preempted may not call functions of its own (`check_func_call` in
/// `kernel/bpf/verifier.c`).
const SINCE: (u32, u32) = (6, 15);
/// Since then the kernel may switch tasks in the middle of a hook on a tracepoint, too, before that keeps others from its CPU
/// (`__DO_TRACE` in `include/linux/tracepoint.h`).
const TRACEPOINTS_SINCE: (u32, u32) = (7, 0);
/// `BPF_JMP | BPF_CALL`; the register's place tells what is called: a helper (0) or a function of the kernel's.
const CALL: u8 = 0x85;
const PSEUDO_KFUNC_CALL: u8 = 2;
/// `r0 = 0`.
const NOTHING: [u8; 8] = [0xb7, 0, 0, 0, 0, 0, 0, 0];

/// The functions' numbers, where the hooks can call them.
#[derive(Clone, Copy, Debug)]
pub struct Functions([u32; PREEMPTION_CALLS.len()]);

impl Functions {
    /// Their numbers in the running kernel's types; nothing where it hasn't all of them, or is too old.
    pub fn of(btf: &Btf) -> Option<Self> {
        (require::version(&require::release())? >= SINCE).then_some(())?;
        let mut ids = [0; PREEMPTION_CALLS.len()];
        for (id, name) in ids.iter_mut().zip(PREEMPTION_FUNCTIONS) {
            *id = btf.function(name)?;
        }
        Some(Self(ids))
    }
}

/// Whether the kernel may leave out a hook on a tracepoint.
pub(super) fn leaves_tracepoints_out(preemption: Preemption) -> bool {
    require::version(&require::release()).is_some_and(|version| version >= TRACEPOINTS_SINCE)
        && preemption != Preemption::Off
}

/// The BPF object with calls of these functions; without any, where the kernel hasn't got them.
pub(super) fn linked(object: &[u8], functions: Option<Functions>) -> Result<Vec<u8>> {
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
        for instruction in code.as_chunks_mut().0 {
            link(instruction, functions);
        }
    }
    Ok(linked)
}

fn link(instruction: &mut [u8; 8], functions: Option<Functions>) {
    let [CALL, 0, 0, 0, number @ ..] = *instruction else {
        return;
    };
    let number = u32::from_le_bytes(number);
    let Some(which) = PREEMPTION_CALLS.iter().position(|&call| call == number) else {
        return;
    };
    *instruction = NOTHING;
    if let Some(Functions(ids)) = functions {
        instruction[..2].copy_from_slice(&[CALL, PSEUDO_KFUNC_CALL << 4]);
        instruction[4..].copy_from_slice(&ids[which].to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u32) -> [u8; 8] {
        let [a, b, c, d] = number.to_le_bytes();
        [CALL, 0, 0, 0, a, b, c, d]
    }

    #[test]
    fn a_call_is_made_of_the_kernels_function_or_taken_out() {
        let functions = Functions([0x1_0203, 7, 8, 9]);
        let linked = |number, functions| {
            let mut instruction = call(number);
            link(&mut instruction, functions);
            instruction
        };
        assert_eq!(
            linked(PREEMPTION_CALLS[0], Some(functions)),
            [CALL, 0x20, 0, 0, 3, 2, 1, 0]
        );
        assert_eq!(
            linked(PREEMPTION_CALLS[3], Some(functions)),
            [CALL, 0x20, 0, 0, 9, 0, 0, 0]
        );
        assert_eq!(linked(PREEMPTION_CALLS[1], None), NOTHING);
        // bpf_ktime_get_ns
        assert_eq!(linked(5, Some(functions)), call(5));
    }
}
