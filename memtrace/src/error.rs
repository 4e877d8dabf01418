//! An error in one line.

use std::{
    io::{Write as _, stderr},
    os::fd::AsFd as _,
};

use anyhow::Error;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::output::Visible;

/// How aya's error about a program that the kernel didn't load goes on: with the verifier's log, which may have thousands of
/// lines. The kernel's error number comes after it.
const LOG: &str = "Verifier output:";
/// How the lines begin that follow the verifier's reason: its own counts.
const COUNTS: [&str; 3] = ["processed ", "verification time ", "stack depth "];

/// Milliseconds that stderr is waited for: who reads it may have stopped.
const PATIENCE: u8 = 250;

/// Says on stderr what went wrong. Where that can't be written, there is no one left to tell.
pub fn say(error: &Error) {
    let stderr = stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::from(PATIENCE)) != Ok(0) {
        let _ = writeln!(&stderr, "memtrace: {}", in_a_line(error));
    }
}

/// What went wrong, from the whole to its cause, in one line of which all is seen, whatever has been named in it.
pub fn in_a_line(error: &Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        let first = Visible(words.lines().next().unwrap_or_default()).to_string();
        // It says what its cause says again, if that is there.
        let log = words.split_once(LOG).filter(|_| cause.source().is_some());
        if let Some((_, log)) = log {
            parts.extend(reason(log).map(|reason| Visible(reason).to_string()));
        } else if parts.last() != Some(&first) {
            parts.push(first);
        }
    }
    parts.join(": ")
}

/// Why the verifier has refused a program, where its log (`--verbose`) tells: the last it says before its counts.
fn reason(log: &str) -> Option<&str> {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_count = |line: &&str| COUNTS.iter().any(|counts| line.starts_with(counts));
    lines.rfind(|line| !is_count(line))
}

#[cfg(test)]
mod tests {
    use std::{error, fmt, io};

    use anyhow::{Context as _, anyhow};

    use super::*;

    /// As `aya::programs::ProgramError::LoadError` is, which can't be made from outside.
    #[derive(Debug)]
    struct LoadError(io::Error, &'static str);

    impl fmt::Display for LoadError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self(error, log) = self;
            write!(f, "the syscall returned {error}. Verifier output: {log}")
        }
    }

    impl error::Error for LoadError {
        fn source(&self) -> Option<&(dyn error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn causes_follow_the_whole() {
        let error = Err::<(), _>(anyhow!("c\nd")).context("b").context("a");
        assert_eq!(in_a_line(&error.expect_err("an error")), "a: b: c");
    }

    #[test]
    fn a_name_in_it_can_not_act_on_the_terminal() {
        let error = anyhow!("\"\u{fe0f}\x1b[2J\" isn't");
        assert_eq!(in_a_line(&error), r#""\u{fe0f}\x1b[2J" isn't"#);
    }

    #[test]
    fn of_the_verifiers_log_there_is_the_reason_if_any() {
        let refused = |log| {
            let refused = LoadError(io::Error::from_raw_os_error(libc::EACCES), log);
            let error = Err::<(), _>(refused).context("the kernel refused the hook tick");
            in_a_line(&error.expect_err("an error"))
        };
        assert_eq!(
            refused("\n"),
            "the kernel refused the hook tick: Permission denied (os error 13)"
        );
        let log = "0: (b7) r0 = 0\nR1 invalid mem access\nprocessed 2 insns (limit 1000000)\n\n";
        assert_eq!(
            refused(log),
            "the kernel refused the hook tick: R1 invalid mem access: Permission denied (os error 13)"
        );
    }
}
