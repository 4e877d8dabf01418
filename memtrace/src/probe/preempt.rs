//! What keeps other tasks from a hook's CPU: functions of the kernel's, and where they are needed.

use memtrace_ebpf::control::PREEMPTION_FUNCTIONS;

use crate::kernel::{btf::Btf, preemption::Preemption, require};

/// In an older one a hook that is not preempted may not call functions of its own (`check_func_call` in
/// `kernel/bpf/verifier.c`).
const SINCE: (u32, u32) = (6, 15);
/// Since then the kernel may switch tasks in the middle of a hook on a tracepoint, too, before that keeps others from its CPU
/// (`__DO_TRACE` in `include/linux/tracepoint.h`).
const TRACEPOINTS_SINCE: (u32, u32) = (7, 0);

/// The functions' numbers, where the hooks can call them.
#[derive(Clone, Copy, Debug)]
pub struct Functions([u32; PREEMPTION_FUNCTIONS.len()]);

impl Functions {
    /// Their numbers in the running kernel's types; nothing where it hasn't all of them, or is too old.
    pub fn of(btf: &Btf) -> Option<Self> {
        (require::version(&require::release())? >= SINCE).then_some(())?;
        let mut ids = [0; PREEMPTION_FUNCTIONS.len()];
        for (id, name) in ids.iter_mut().zip(PREEMPTION_FUNCTIONS) {
            *id = btf.function(name)?;
        }
        Some(Self(ids))
    }

    /// Functions with these numbers.
    #[cfg(test)]
    pub(super) const fn numbered(ids: [u32; PREEMPTION_FUNCTIONS.len()]) -> Self {
        Self(ids)
    }

    /// Their numbers, in the order of [`PREEMPTION_FUNCTIONS`].
    pub(super) fn ids(self) -> [u32; PREEMPTION_FUNCTIONS.len()] {
        self.0
    }
}

/// Whether the kernel may leave out a hook on a tracepoint.
pub(super) fn leaves_tracepoints_out(preemption: Preemption) -> bool {
    switches_in_tracepoints() && preemption != Preemption::Off
}

/// Whether the kernel may switch tasks in a hook on a tracepoint. One that doesn't runs it as one that keeps others away.
pub(super) fn switches_in_tracepoints() -> bool {
    require::version(&require::release()).is_some_and(|version| version >= TRACEPOINTS_SINCE)
}
