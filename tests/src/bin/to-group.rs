//! Has its process group get a signal, which it blocks itself, and exits with 7: `to-group kill|file NUMBER`. Either it sends
//! it, or the kernel does, since its file is ready.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::exit;

use anyhow::{Result, bail};
use libc::c_int;
use nix::errno::Errno;
use nix::unistd::getpgrp;
use tests::subject::process;

/// Which signal tells that a file is ready (`include/uapi/asm-generic/fcntl.h`).
const F_SETSIG: c_int = 10;

const USAGE: &str = "usage: to-group kill|file NUMBER";

fn main() -> Result<()> {
    process::begin();
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [how, number] = &args[..] else {
        bail!("{USAGE}")
    };
    let number = number.parse()?;
    block_all()?;
    match how.as_str() {
        // SAFETY: a plain system call.
        "kill" => drop(Errno::result(unsafe { libc::kill(0, number) })?),
        "file" => be_told_by(number)?,
        _ => bail!("{USAGE}"),
    }
    exit(7)
}

/// Those of the C library's own, too, which its functions leave out.
fn block_all() -> Result<()> {
    let all = u64::MAX;
    // SAFETY: it reads the set, which is as long as is said.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const all,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    })?;
    Ok(())
}

/// Has a pipe become ready whose owner is the group.
fn be_told_by(number: c_int) -> Result<()> {
    let (reader, mut writer) = std::io::pipe()?;
    for (command, argument) in [
        (libc::F_SETOWN, -getpgrp().as_raw()),
        (F_SETSIG, number),
        (libc::F_SETFL, libc::O_ASYNC),
    ] {
        // SAFETY: plain system calls on a descriptor that is open.
        Errno::result(unsafe { libc::fcntl(reader.as_raw_fd(), command, argument) })?;
    }
    Ok(writer.write_all(b"x")?)
}
