//! The limit of locked memory, which older kernels charge eBPF to.

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::require::{release, version};

/// Kernels before this one charge what eBPF has loaded to that limit, of all of a user's processes together
/// (`__bpf_prog_charge` in `kernel/bpf/syscall.c`).
pub const CHARGES_CGROUP: (u32, u32) = (5, 11);

/// Lifts it where eBPF is charged to it. aya does so for its own calls alone. PROG gets back what it was.
pub fn lift_limit() {
    if version(&release()).is_some_and(|version| version < CHARGES_CGROUP) {
        // Where that is refused, so is what doesn't fit in.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
}
