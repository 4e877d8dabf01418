//! An error in one line.

use anyhow::Error;

/// How aya's error about a program that the kernel didn't load goes on: with the verifier's log, which may have hundreds of lines.
/// The kernel's reason comes after it.
const LOG: &str = "Verifier output:";

/// What went wrong, from the whole to its cause, in one line.
pub fn in_a_line(error: &Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        let first = words.lines().next().unwrap_or_default();
        // It says what its cause says again, if that is there.
        let is_log = words.contains(LOG) && cause.source().is_some();
        if !is_log && parts.last().is_none_or(|last| last != first) {
            parts.push(first.to_owned());
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::{error, fmt, io};

    use anyhow::{Context as _, anyhow};

    use super::*;

    /// As `aya::programs::ProgramError::LoadError` is, which can't be made from outside.
    #[derive(Debug)]
    struct LoadError(io::Error);

    impl fmt::Display for LoadError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self(error) = self;
            write!(
                f,
                "the syscall returned {error}. Verifier output: 0: (b7)\n1: (95)"
            )
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
    fn the_verifiers_log_is_left_out() {
        let refused = LoadError(io::Error::from_raw_os_error(libc::EPERM));
        let error = Err::<(), _>(refused).context("the kernel refused the hook tick");
        assert_eq!(
            in_a_line(&error.expect_err("an error")),
            "the kernel refused the hook tick: Operation not permitted (os error 1)"
        );
    }
}
