//! How often the kernel left a hook out.
//!
//! It does so where it is still in the same hook on that CPU for another task (`__bpf_trace_run` in
//! `kernel/trace/bpf_trace.c`, `__bpf_prog_enter_recur` in `kernel/bpf/trampoline.c`): where it lets itself be preempted there.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::ProgramError};

use super::backend;

/// The kernel's counts, which go on for as long as this is there.
pub(super) struct Missed(Vec<Hook>);

struct Hook {
    name: String,
    program: OwnedFd,
    /// Its count when it was asked for last.
    before: u64,
}

impl Missed {
    /// The counts of all hooks that are loaded, from now on: what is traced comes later.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self> {
        let hooks = ebpf
            .programs()
            .filter_map(|(name, program)| {
                let program = match program.fd() {
                    Ok(program) => program.as_fd().try_clone_to_owned(),
                    Err(ProgramError::NotLoaded) => return None,
                    Err(error) => return Some(Err(error.into())),
                };
                let hook = |program| Hook {
                    name: shown(name).to_owned(),
                    program,
                    before: 0,
                };
                Some(program.map(hook).map_err(anyhow::Error::from))
            })
            .collect::<Result<_>>()
            .context("can't hold the hooks")?;
        let mut missed = Self(hooks);
        missed.newly()?;
        Ok(missed)
    }

    /// How often each has been left out since this was asked last, for any task. Those that weren't are not there.
    ///
    /// # Errors
    /// /proc doesn't show it.
    pub(super) fn newly(&mut self) -> Result<BTreeMap<String, u64>> {
        let mut newly = BTreeMap::new();
        for hook in &mut self.0 {
            let path = format!("/proc/self/fdinfo/{}", hook.program.as_raw_fd());
            let info = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
            let count = count(&info);
            if count > hook.before {
                *newly.entry(hook.name.clone()).or_default() += count - hook.before;
                hook.before = count;
            }
        }
        Ok(newly)
    }
}

/// The name of what it is a hook on.
fn shown(name: &str) -> &str {
    if backend::HOOKS.contains(&name) {
        backend::FUNCTION
    } else {
        name
    }
}

/// The count in what /proc tells of a program (`bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`). Before Linux 5.12 it has
/// none.
fn count(info: &str) -> u64 {
    info.lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_among_others() {
        let info = "pos:\t0\nflags:\t02000002\nprog_type:\t17\nrun_cnt:\t5\nrecursion_misses:\t141\nverified_insns:\t4170\n";
        assert_eq!(count(info), 141);
        assert_eq!(count("pos:\t0\nprog_type:\t17\n"), 0);
    }

    #[test]
    fn both_hooks_on_the_function_have_its_name() {
        for hook in backend::HOOKS {
            assert_eq!(shown(hook), "handle_mm_fault");
        }
        assert_eq!(shown("sys_exit"), "sys_exit");
    }
}
