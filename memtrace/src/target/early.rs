//! The signals that ask memtrace to stop, for as long as nothing is traced.
//!
//! Until PROG is started one ends memtrace at once, whatever that is waiting for: nothing has begun. While PROG is being
//! started it is PROG's as well, as it would be if it had come a moment later. The kernel sees to that: a signal to the
//! group that comes during a fork is handled before it, or reaches both processes (`copy_process` in `kernel/fork.c`).
//! So what is kept here before the fork is in the child's memory, too.

use std::{
    io, ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use nix::libc::{self, c_int, c_void, siginfo_t};

use super::{
    inherit::Inherited,
    interrupt::{HEARD, ReceivedSignal, hold_fatal, is_for_memtrace, sender},
    status,
};

/// Whether PROG is being started: then signals are kept.
static STARTING: AtomicBool = AtomicBool::new(false);
/// Those of [`HEARD`] that have come since: nothing, or [`CAME`] and who sent it.
static KEPT: [AtomicU64; HEARD.len()] = [const { AtomicU64::new(0) }; _];
const CAME: u64 = 1 << 32;

/// From now on the signals end memtrace at once, but for those that it was started to ignore.
///
/// # Errors
/// The kernel refuses it.
pub fn end_at_signals(inherited: &Inherited) -> io::Result<()> {
    for (number, _) in HEARD {
        if inherited.ignores(number) {
            continue;
        }
        // SAFETY: a zeroed one is valid.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        action.sa_sigaction = heard as *const () as usize;
        // SAFETY: the handler ends the process or stores to a static, which is all that one may do.
        if unsafe { libc::sigaction(number, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn heard(number: c_int, info: *const siginfo_t, _: *const c_void) {
    let Some(at) = HEARD.iter().position(|(heard, _)| *heard == number) else {
        return;
    };
    if !STARTING.load(SeqCst) {
        // SAFETY: it ends the process, with nothing done on the way.
        unsafe { libc::_exit(status::by(number).into()) };
    }
    // SAFETY: the kernel gives a valid one to a handler that asked for it.
    let (code, from) = unsafe { ((*info).si_code, (*info).si_pid()) };
    let from = sender(code, from);
    // PROG may be quick, and be told of a file.
    if !is_for_memtrace(number, code, from) {
        return;
    }
    KEPT[at].store(CAME | u64::from(from.unwrap_or(0)), SeqCst);
}

/// From now on the signals are kept: PROG is about to be started. Those that are nothing but deadly wait until
/// [`super::Signals`] reads them.
///
/// # Errors
/// The kernel refuses it.
pub fn keep_signals() -> io::Result<()> {
    STARTING.store(true, SeqCst);
    hold_fatal()
}

/// Those that were kept in memtrace.
pub(super) fn kept() -> Vec<ReceivedSignal> {
    HEARD
        .into_iter()
        .zip(&KEPT)
        .filter_map(|((number, interrupt), kept)| {
            let came = kept.swap(0, SeqCst);
            (came != 0).then_some(ReceivedSignal {
                number,
                interrupt,
                from: Some(came as u32).filter(|&pid| pid != 0),
            })
        })
        .collect()
}

/// Sends those that were kept to this process, where nothing is kept any more: PROG before its exec. To be called in the child,
/// between fork and exec: async-signal-safe.
pub(super) fn pass_on() {
    for ((number, _), kept) in HEARD.into_iter().zip(&KEPT) {
        if kept.load(SeqCst) != 0 {
            // SAFETY: a plain system call.
            unsafe { libc::raise(number) };
        }
    }
}
