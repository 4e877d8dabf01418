//! memtrace's own exit status, as `env`, `timeout` and the shells have it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::libc::{self, c_int};

/// memtrace did what it was asked to.
pub const DONE: u8 = 0;
/// memtrace itself failed.
pub const FAILED: u8 = 125;
/// PROG was found but can't be run.
pub const NOT_EXECUTABLE: u8 = 126;
/// PROG was not found.
pub const NOT_FOUND: u8 = 127;
/// What a shell adds a signal's number to.
const SIGNAL: u8 = 128;

/// A signal ended memtrace. SIGQUIT is as good as SIGINT, and SIGHUP as SIGTERM.
pub const fn by(signal: c_int) -> u8 {
    let like = match signal {
        libc::SIGQUIT => libc::SIGINT,
        libc::SIGHUP => libc::SIGTERM,
        other => other,
    };
    SIGNAL + like as u8
}

/// The exit status that tells how PROG ended: its own, or 128+N when signal N ended it.
pub fn of(prog: ExitStatus) -> u8 {
    match (prog.code(), prog.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => SIGNAL + signal as u8,
        (None, None) => unreachable!("wait reports ends only"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn of_script(script: &str) -> u8 {
        of(Command::new("sh")
            .args(["-c", script])
            .status()
            .expect("sh runs"))
    }

    #[test]
    fn a_code_is_passed_on() {
        for code in [0, 1, 7, 127, 255] {
            assert_eq!(of_script(&format!("exit {code}")), code);
        }
    }

    #[test]
    fn a_signal_is_added_to_128() {
        assert_eq!(of_script("ulimit -c 0; kill -SEGV $$"), 128 + 11);
        assert_eq!(of_script("kill -TERM $$"), 128 + 15);
        // The last real-time signal, and one with a core dump's bit set in the raw status.
        assert_eq!(of(ExitStatus::from_raw(64)), 128 + 64);
        assert_eq!(of(ExitStatus::from_raw(0x80 | 6)), 128 + 6);
    }
}
