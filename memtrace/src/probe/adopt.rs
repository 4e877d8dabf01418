//! Has the kernel side take running processes under trace: see the hook of the same name.

use anyhow::{Result, bail};
use aya::maps::{Array, MapData};
use memtrace_ebpf::layout::{
    ADOPT_MAGIC, ADOPT_SURVEY, ADOPT_THREADS, Adopted, PROBE_CALL, UNANSWERED,
};

/// The words of an [`Adopted`].
pub const WORDS: usize = size_of::<Adopted>() / 8;
/// Calls at most for one answer, as the kernel may leave the hook out.
const CALLS: u32 = 1000;

/// Takes processes under trace. The hook must be attached. Returns those of which a thread was there
/// that was not traced yet.
///
/// # Errors
/// The kernel refuses to show the answer.
pub fn adopt(map: &mut Array<&mut MapData, [u64; WORDS]>, pids: &[u32]) -> Result<Vec<u32>> {
    let unanswered = Adopted {
        leader: UNANSWERED,
        ..Adopted::default()
    };
    let mut ask = |pid: u32, what: u64| -> Result<Adopted> {
        for _ in 0..CALLS {
            map.set(0, bytemuck::cast::<_, [u64; WORDS]>(unanswered), 0)?;
            // SAFETY: getpid(2) has no arguments and no effect; the hook reads the registers.
            unsafe {
                libc::syscall(
                    PROBE_CALL as libc::c_long,
                    ADOPT_MAGIC,
                    u64::from(pid),
                    what,
                )
            };
            let answer: Adopted = bytemuck::cast(map.get(&0, 0)?);
            if answer.leader != UNANSWERED {
                return Ok(answer);
            }
        }
        bail!("the kernel leaves out the hook adopt_process")
    };
    let mut there = Vec::new();
    for &pid in pids {
        if there.contains(&pid) {
            continue;
        }
        // Whom an untraced thread makes meanwhile isn't traced: until nobody is new.
        let mut adopted = ask(pid, ADOPT_THREADS)?;
        if adopted.added > 0 {
            there.push(pid);
        }
        while adopted.added > 0 {
            adopted = ask(pid, ADOPT_THREADS)?;
        }
    }
    for &pid in &there {
        ask(pid, ADOPT_SURVEY)?;
    }
    Ok(there)
}
