//! Sets of signals, as the kernel has them: with the real-time ones, and those of the C library's own, which its functions
//! leave out of every set.

use std::{io, mem::MaybeUninit, ptr};

use nix::{
    libc::{self, c_int},
    sys::signal::SigSet,
};

/// A set of signals.
#[derive(Clone, Copy, Debug)]
pub struct Mask(u64);

impl Mask {
    /// Each there is.
    pub const ALL: Self = Self(u64::MAX);

    /// Blocks them for the calling thread.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn block(self) -> io::Result<()> {
        // SAFETY: it reads the set, which is as long as is said.
        let done = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_BLOCK,
                &raw const self.0,
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The same, as the C library has it.
    pub(super) fn to_set(self) -> SigSet {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the kernel's set is the first word of the library's longer one, and a zeroed one is valid.
        unsafe {
            set.as_mut_ptr().cast::<u64>().write(self.0);
            SigSet::from_sigset_t_unchecked(set.assume_init())
        }
    }
}

impl FromIterator<c_int> for Mask {
    fn from_iter<T: IntoIterator<Item = c_int>>(numbers: T) -> Self {
        Self(
            numbers
                .into_iter()
                .fold(0, |mask, number| mask | 1 << (number - 1)),
        )
    }
}
