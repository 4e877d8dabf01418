//! Has the kernel side take running processes under trace: see the hook of the same name.

use anyhow::Result;
use aya::maps::{Array, MapData};
use memtrace_ebpf::layout::{ADOPT_MAGIC, ADOPT_SURVEY, ADOPT_THREADS, Adopted, PROBE_CALL};

/// The words of an [`Adopted`].
pub const WORDS: usize = size_of::<Adopted>() / 8;

/// Takes processes under trace. The hook must be attached. Returns those of which a thread was there
/// that was not traced yet.
///
/// # Errors
/// The kernel refuses to show the answer.
pub fn adopt(map: &Array<&mut MapData, [u64; WORDS]>, pids: &[u32]) -> Result<Vec<u32>> {
    let ask = |pid: u32, what: u64| -> Result<Adopted> {
        // SAFETY: getpid(2) has no arguments and no effect; the hook reads the registers.
        unsafe {
            libc::syscall(
                PROBE_CALL as libc::c_long,
                ADOPT_MAGIC,
                u64::from(pid),
                what,
            )
        };
        Ok(bytemuck::cast(map.get(&0, 0)?))
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
