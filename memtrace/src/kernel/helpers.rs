//! Which of the kernel's BPF helpers the hooks can use.

use std::path::Path;

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};

use super::{again::again, btf::RUNNING};

/// Whether the kernel's helpers give pointers to a task, and to its registers, whose type the verifier knows
/// (`bpf_get_current_task_btf`, 5.11, and `bpf_task_pt_regs`, 5.15). For that it needs the kernel's own type information.
pub fn are_typed() -> bool {
    Path::new(RUNNING).exists()
        && is_there(BpfHelper::BPF_FUNC_get_current_task_btf)
        && is_there(BpfHelper::BPF_FUNC_task_pt_regs)
}

/// Whether eBPF may read the kernel's memory. A kernel that is locked down for confidentiality forbids it.
pub fn read_memory() -> bool {
    is_there(BpfHelper::BPF_FUNC_probe_read_kernel)
}

fn is_there(helper: BpfHelper) -> bool {
    let supported = again(|| is_helper_supported(ProgramType::RawTracePoint, helper));
    matches!(supported, Ok(true))
}
