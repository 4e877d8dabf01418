//! Calls that a hook of memtrace's own on `sys_enter` answers.

use std::{thread::sleep, time::Duration};

use anyhow::{Result, bail};
use memtrace_ebpf::control::PROBE_CALL;

/// Calls at most for one answer.
const CALLS: u32 = 10_000;
/// Between two of them. The kernel leaves a hook out while a task is in it that has lost this CPU: that needs it to get on.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes the call with these arguments until the hook of this name, which must be attached, has answered: until `answer` gives
/// one.
///
/// # Errors
/// The kernel leaves the hook out, or `answer` fails.
pub(super) fn ask<T>(
    hook: &str,
    arguments: [u64; 4],
    mut answer: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    for _ in 0..CALLS {
        let [a, b, c, d] = arguments;
        // SAFETY: getpid(2) has no arguments and no effect; the hook reads the registers.
        unsafe { libc::syscall(PROBE_CALL as libc::c_long, a, b, c, d) };
        if let Some(answer) = answer()? {
            return Ok(answer);
        }
        sleep(PAUSE);
    }
    bail!("the kernel leaves out the hook {hook}")
}
