//! Pages that the kernel holds for a device, as it were.

use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use super::memory::{PAGE, Pages};

/// Pins pages for as long as what comes back, or a copy of it in a child, is open: as a buffer of `io_uring`. Where this
/// kernel pins no memory of such a mapping, the error is an [`Errno::EOPNOTSUPP`].
pub fn pin(pages: &Pages, which: Range<usize>) -> Result<OwnedFd> {
    const REGISTER_BUFFERS: u32 = 0;
    let mut parameters = [0u32; 30];
    // SAFETY: `parameters` is as large as io_uring_params, in which zero says "as usual".
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    ensure!(
        ring >= 0,
        "io_uring_setup: {}; live tests need io_uring (sysctl kernel.io_uring_disabled=0)",
        Errno::last()
    );
    // SAFETY: a new file descriptor, which nobody else has.
    let ring = unsafe { OwnedFd::from_raw_fd(ring as i32) };
    let buffer = libc::iovec {
        iov_base: pages.page(which.start).as_ptr().cast(),
        iov_len: which.len() * PAGE,
    };
    let (fd, buffers) = (ring.as_raw_fd(), &raw const buffer);
    // SAFETY: one buffer, in memory that stays mapped.
    let done = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            fd,
            REGISTER_BUFFERS,
            buffers,
            1,
        )
    };
    Errno::result(done).context("io_uring_register")?;
    Ok(ring)
}
