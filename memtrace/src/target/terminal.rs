//! The terminal that memtrace was started from.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
};

use nix::{libc, unistd::setsid};
use tokio::process::Command;

use super::Credentials;

/// Where the kernel says whether it lets a program push characters into its terminal (`tiocsti` in `drivers/tty/tty_io.c`).
const LEGACY: &str = "/proc/sys/dev/tty/legacy_tiocsti";

/// Whether a program may push characters into its terminal, as if they had been typed (TIOCSTI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiocsti {
    /// Only with `CAP_SYS_ADMIN`.
    Refused,
    /// Any program.
    Granted,
    /// The same, and there is no setting for it: Linux before 6.2.
    Always,
}

impl Tiocsti {
    /// Asks the kernel.
    pub fn detect() -> Self {
        match fs::read_to_string(LEGACY) {
            Ok(value) if value.trim() == "0" => Self::Refused,
            Ok(_) => Self::Granted,
            Err(_) => Self::Always,
        }
    }
}

/// Whether PROG, as that user, must be kept from the terminal that memtrace was started from: it could type there, and
/// what is typed there a shell of root's reads.
pub fn is_kept(credentials: &Credentials) -> bool {
    let has_terminal = || {
        let mut tty = OpenOptions::new();
        tty.read(true).custom_flags(libc::O_NOCTTY);
        tty.open("/dev/tty").is_ok()
    };
    credentials.are_a_strangers() && Tiocsti::detect() != Tiocsti::Refused && has_terminal()
}

/// Gives PROG a session of its own: it may still read and write the terminal, if that is among its open files, but not push
/// characters into it, nor get its signals.
pub fn keep_from(command: &mut Command) {
    // SAFETY: a plain system call.
    unsafe { command.pre_exec(|| setsid().map(drop).map_err(io::Error::from)) };
}
