//! What memtrace was started with and doesn't keep for itself: PROG gets it back.
//!
//! The rest (environment, folder, umask, other limits, open files, ...) passes through memtrace untouched.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

use nix::libc::{self, c_int, rlim_t};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;

/// The signals that memtrace treats otherwise than it was told: the Rust runtime ignores SIGPIPE, [`outlive_limits`]
/// SIGXFSZ, [`mod@super::spawn`] needs SIGCHLD, and memtrace listens for the rest.
const CHANGED: [c_int; 8] = [
    libc::SIGPIPE,
    libc::SIGXFSZ,
    libc::SIGCHLD,
    libc::SIGTSTP,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
];

const STANDARD: [RawFd; 3] = [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO];

/// The nice value that the scheduler prefers most.
const HURRIED: c_int = -20;

static AT_START: OnceLock<Inherited> = OnceLock::new();

/// The C library calls this before `main`. The Rust runtime starts in between; after it SIGPIPE is ignored and closed
/// standard streams are `/dev/null`.
#[used]
// SAFETY: the section is an array of pointers to functions of this form. The function needs nothing that the Rust
// runtime sets up: it makes system calls and fills a static.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn save() {
        Inherited::at_start();
    }
    save
};

/// What memtrace was started with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inherited {
    /// Which of [`CHANGED`] were ignored.
    pub(super) ignored: [bool; CHANGED.len()],
    /// Which signals were blocked.
    pub(super) blocked: Option<SigSet>,
    /// Which of the standard streams were closed.
    pub(super) closed: [bool; STANDARD.len()],
    /// The limits of locked memory, which aya raises for its maps before Linux 5.11.
    pub(super) locked: Option<(rlim_t, rlim_t)>,
    /// The nice value.
    pub(super) nice: c_int,
}

impl Inherited {
    /// As it was before memtrace changed anything.
    pub fn at_start() -> &'static Self {
        AT_START.get_or_init(|| Self {
            ignored: CHANGED.map(is_ignored),
            blocked: SigSet::thread_get_mask().ok(),
            closed: STANDARD.map(is_closed),
            locked: getrlimit(Resource::RLIMIT_MEMLOCK).ok(),
            nice: nice(),
        })
    }

    /// The same, but for SIGINT and SIGQUIT, which are listened for in any case: a script's background job is started to
    /// ignore them, and may be one that only they are to end.
    pub fn but_for_keyboard(&self) -> Self {
        let mut but = *self;
        for (ignored, number) in but.ignored.iter_mut().zip(CHANGED) {
            *ignored &= ![libc::SIGINT, libc::SIGQUIT].contains(&number);
        }
        but
    }

    /// Whether the signal was ignored. Only for signals that memtrace changes.
    pub(super) fn ignores(&self, signal: c_int) -> bool {
        CHANGED
            .iter()
            .zip(self.ignored)
            .any(|(&changed, ignored)| changed == signal && ignored)
    }

    /// Gives it back. To be called in the child, between fork and exec: async-signal-safe.
    pub(super) fn restore(&self) -> io::Result<()> {
        for (signal, ignored) in CHANGED.into_iter().zip(self.ignored) {
            set_ignored(signal, ignored)?;
        }
        for (fd, _) in STANDARD
            .into_iter()
            .zip(self.closed)
            .filter(|(_, closed)| *closed)
        {
            // SAFETY: nothing in the child uses the stream any more; it is `/dev/null`, opened by the Rust runtime.
            unsafe { libc::close(fd) };
        }
        if let Some((soft, hard)) = self.locked {
            setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
        }
        set_nice(self.nice)?;
        // Last: what waits may end it.
        if let Some(blocked) = &self.blocked {
            blocked.thread_set_mask()?;
        }
        Ok(())
    }
}

/// Has the scheduler prefer memtrace: beside many programs that compute it couldn't keep up with what they do. Where the
/// kernel refuses that it keeps its place.
pub fn hurry() {
    let _ = set_nice(HURRIED);
}

fn nice() -> c_int {
    // SAFETY: it only asks. The caller's own always has an answer.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets the calling thread's nice value, which threads and processes that it starts inherit.
fn set_nice(value: c_int) -> io::Result<()> {
    if nice() == value {
        return Ok(());
    }
    // SAFETY: it changes nothing but how the thread is scheduled.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a write to a file that may not be longer fail, in place of a signal that ends memtrace.
///
/// # Errors
/// The kernel refuses it.
pub fn outlive_limits() -> io::Result<()> {
    set_ignored(libc::SIGXFSZ, true)
}

/// Whether the signal is ignored.
pub(super) fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, and there is room for the old one; a zeroed one is valid.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Makes the signal ignored, or does the default thing about it.
pub(super) fn set_ignored(signal: c_int, ignored: bool) -> io::Result<()> {
    let action = if ignored {
        libc::SIG_IGN
    } else {
        libc::SIG_DFL
    };
    // SAFETY: no handler is installed; one that was there just isn't called any more.
    match unsafe { libc::signal(signal, action) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn is_closed(fd: RawFd) -> bool {
    // SAFETY: it only asks, and a number that isn't open is what it asks for.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == -1 }
}
