//! Calls that the kernel gives up where a signal comes in between.

use std::{error::Error, io, iter::successors};

/// Tries at most: more than as many signals can spoil.
const TRIES: u32 = 1000;

/// Makes a call until no signal has come in between. One that is checked by the verifier ends with `EAGAIN` when the
/// thread has a signal to see to (`do_check` in `kernel/bpf/verifier.c`), if only to be stopped and continued.
///
/// # Errors
/// The kernel refuses it for another reason.
pub fn again<T, E: Error + 'static>(mut call: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 1..TRIES {
        match call() {
            Err(error) if is_interrupted(&error) => {}
            done => return done,
        }
    }
    call()
}

fn is_interrupted(error: &(dyn Error + 'static)) -> bool {
    successors(Some(error), |&error| error.source())
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .filter_map(io::Error::raw_os_error)
        .any(|errno| [libc::EAGAIN, libc::EINTR].contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_was_interrupted_is_made_again() {
        let mut answers = [libc::EAGAIN, libc::EINTR, libc::EPERM, 0].into_iter();
        let mut call = || match answers.next() {
            Some(0) | None => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        };
        let refused = again(&mut call).expect_err("it is refused");
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert!(again(&mut call).is_ok());
    }

    #[test]
    fn it_ends() {
        let mut calls = 0;
        let never = again(|| {
            calls += 1;
            Err::<(), _>(io::Error::from_raw_os_error(libc::EAGAIN))
        });
        assert!(never.is_err() && calls == TRIES);
    }
}
